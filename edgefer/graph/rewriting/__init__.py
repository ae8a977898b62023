"""Rewrite passes: the same function, spelt so that engines run it faster."""

from edgefer.graph.rewriting.passes import PASSES, Pass, Rewritten, check_names, rewrite

__all__ = ["PASSES", "Pass", "Rewritten", "check_names", "rewrite"]
