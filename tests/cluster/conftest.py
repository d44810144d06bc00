"""Fixtures of the cluster's tests."""

from chaos_runs import chaos  # noqa: F401
