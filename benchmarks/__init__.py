"""How fast a pull is, beside the wire, a plain script and other loaders. See README.md."""
