"""The command line. Data on stdout, narration on stderr, exit codes as promised."""

from alchemiser_duck.cli.app import main

__all__ = ["main"]
