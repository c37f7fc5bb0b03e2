"""Agent: the part of edgebert that runs on a device. It fills two slots, tries bundles
and switches a link between the slots; no torch, no network."""
