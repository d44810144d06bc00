"""What an object of somebody else's file is, by its name.

`Wall_N` is a wall, `Cube.003` is anything. Pure.

Generators name objects after what they made. People write words, sides and numbers, or leave what
Blender proposed. The words of a name without its decorations are looked up as a whole, then its
head alone. Of an English noun that is the last word: a floor lamp is a lamp, a wall clock no wall.
What Blender proposes says nothing: a `Plane` is a floor as often as a picture.
"""

import re

from panoforge.core.categories.table import Categories, Category

# Blender's own proposals for new objects, and data that stands for any.
_PROPOSED = """
cube plane circle sphere uv_sphere icosphere ico_sphere cylinder cone torus grid monkey suzanne mesh
curve bezier_curve bezier_circle nurbs_path nurbs_curve nurbs_circle nurbs_surface text font_object
mball metaball empty lattice point_cloud hair curves volume object surface surf_sphere surf_torus
surf_cylinder surf_patch
"""
_SIDES = """
n s e w ne nw se sw north south east west left right front back top bottom upper lower inner outer
side corner main big small large old new high low mid hi lo
"""
_DECORATIONS = "geo geometry mesh msh obj object grp group sm lod col shape model"
PROPOSED = frozenset(_PROPOSED.split())
SIDES_AND_DECORATIONS = frozenset(_SIDES.split()) | frozenset(_DECORATIONS.split())
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_LETTERS = re.compile(r"[^\W\d_]+")


def all_words(name: str) -> list[str]:
    """Every word of a name, in lower case."""
    return [word.lower() for word in _LETTERS.findall(_CAMEL.sub(" ", name))]


def words_of(name: str) -> list[str]:
    """The words of a name in lower case, without sides, numbers and decorations.

    `SM_WallLeft_02` → `wall`. A name of nothing else keeps them.
    """
    words = all_words(name)
    telling = [word for word in words if word not in SIDES_AND_DECORATIONS and len(word) > 1]
    return telling or words


def category_of_foreign(name: str) -> Category:
    """The category that a name in somebody's file stands for.

    `unknown:<its words>`, with id 0, where none does.
    """
    words = words_of(name)
    whole = "_".join(words)
    everything = "_".join(all_words(name))
    if everything in PROPOSED or whole in PROPOSED:
        return Category(f"unknown:{everything}", 0)
    categories = Categories.load()
    for candidate in (whole, words[-1] if words else ""):
        for form in (candidate, candidate.removesuffix("s"), candidate.removesuffix("es")):
            if form in PROPOSED:
                break
            if form in categories.by_object:
                return categories.by_name[categories.by_object[form]]
            if form in categories.by_name:
                return categories.by_name[form]
    return Category(f"unknown:{whole or name.lower()}", 0)
