"""Measures of samples that no reward has guided: k-mers, likelihood, diversity, distance to a data set."""
