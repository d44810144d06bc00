"""The `semantic` product from ids and their table."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from panoforge.core.categories.table import Categories


def semantic_map(labels: NDArray[np.uint16], categories: Mapping[int, str]) -> NDArray[np.uint16]:
    """Category ids of configs/categories.yaml, uint16 H×W.

    Args:
        labels: instance ids uint16 H×W.
        categories: the category of each instance id, by name.

    Returns:
        0 is for nothing, for ids without a name and for names that the file does not have.
    """
    known = Categories.load().by_name
    table = np.zeros(max(int(labels.max(initial=0)), *categories, 0) + 1, np.uint16)
    for id_, name in categories.items():
        table[id_] = known[name].id if name in known else 0
    return table[labels]
