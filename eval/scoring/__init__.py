"""From masks to scores: metrics, results, comparisons."""
