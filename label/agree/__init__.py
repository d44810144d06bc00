"""Agreement: what overlapping views say, made one answer over the whole sphere."""
