"""Durable writes, stores (a folder or a bucket), staged panoramas, the record of a run."""
