"""A diagnosis of this machine: its parts, the capabilities of edgefer on it, and whether an engine runs on it."""
