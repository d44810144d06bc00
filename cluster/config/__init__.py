"""Configs of the verbs that start work: jobs, Ray, limits and prices, packing, submission."""
