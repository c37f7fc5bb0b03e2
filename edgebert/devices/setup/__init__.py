"""Setup: installs edgebert on devices, and checks what is installed there."""
