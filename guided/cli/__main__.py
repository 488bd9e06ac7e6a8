"""`python -m guided.cli`."""

from guided.cli.main import main

main()
