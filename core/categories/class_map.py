"""From our categories to the classes of a label set, pixel by pixel.

A category that has no class there, and what is no category at all, becomes void. How much that was
is counted (`ClassMap.void`) and said (`said`): a score over half the pixels is another score.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from panoforge.core.categories.class_sets import VOID, ClassSet, class_set
from panoforge.core.categories.table import Categories
from panoforge.core.errors import DataError
from panoforge.core.numbers import counted, percent

NOTHING = "nothing or unknown"  # id 0 of a semantic product


@dataclass(frozen=True)
class ClassMap:
    """What each category is called in a label set.

    `lookup` uint8 (1 + categories,): a category's id → its class, `VOID` where it has none.
    """

    classes: ClassSet
    lookup: NDArray[np.uint8]
    categories: tuple[str, ...]

    @property
    def without_class(self) -> tuple[str, ...]:
        """The categories that become void."""
        return tuple(
            name
            for name, found in zip(self.categories, self.lookup[1:].tolist(), strict=True)
            if found == VOID
        )

    def apply(self, semantic: NDArray[np.uint16]) -> NDArray[np.uint8]:
        """The classes uint8 H×W of a `semantic` product uint16 H×W.

        DataError for an id that configs/categories.yaml does not have.
        """
        most = int(semantic.max()) if semantic.size else 0
        if most >= len(self.lookup):
            raise DataError(
                f"semantic: has category id {most}, and configs/categories.yaml ends at"
                f" {len(self.lookup) - 1}: it was rendered by a newer panoforge, or is no semantic"
                " product"
            )
        return self.lookup[semantic]

    def void(self, semantic: NDArray[np.uint16]) -> dict[str, int]:
        """How many pixels of a `semantic` product become void, by category."""
        found = np.bincount(semantic.ravel(), minlength=len(self.lookup))[: len(self.lookup)]
        names = (NOTHING, *self.categories)
        return {
            name: int(number)
            for name, number, to in zip(names, found, self.lookup, strict=True)
            if to == VOID and number
        }


def class_map(name: str) -> ClassMap:
    """The map from our categories to the label set called `name`. UsageError for another name."""
    classes, categories = class_set(name), Categories.load().by_name
    lookup = np.full(1 + len(categories), VOID, np.uint8)
    for category in categories.values():
        found = classes.of(category)
        if found is not None:
            lookup[category.id] = found
    lookup.setflags(write=False)
    return ClassMap(classes, lookup, tuple(categories))


def category_of_class(classes: ClassSet) -> tuple[str, ...]:
    """Our category for each class of a label set, by its number.

    The first of configs/categories.yaml that the class is named for; `unknown:<class>` where none
    is.
    """
    found: dict[int, str] = {}
    for category in Categories.load().by_name.values():
        number = classes.of(category)
        if number is not None:
            found.setdefault(number, category.name)
    return tuple(found.get(k, f"unknown:{name}") for k, name in enumerate(classes.classes))


def said(void: Mapping[str, int], pixels: int, classes: ClassSet) -> str:
    """One line on what became void: `12.0 % of pixels have no class in …: terrain 10.0 %, …`.

    Args:
        void: pixels by category, as `ClassMap.void` gives them, summed over panoramas.
        pixels: how many pixels there were.
        classes: what they were mapped to.
    """
    whole = sum(void.values())
    if not whole:
        return f"every pixel has a class in {classes.title}"
    ranked = sorted(void.items(), key=lambda entry: (-entry[1], entry[0]))
    parts = ", ".join(f"{name} {percent(number / pixels)}" for name, number in ranked[:5])
    more = f" and {counted(len(ranked) - 5, 'other')}" if len(ranked) > 5 else ""
    return f"{percent(whole / pixels)} of pixels have no class in {classes.title}: {parts}{more}"
