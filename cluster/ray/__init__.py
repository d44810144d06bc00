"""Ray: sessions, tasks, packing and evaluation on it, metrics, jobs."""
