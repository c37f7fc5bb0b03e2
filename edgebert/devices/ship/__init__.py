"""From a bundle to the devices that serve it: what travels, what happens on each device, and many of them at once."""
