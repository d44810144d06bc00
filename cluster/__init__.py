"""Ray: which scene runs where, what its end means, and how a run stands."""
