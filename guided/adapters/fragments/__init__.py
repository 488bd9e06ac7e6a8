"""Masked diffusion models of molecules as trees of fragments."""
