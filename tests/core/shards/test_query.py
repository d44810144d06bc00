"""Queries: equal a plain loop over the metadata, refuse all else with words, extract by byte
range."""

from pathlib import Path

import pytest

from panoforge.core.errors import DataError, UsageError
from panoforge.core.sample.metadata import META_SUFFIX, InstanceMeta, SampleMeta, decode_meta
from panoforge.core.shards.query import extract, find
from panoforge.core.shards.read import Dataset

CASES = {
    "category == 'sofa' and sr > 0.3": lambda s, i: i.category == "sofa" and i.area_sr > 0.3,
    "category in ['sofa', 'lamp'] and px <= 900": lambda s, i: (
        i.category in ("sofa", "lamp") and i.pixels <= 900
    ),
    "'seam' in flags and 'pole' not in flags": lambda s, i: (
        "seam" in i.flags and "pole" not in i.flags
    ),
    "not 'seam' in flags and box_width > 50": lambda s, i: (
        "seam" not in i.flags and i.box.width > 50
    ),
    "0.1 < sr < 0.2 or name == 'cap_3'": lambda s, i: 0.1 < i.area_sr < 0.2 or i.name == "cap_3",
    "category != 'plant' and seed >= 2 and camera == 1": lambda s, i: (
        i.category != "plant" and s.seed >= 2 and s.camera == 1
    ),
    "'p_3' in name and width == 256": lambda s, i: "p_3" in i.name and s.width == 256,
    "u0 > -1 and id not in [1, 2, 3, 4, 5]": lambda s, i: i.id > 5,
    "visibility > 0.3": lambda s, i: i.visibility is not None and i.visibility > 0.3,
    "visibility <= 0.5 and camera == 0": lambda s, i: (
        i.visibility is not None and i.visibility <= 0.5 and s.camera == 0
    ),
    "category == 'unicorn'": lambda s, i: False,
}


def pairs(dataset: Dataset) -> list[tuple[SampleMeta, InstanceMeta]]:
    return [
        (meta, row)
        for index in range(len(dataset))
        for meta in [dataset[index].meta]
        for row in meta.instances
    ]


@pytest.mark.parametrize("expression", CASES)
def test_instances_are_those_of_a_plain_loop(caps_dataset: Path, expression: str) -> None:
    dataset = Dataset.open(caps_dataset)
    expected = [(meta.key, row.id) for meta, row in pairs(dataset) if CASES[expression](meta, row)]
    found = find(dataset, expression)
    assert sorted(
        zip(found.instances["key"].to_pylist(), found.instances["id"].to_pylist(), strict=True)
    ) == sorted(expected)
    matching = {key for key, _ in expected}
    assert list(found.keys) == [key for key in dataset.keys if key in matching]
    assert expression == "category == 'unicorn'" or 0 < len(expected) < len(pairs(dataset))


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("camera == 0 and seed < 2", lambda s: s.camera == 0 and s.seed < 2),
        ("scene == 'caps-000003'", lambda s: s.seed == 3),
        ("clearance_m > 1", lambda s: False),
        ("n_instances > 0", lambda s: True),
        ("yaw_deg == -0.0 or camera == 5", lambda s: True),
        ("'anything' in notes", lambda s: False),
        ("True", lambda s: True),
        ("not False and camera in {1}", lambda s: s.camera == 1),
    ],
)
def test_samples_are_those_of_a_plain_loop(
    caps_dataset: Path, expression: str, expected: object
) -> None:
    dataset = Dataset.open(caps_dataset)
    found = find(dataset, expression)
    assert found.instances is None
    assert list(found.keys) == [
        dataset[i].key for i in range(len(dataset)) if expected(dataset[i].meta)
    ]


