"""The command line `guided`."""

__all__ = ["app", "main"]

from guided.cli.signals import quiet

with quiet():
    from guided.cli.main import app, main
