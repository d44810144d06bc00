"""Every generator of the installed Infinigen 1 has a category."""

import ast
from pathlib import Path

import pytest

from panoforge.core.categories.table import Categories
from panoforge.datagen.infinigen1.asset_names import asset_name

# Classes that others are made from, and the contour of a floor plan: nothing of their names is
# ever in a scene.
ABSTRACT = {
    "AssetFactory",
    "ContourFactory",
    "GeonodePartFactory",
    "PartFactory",
    "StaticAssetFactory",
    "StaticCategoryFactory",
}


def factories(folder: Path) -> set[str]:
    """The names of all classes that generate something, made by `class` or by assignment."""
    found = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                found.add(node.name)
            elif isinstance(node, ast.Assign):
                found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return {name for name in found if name.endswith("Factory") and not name.startswith("_")}


@pytest.mark.timeout(1500)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of its own sources
def test_every_generator_of_infinigen_1_has_a_category(infinigen1):
    names = factories(infinigen1.folder / "infinigen") - ABSTRACT
    assert len(names) > 280
    categories = Categories.load()
    of = {name: categories.of(asset_name(f"{name}(7).spawn_asset(1)")).name for name in names}
    assert sorted(name for name, category in of.items() if category.startswith("unknown:")) == []
    assert of["SofaFactory"] == of["StaticSofaFactory"] == "sofa"
    assert of["AquariumTankFactory"] == "aquarium" and of["PantsFactory"] == "clothes"


@pytest.mark.parametrize(
    ("name", "category"),
    [
        ("living-room_0/0.wall", "wall"),
        ("pillar.003", "column"),
        ("scatter:BushFactory(3).spawn_asset(1)", "plant"),
        ("scatter:rocks", "rock"),
        ("OpaqueTerrain_fine", "terrain"),  # as the real fine task names its meshes
        ("OpaqueTerrain.outofview_near", "terrain"),
        ("liquid_fine", "water"),
        ("chopped_tree(5, 0, 1).002", "tree"),
        ("skirtingboard_support.001", "skirting"),
        ("scatter:pebbles.001", "rock"),
        ("SimpleDeskFactory(3).bbox_placeholder(1)", "desk"),
    ],
)
def test_names_of_infinigen_1_become_categories(name, category):
    assert Categories.load().of(asset_name(name)).name == category
