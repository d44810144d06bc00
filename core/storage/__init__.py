"""Durable writes, stores (a folder or a bucket), staged panoramas, leases, the record of a run."""
