"""Masked models of MDLM's line."""
