"""Scene sources: a generator or a file → things and regions, one file each."""
