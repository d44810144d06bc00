"""Votes by pixel: which of many keys (instances, classes) most of the weight is for.

A panorama of 2048×1024 has two million pixels and may have hundreds of keys, but a pixel sees few
of them. So each has `SLOTS` places for keys, with the weight of each; where more are named, the
lightest gives way. Memory does not depend on the number of views or keys.
"""

import numpy as np
from jaxtyping import Float32, Int32, Int64
from numpy.typing import NDArray

SLOTS = 5
NOBODY = -1


class Votes:
    """The keys that each of some pixels was given, and how much for each."""

    def __init__(self, pixels: int, slots: int = SLOTS) -> None:
        self.keys = np.full((slots, pixels), NOBODY, np.int32)
        self.weights = np.zeros((slots, pixels), np.float32)
        self.given = np.zeros(pixels, np.float32)

    def add(
        self,
        pixels: Int64[np.ndarray, " voters"],
        keys: Int32[np.ndarray, " voters"],
        weights: Float32[np.ndarray, " voters"],
    ) -> None:
        """Count a vote for a key, 0 or more, at each of some pixels, none twice."""
        self.given[pixels] += weights
        left = np.arange(len(pixels))
        for slot in range(len(self.keys)):
            at = pixels[left]
            held = self.keys[slot, at]
            fits = (held == keys[left]) | (held == NOBODY)
            mine = left[fits]
            self.keys[slot, pixels[mine]] = keys[mine]
            self.weights[slot, pixels[mine]] += weights[mine]
            left = left[~fits]
            if not left.size:
                return
        lightest = self.weights[:, pixels[left]].argmin(axis=0)
        heavier = self.weights[lightest, pixels[left]] < weights[left]
        mine, slots = left[heavier], lightest[heavier]
        self.keys[slots, pixels[mine]] = keys[mine]
        self.weights[slots, pixels[mine]] = weights[mine]

    def winners(
        self, but: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The key of most weight at each pixel (P,), `NOBODY` without any, and its weight (P,).

        Args:
            but: bool (keys,): those that cannot win.
        """
        weights = self.weights
        if but is not None and but.any():
            weights = np.where((self.keys >= 0) & but[self.keys], -1, weights)
        best = weights.argmax(axis=0)[None]
        weight = np.take_along_axis(weights, best, 0)[0]
        keys = np.take_along_axis(self.keys, best, 0)[0]
        return np.where(weight > 0, keys, NOBODY), np.maximum(weight, 0)
