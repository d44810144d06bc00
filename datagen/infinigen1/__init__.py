"""Infinigen 1.x, run by its own command: where it is installed, what it is asked, how it ends."""
