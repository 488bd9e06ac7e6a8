"""`python -m guided` is the command line."""

from guided.cli import main

main()
