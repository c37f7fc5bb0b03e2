"""From a bundle to devices that serve it: what travels, in which order, and what each device answered."""
