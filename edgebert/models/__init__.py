"""bert: what is done to the network itself, in torch: surgery, importance, search, repair, losses. Pure functions."""
