"""All tables, by the names of their blocks; measured in this order."""

__all__ = ["TABLES"]

from benchmarks.figures import frontier, fronts, images, loops, molecules, negatives, samplers, sequences

TABLES = {
    table.block: table
    for module in (molecules, loops, images, samplers, sequences, negatives, frontier, fronts)
    for table in module.TABLES
}
