"""The command line: parse, call, print. What it prints is made elsewhere."""

from .entry import main

__all__ = ["main"]
