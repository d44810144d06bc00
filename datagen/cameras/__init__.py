"""Where panoramas are taken."""
