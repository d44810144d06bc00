"""Readers of files that others wrote: one per format."""
