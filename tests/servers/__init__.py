"""Servers that nobody here wrote, started as child processes on loopback: Datasette and Django REST framework."""
