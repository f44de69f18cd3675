"""`python -m syncer` is `syncer`."""

from .cli import main

main()
