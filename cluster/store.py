"""The store of ledger and lease: it is every stage's, so it lives in `pano.store`."""

from pano.store import Store

__all__ = ["Store"]
