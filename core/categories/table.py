"""Our categories: the map from generator and object names to them, in configs/categories.yaml.

Infinigen names an object after the generator that made it (`plant_pot_large_rand.003`) or after its
role in the room (`dining_chair_02`). The number is dropped, what remains is looked up, and a name
that nothing lists becomes `unknown:<name>`: visible in every report instead of lost in a catch-all.
Category ids are the order in the file, from 1.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import yaml

CATEGORIES_FILE = Path(__file__).parents[2] / "configs" / "categories.yaml"
COLUMNS = ("ade20k", "coco", "nyu40", "stanford13")
_NUMBERING = re.compile(r"([._]\d+)+$")
_VARIANT = re.compile(r"_rand(_effect_\w+)?$")


@dataclass(frozen=True)
class Category:
    """What a category is, and what others call it.

    `flags`: `structure` for the shell of a room or the ground, `transparent` for what one looks
    through. `ade20k`, `coco`, `nyu40` and `stanford13` name the nearest class of those label sets
    (`panoforge.core.categories.class_sets`); None where they have none.
    """

    name: str
    id: int
    flags: tuple[str, ...] = ()
    ade20k: str | None = None
    coco: str | None = None
    nyu40: str | None = None
    stanford13: str | None = None


@dataclass(frozen=True)
class Categories:
    """All categories, and the base name of every known object."""

    by_name: dict[str, Category]
    by_object: dict[str, str]

    @staticmethod
    @lru_cache(maxsize=1)
    def load() -> "Categories":
        """Read configs/categories.yaml.

        A name listed under two categories is a mistake in that file.
        """
        return parse_categories(yaml.safe_load(CATEGORIES_FILE.read_text()))

    def of(self, object_name: str) -> Category:
        """The category of an object, `unknown:<base name>` with id 0 when nothing lists it."""
        base = base_name(object_name)
        if base in self.by_object:
            return self.by_name[self.by_object[base]]
        return Category(f"unknown:{base}", 0)


def base_name(object_name: str) -> str:
    """`cup_rand.005` → `cup`.

    `dining_chair_02` → `dining_chair`; `cube_rand_effect_bevel.004` → `cube`;
    `_table_coffee_legged_rand` (a private generator) → `table_coffee_legged`.
    """
    return _VARIANT.sub("", _NUMBERING.sub("", object_name)).lstrip("_")


def parse_categories(document: dict[str, dict]) -> Categories:
    """`{category: {objects: [names], flags: [...], coco: …}}` → Categories.

    ValueError for a name listed twice.
    """
    by_name: dict[str, Category] = {}
    by_object: dict[str, str] = {}
    for number, (name, entry) in enumerate(document.items(), start=1):
        columns = {key: entry.get(key) for key in COLUMNS}
        by_name[name] = Category(name, number, tuple(entry.get("flags", ())), **columns)
        for base in entry["objects"]:
            if base in by_object:
                raise ValueError(
                    f"categories: {base!r} is listed under {by_object[base]!r} and {name!r}"
                )
            by_object[base] = name
    return Categories(by_name, by_object)
