"""The picture that benchmarks show."""

import numpy as np
import pytest
import synthetic
from official_trees import WIDTH


@pytest.fixture(scope="module")
def picture() -> tuple[np.ndarray, np.ndarray]:
    return synthetic.caps(np.random.default_rng(0), WIDTH, 4)
