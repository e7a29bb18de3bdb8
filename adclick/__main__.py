"""`python -m adclick`: the command line, where its script is not on the path."""

from adclick.pipeline.cli.app import script

script()