def test_an_opened_split_answers_for_itself(caps_dataset: Path) -> None:
    whole = Dataset.open(caps_dataset)
    for split in whole.manifest.splits:
        part = Dataset.open(caps_dataset, split)
        found = find(part, "sr > 0")
        assert list(found.keys) == part.keys and set(found.instances["key"].to_pylist()) == set(
            part.keys
        )
        assert list(find(whole, f"sr > 0 and split == '{split}'").keys) == part.keys


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        (
            "categry == 'sofa'",
            "asks for 'categry', which is not a column. Did you mean 'category'?",
        ),
        ("category == sofa", "asks for 'sofa', which is not a column"),
        ("__import__('os').system('touch x')", "is something else"),
        ("category.upper() == 'SOFA'", "is something else"),
        ("[x for x in category]", "is something else"),
        ("sr + 1 > 2", "is something else"),
        ("(lambda: 1)()", "is something else"),
        ("sr > 'big'", "cannot be compared"),
        ("category > 3", "cannot be compared"),
        ("flags == 'seam'", "cannot be compared"),
        ("'seam' in sr", "cannot be compared"),
        ("category in [1, 2]", "cannot be compared"),
        ("sr", "is a value"),
        ("sr and px > 3", "'sr' is a value, not a question"),
        ("'x'", "is a value"),
        ("1 < 2", "one side of a comparison must be a column"),
        ("sr >", "is not an expression: invalid syntax. Example"),
        ("", "is not an expression"),
        ("(" * 500, "is not an expression"),
        ("not " * 450 + "camera == 1", None),
        ("sr > 0 and " * 500 + "sr > 1", "at most 2000 are read"),
        ("sr is 3", "cannot be compared"),
        ("sr > 1\x00", "is not an expression"),
        ("x := 3", "is not an expression"),
        ("-'a' == name", "is something else"),
    ],
)
def test_anything_else_is_refused_with_words(
    caps_dataset: Path, expression: str, message: str | None
) -> None:
    dataset = Dataset.open(caps_dataset)
    if message is None:
        assert find(dataset, expression).keys == find(dataset, "camera == 1").keys
        return
    with pytest.raises(UsageError) as refusal:
        find(dataset, expression)
    assert message in str(refusal.value) and refusal.value.exit_code == 2


def test_extraction_is_by_byte_range_and_checked(caps_dataset: Path, tmp_path: Path) -> None:
    dataset = Dataset.open(caps_dataset)
    keys = find(dataset, "seed == 1").keys
    paths = extract(dataset, keys, tmp_path / "out", ("rgb",))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        f"{key}.{suffix}" for key in keys for suffix in ("rgb.jpg", META_SUFFIX)
    )
    for key in keys:
        assert (tmp_path / "out" / f"{key}.rgb.jpg").read_bytes() == dataset.by_key(key).members[
            "rgb.jpg"
        ]
        assert decode_meta((tmp_path / "out" / f"{key}.{META_SUFFIX}").read_bytes()).key == key
    assert len(paths) == 4 and len(extract(dataset, keys[:1], tmp_path / "all")) == 4
    shard = tmp_path / dataset.samples["shard"].to_pylist()[0]
    shard.parent.mkdir()
    shard.write_bytes(b"\0" * 10_000_000)
    damaged = Dataset(tmp_path, dataset.manifest, dataset.samples)
    with pytest.raises(DataError, match="do not have the digest"):
        extract(damaged, (dataset.keys[0],), tmp_path / "never")
    assert not (tmp_path / "never").exists()
    with pytest.raises(UsageError, match=r"no product 'rbg'\. Did you mean 'rgb'"):
        extract(dataset, (dataset.keys[0],), tmp_path / "never", ("rbg",))


def test_extraction_goes_on_and_overwrites_nothing(caps_dataset: Path, tmp_path: Path) -> None:
    """Another dataset may have a sample of the same name."""
    dataset = Dataset.open(caps_dataset)
    keys, out = dataset.keys[:2], tmp_path / "out"
    first = extract(dataset, keys[:1], out, ("rgb",))
    assert extract(dataset, keys, out, ("rgb",))[:2] == first
    (out / f"{keys[1]}.rgb.jpg").write_bytes(b"of another dataset")
    with pytest.raises(UsageError, match=r"rgb\.jpg is there already and holds something else"):
        extract(dataset, keys, out, ("rgb",))
    assert (out / f"{keys[1]}.rgb.jpg").read_bytes() == b"of another dataset"
    assert not (out / "lease").exists()
