"""Masked diffusion models of DNA and RNA with a label."""
