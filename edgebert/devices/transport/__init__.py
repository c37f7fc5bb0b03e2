"""How a device is named and reached: a local folder or an SSH server."""
