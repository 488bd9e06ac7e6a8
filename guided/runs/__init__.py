"""Runs: from names to objects, the loop over batches, and the run folder."""
