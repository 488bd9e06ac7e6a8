"""Graphs of molecules by GDSS."""
