"""Our categories as the classes of other label sets: one table, every category walked."""

import hashlib

import numpy as np
import pytest
import yaml

from panoforge.core.categories.class_map import NOTHING, class_map, said
from panoforge.core.categories.class_sets import CLASS_SETS, VOID, class_set
from panoforge.core.categories.semantic import semantic_map
from panoforge.core.categories.table import CATEGORIES_FILE, COLUMNS, Categories
from panoforge.core.errors import DataError, UsageError

# SHA-256 of the names in the authors' own files, one a line: objectInfo150.txt (the first name of
# each row) and labelids.txt.
OFFICIAL = {
    "ade20k": "ffd47f2fcbad6c484a3e320702ff1278dae14e78d443d81987142210b70c5032",
    "structured3d": "5b04217e8ef27d93824bca89dd894e24ea5ef73a82fa5b38b945a8a6b537181e",
}
SIZES = {"ade20k": 150, "coco": 80, "nyu40": 40, "structured3d": 40, "stanford13": 13}


def test_sets_are_those_of_their_authors():
    for name, size in SIZES.items():
        found = class_set(name)
        assert len(found) == len(set(found.classes)) == size, name
    for name, digest in OFFICIAL.items():
        names = "\n".join(class_set(name).classes)
        assert hashlib.sha256(names.encode()).hexdigest() == digest, name
    assert max(len(class_set(name)) for name in CLASS_SETS) < VOID
    with pytest.raises(UsageError, match=r"no class set 'nyu'.*nyu40"):
        class_set("nyu")


def test_every_category_of_every_column_names_a_class_or_null():
    document = yaml.safe_load(CATEGORIES_FILE.read_text())
    for name, entry in document.items():
        for column in COLUMNS:
            assert column in entry, f"{name} says nothing of {column}: a class, or null"
            assert entry[column] is None or entry[column] in class_set(column).classes, (
                name,
                column,
                entry[column],
            )


@pytest.mark.parametrize("name", CLASS_SETS)
def test_a_semantic_map_of_every_category_becomes_the_classes_of_the_table(name):
    document = yaml.safe_load(CATEGORIES_FILE.read_text())
    ids = np.arange(1 + len(document), dtype=np.uint16)[None]
    found, classes = class_map(name), class_set(name)
    mapped = found.apply(ids)[0]
    assert mapped.dtype == np.uint8 and mapped[0] == VOID
    for id_, (category, entry) in enumerate(document.items(), start=1):
        wanted = category if classes.column is None else entry[classes.column]
        if wanted is None:
            assert mapped[id_] == VOID and category in found.without_class, category
        else:
            spelt = {"refridgerator": "refrigerator", "night stand": "nightstand"}
            wanted = spelt.get(wanted, wanted) if name == "structured3d" else wanted
            assert classes.classes[mapped[id_]] == wanted, category
    assert found.void(ids) == {NOTHING: 1} | dict.fromkeys(found.without_class, 1)


def test_structured3d_has_the_classes_of_nyu40_at_the_same_numbers():
    differ = [
        names
        for names in zip(class_set("nyu40").classes, class_set("structured3d").classes, strict=True)
        if names[0] != names[1]
    ]
    assert differ == [("refridgerator", "refrigerator"), ("night stand", "nightstand")]
    assert np.array_equal(class_map("nyu40").lookup, class_map("structured3d").lookup)


def test_what_has_no_class_is_counted_and_said():
    sofa, rock = (Categories.load().by_name[name].id for name in ("sofa", "rock"))
    semantic = np.array([[0, sofa, sofa, rock], [sofa, sofa, rock, rock]], np.uint16)
    found = class_map("nyu40")
    void = found.void(semantic)
    assert void == {NOTHING: 1, "rock": 3}
    assert said(void, 8, found.classes) == (
        "50.0 % of pixels have no class in NYUv2's 40 classes: rock 37.5 %, nothing or unknown"
        " 12.5 %"
    )
    assert said({}, 8, found.classes) == "every pixel has a class in NYUv2's 40 classes"


def test_ids_beyond_the_table_are_refused():
    beyond = np.array([[1, len(Categories.load().by_name) + 1]], np.uint16)
    with pytest.raises(DataError, match=r"category id \d+, and configs/categories.yaml ends at"):
        class_map("ade20k").apply(beyond)


def test_a_semantic_map_is_made_of_ids_and_their_categories():
    ids = Categories.load().by_name
    labels = np.array([[0, 1, 2, 3, 4]], np.uint16)
    found = semantic_map(labels, {1: "sofa", 2: "unknown:ship", 3: "lamp"})
    assert found.dtype == np.uint16
    assert found.tolist() == [[0, ids["sofa"].id, 0, ids["lamp"].id, 0]]
    assert semantic_map(labels * 0, {}).tolist() == [[0] * 5]
