"""Installing edgebert on a device, and checking what is installed there."""
