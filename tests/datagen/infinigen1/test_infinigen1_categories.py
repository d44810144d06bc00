"""Every generator of the installed Infinigen 1 has a category, and every category the nearest class
of the label sets that others use.
"""

import ast
from pathlib import Path

import pytest

from panoforge.datagen.infinigen1.asset_names import asset_name
from panoforge.datagen.scene.categories import Categories

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
NYU40 = """wall, floor, cabinet, bed, chair, sofa, table, door, window, bookshelf, picture, counter,
blinds, desk, shelves, curtain, dresser, pillow, mirror, floor mat, clothes, ceiling, books,
refridgerator, television, paper, towel, shower curtain, box, whiteboard, person, night stand,
toilet, sink, lamp, bathtub, bag, otherstructure, otherfurniture, otherprop"""
COCO = """person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire
hydrant, stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra,
giraffe, backpack, umbrella, handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite,
baseball bat, baseball glove, skateboard, surfboard, tennis racket, bottle, wine glass, cup, fork,
knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake,
chair, couch, potted plant, bed, dining table, toilet, tv, laptop, mouse, remote, keyboard, cell
phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase, scissors, teddy bear, hair
drier, toothbrush"""
# Of the 150 of SceneParse150, those that the table names.
ADE20K = """wall, sky, floor, tree, ceiling, bed, windowpane, grass, cabinet, earth, door, table,
plant, curtain, chair, water, painting, sofa, shelf, mirror, rug, desk, rock, lamp, bathtub,
cushion, column, sink, stairs, toilet, book, countertop, light, television receiver, apparel,
stool, basket, food, tank, pot, animal, blanket, sculpture, vase, plate, glass,
bench, person"""


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


def test_columns_name_classes_that_exist():
    for category in Categories.load().by_name.values():
        for known, name in (
            (NYU40, category.nyu40),
            (COCO, category.coco),
            (ADE20K, category.ade20k),
        ):
            assert name is None or name in " ".join(known.split()).split(", "), (category, name)
    sofa = Categories.load().by_name["sofa"]
    assert (sofa.ade20k, sofa.coco, sofa.nyu40) == ("sofa", "couch", "sofa")
