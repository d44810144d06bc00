"""The classes of other people's label sets, in their own order: what a column of our table names.

A set's classes are numbered from 0 here, `VOID` is what no class stands for. In the files of its
authors they are numbered from `first_id`, and 0 says nothing.

- `ade20k`: the 150 classes of SceneParse150, the first name of each. Source: objectInfo150.txt of
  github.com/CSAILVision/sceneparsing.
- `coco`: the 80 things of COCO in the order of its category ids, which have gaps: a class's
  number is no id of theirs. Source: instances_val2017.json of cocodataset.org.
- `nyu40`: the 40 classes of Gupta et al. (CVPR 2013) for NYUv2, spelt as there. Source:
  classMapping40.mat of people.eecs.berkeley.edu/~sgupta/cvpr13.
- `structured3d`: the same 40 at the same numbers, spelt as its authors spell them. Source:
  metadata/labelids.txt of github.com/bertjiazheng/Structured3D.
- `stanford13`: the 13 classes of Stanford 2D-3D-S. Source: Armeni et al., arXiv 1702.01105, and
  assets/semantic_labels.json of github.com/alexsax/2D-3D-Semantics, which gives them no numbers:
  the order is that of the paper's text. Class `<UNK>` is void.
- `panoforge`: our own categories.
"""

from dataclasses import dataclass
from functools import lru_cache

from panoforge.core.categories.table import Categories, Category
from panoforge.core.errors import UsageError

VOID = 255

_ADE20K = """wall, building, sky, floor, tree, ceiling, road, bed, windowpane, grass, cabinet,
sidewalk, person, earth, door, table, mountain, plant, curtain, chair, car, water, painting, sofa,
shelf, house, sea, mirror, rug, field, armchair, seat, fence, desk, rock, wardrobe, lamp, bathtub,
railing, cushion, base, box, column, signboard, chest of drawers, counter, sand, sink, skyscraper,
fireplace, refrigerator, grandstand, path, stairs, runway, case, pool table, pillow, screen door,
stairway, river, bridge, bookcase, blind, coffee table, toilet, flower, book, hill, bench,
countertop, stove, palm, kitchen island, computer, swivel chair, boat, bar, arcade machine, hovel,
bus, towel, light, truck, tower, chandelier, awning, streetlight, booth, television, airplane, dirt
track, apparel, pole, land, bannister, escalator, ottoman, bottle, buffet, poster, stage, van, ship,
fountain, conveyer belt, canopy, washer, plaything, swimming pool, stool, barrel, basket, waterfall,
tent, bag, minibike, cradle, oven, ball, food, step, tank, trade name, microwave, pot, animal,
bicycle, lake, dishwasher, screen, blanket, sculpture, hood, sconce, vase, traffic light, tray,
ashcan, fan, pier, crt screen, plate, monitor, bulletin board, shower, radiator, glass, clock,
flag"""
_COCO = """person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire
hydrant, stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra,
giraffe, backpack, umbrella, handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite,
baseball bat, baseball glove, skateboard, surfboard, tennis racket, bottle, wine glass, cup, fork,
knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake,
chair, couch, potted plant, bed, dining table, toilet, tv, laptop, mouse, remote, keyboard, cell
phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase, scissors, teddy bear, hair
drier, toothbrush"""
_NYU40 = """wall, floor, cabinet, bed, chair, sofa, table, door, window, bookshelf, picture,
counter, blinds, desk, shelves, curtain, dresser, pillow, mirror, floor mat, clothes, ceiling,
books, refridgerator, television, paper, towel, shower curtain, box, whiteboard, person, night
stand, toilet, sink, lamp, bathtub, bag, otherstructure, otherfurniture, otherprop"""
_STANFORD13 = """ceiling, floor, wall, beam, column, window, door, table, chair, sofa, bookcase,
board, clutter"""
_STRUCTURED3D_SPELLING = {"refridgerator": "refrigerator", "night stand": "nightstand"}


@dataclass(frozen=True)
class ClassSet:
    """One label set.

    `classes` are in order, class k being number k here and `first_id + k` in its authors' files.
    `column` is the column of configs/categories.yaml that names them, None for our own.
    `void_name` is what its authors call pixels of no class.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    column: str | None
    first_id: int = 1
    void_name: str = "void"

    def __len__(self) -> int:
        return len(self.classes)

    def of(self, category: Category) -> int | None:
        """The number of the class that one of our categories is nearest to; None without one."""
        if self.column is None:
            return category.id - 1 if category.id else None
        named = getattr(category, self.column)
        return None if named is None else _named_by(self.column).index(named)


def _split(text: str) -> tuple[str, ...]:
    """Names that commas separate, over lines."""
    return tuple(" ".join(text.split()).split(", "))


def _named_by(column: str) -> tuple[str, ...]:
    """The classes that a column of our table names, in order."""
    return _sets()[column].classes


@lru_cache(maxsize=1)
def _sets() -> dict[str, ClassSet]:
    """Every label set by its name."""
    nyu40 = _split(_NYU40)
    sets = (
        ClassSet("ade20k", "ADE20K's SceneParse150", _split(_ADE20K), "ade20k"),
        ClassSet("coco", "COCO's 80 things", _split(_COCO), "coco"),
        ClassSet("nyu40", "NYUv2's 40 classes", nyu40, "nyu40", void_name="unlabeled"),
        ClassSet(
            "structured3d",
            "Structured3D's 40 classes",
            tuple(_STRUCTURED3D_SPELLING.get(name, name) for name in nyu40),
            "nyu40",
            void_name="unlabeled",
        ),
        ClassSet(
            "stanford13",
            "Stanford 2D-3D-S' 13 classes",
            _split(_STANFORD13),
            "stanford13",
            void_name="<UNK>",
        ),
        ClassSet("panoforge", "our categories", tuple(Categories.load().by_name), None),
    )
    return {found.name: found for found in sets}


CLASS_SETS = ("ade20k", "coco", "nyu40", "structured3d", "stanford13", "panoforge")


def class_set(name: str) -> ClassSet:
    """The label set called `name`. UsageError, with those that there are, for another name."""
    if name not in CLASS_SETS:
        raise UsageError(f"there is no class set {name!r}: known are {', '.join(CLASS_SETS)}")
    return _sets()[name]
