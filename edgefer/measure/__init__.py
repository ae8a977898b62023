"""Latency, accuracy and paired statistics: measurements with their doubt; what the machine did meanwhile."""
