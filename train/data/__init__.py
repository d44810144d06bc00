"""Clips from shards and other people's datasets: what is drawn, warped, prompted and dealt out to
ranks.
"""
