"""``python -m edgefer``."""

from edgefer.cli import main

main()
