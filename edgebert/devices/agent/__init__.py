"""The device side of shipping: two slots, one link, and the agent that fills, tries and switches them. No torch, no network."""
