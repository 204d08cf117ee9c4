"""Reproduce the paper: the manifest of its figures, and the command line that carries it out."""
