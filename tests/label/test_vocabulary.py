"""The vocabulary: every class of COCO, ADE20K and Cityscapes has one meaning, by three rules."""

from pathlib import Path

import pytest
import yaml

from panoforge.core.categories.class_sets import class_set
from panoforge.core.categories.table import Categories
from panoforge.core.errors import ConfigError
from panoforge.label.vocabulary import (
    VOCABULARY_FILE,
    load_vocabulary,
    parse_vocabulary,
    spelling,
)

OURS = load_vocabulary()
DOCUMENT = yaml.safe_load(VOCABULARY_FILE.read_text())
CITYSCAPES = """road, sidewalk, building, wall, fence, pole, traffic light, traffic sign,
vegetation, terrain, sky, person, rider, car, truck, bus, train, motorcycle, bicycle"""
LEFT_OUT = {"ade20k": {"base"}}  # what it is the base of, it does not say


def words(key: str) -> list[str]:
    return [word for entry in DOCUMENT.values() for word in entry.get(key, [])]


@pytest.mark.parametrize(("key", "count"), [("coco", 133), ("ade20k", 149), ("cityscapes", 19)])
def test_every_class_of_a_set_is_there_once(key: str, count: int) -> None:
    found = words(key)
    assert len(found) == len(set(found)) == count
    if key != "cityscapes":
        assert set(class_set(key).classes) - set(found) == LEFT_OUT.get(key, set())
    else:
        assert set(found) == set(" ".join(CITYSCAPES.split()).split(", "))
    assert all(OURS.find(word) is not None for word in found)


def test_the_three_rules() -> None:
    """Merged where they mean one thing; kept where one set alone has it; joined where rare."""
    for word in ("building-other-merged", "building", "skyscraper"):
        assert OURS.find(word).name == "building"
    for word in ("tree-merged", "vegetation", "palm"):
        assert OURS.find(word).name == "tree"
    assert OURS.find("fountain").name == "fountain"
    assert OURS.find("rider").name == OURS.find("person").name == "person"
    assert OURS.find("base") is None


def test_every_class_is_a_category_of_ours_with_an_id() -> None:
    known = Categories.load().by_name
    assert set(OURS.classes) == set(known)
    for name, found in OURS.classes.items():
        assert known[name].id == found.category_id > 0
    assert len({found.category_id for found in OURS.classes.values()}) == len(OURS.classes)
    assert len(known) < 255  # a lookup of classes is of bytes


def test_rendered_ids_stay_what_they_were() -> None:
    """The categories of scenes come first: new ones are appended."""
    names = list(Categories.load().by_name)
    assert names[:3] == ["wall", "floor", "ceiling"] and names.index("person") == 55
    assert names.index("sky") == 56


def test_a_class_s_word_is_its_category_s_in_that_set() -> None:
    """What training maps a pseudo-label to is what the teacher said, or what that merged into."""
    known, kept = Categories.load().by_name, 0
    for key in ("ade20k", "coco"):
        for word in class_set(key).classes:
            found = OURS.find(word)
            if found is None or word not in DOCUMENT[found.name].get(key, []):
                continue
            column = getattr(known[found.name], key)
            if column is not None:
                assert column in DOCUMENT[found.name][key] or found.category_id <= 56, word
                kept += column == word
    assert kept > 170


def test_words_are_found_as_teachers_spell_them() -> None:
    for word, name in (("road, route", "road"), ("windowpane, window ", "window"),
                       ("Traffic Light", "traffic_light"), ("sky_other_merged", "sky"),
                       ("SIGNBOARD, sign", "signboard"), ("ashcan, bin", "trash_can")):  # fmt: skip
        assert OURS.find(word).name == name, word
    assert OURS.find("flux capacitor") is None and OURS.find("") is None
    assert spelling(" Chest-of  Drawers ") == "chest of drawers"
    stuff = OURS.stuff_among({0: "wall", 1: "chair", 2: "sky-other-merged", 3: "nobody knows"})
    assert stuff == {"wall", "sky-other-merged"}


def test_the_user_s_own_file_replaces_it(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "couch: {thing: true, words: [sofa, settee], category: sofa}\n"
        "asphalt: {thing: false, words: [road]}\n"
        "wall: {thing: false}\n"
    )
    mine = load_vocabulary(file)
    assert mine.names == ("couch", "asphalt", "wall")
    assert mine.find("Settee").category_id == Categories.load().by_name["sofa"].id
    assert mine.find("road").category_id == 0 and mine.find("wall").category_id == 1
    assert mine.find("chair") is None


BAD = {
    "no map": ("- a\n", "mine.yaml: the file"),
    "empty": ("{}", "expected 1 to 10000 words, found 0"),
    "no thing": ("sofa: {}", "sofa: expected thing: true or false"),
    "thing in words": ("sofa: {thing: maybe}", "expected thing: true or false, got maybe"),
    "words are a word": ("sofa: {thing: true, words: couch}", "sofa.words: expected a list"),
    "a word of numbers": ("sofa: {thing: true, words: [3]}", "sofa.words: expected a list"),
    "a long word": (f"sofa: {{thing: true, words: [{'x' * 101}]}}", "expected a list"),
    "a word twice": ("a: {thing: true, w: [x]}\nb: {thing: true, w: [X]}", "under 'a' and 'b'"),
    "no category": ("a: {thing: true, category: sofaa}", "no category. Did you mean 'sofa'"),
    "the word unknown": ("Unknown: {thing: true}", "cannot be a class"),
    "a name of signs": ("'../x': {thing: true}", "mine.yaml: "),
    "no YAML": ("a: [", "is no YAML"),
    "an object": ("!!python/object/apply:os.system ['true']", "is no YAML"),
    "deep": ("[" * 5000, "mine.yaml"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_file_that_is_no_vocabulary_is_refused(tmp_path: Path, case: str) -> None:
    text, said = BAD[case]
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as refusal:
        load_vocabulary(file)
    assert said in str(refusal.value) and "\n" not in str(refusal.value)


def test_entries_may_be_given_as_they_are() -> None:
    assert parse_vocabulary({"a": {"thing": True}}, "here").names == ("a",)
