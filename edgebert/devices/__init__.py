"""Devices: how a device is named, reached, set up and shipped to. This room alone opens connections to devices."""
