"""Transport: how a device is named and reached, as a folder of this machine or by SSH."""
