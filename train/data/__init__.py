"""Clips from shards and other people's datasets.

What is drawn, warped, prompted and dealt out to ranks.
"""
