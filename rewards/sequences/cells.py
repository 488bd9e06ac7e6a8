"""The cell types whose DNA the shipped model and its oracles know."""

__all__ = ["CELLS"]

#: In the order of an oracle's outputs.
CELLS = ("GM12878", "hESC", "HepG2", "K562")
