"""Where artifacts go: how a device is named, reached and set up. The only room that opens a connection to one."""
