"""Masked diffusion models of molecules as pieces of SELFIES."""
