"""Runs: from names to objects, the loop over batches, and the folder that outlives a kill."""
