"""What this machine is, what edgefer can do on it, and whether an engine runs on it."""
