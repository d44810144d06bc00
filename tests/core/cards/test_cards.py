"""Cards say what the index says: every number is counted again here, in another way."""

import hashlib
import json
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
import synthetic
import yaml

from panoforge.cli import main
from panoforge.core.cards import CardOptions, write_cards
from panoforge.core.errors import DataError, UsageError
from panoforge.core.shards.layout import read_manifest
from panoforge.core.shards.read import Dataset
from panoforge.core.shards.verify import verify
from panoforge.core.shards.write import pack

OPTIONS = CardOptions("caps", "cc-by-4.0", "https://example.org/caps", "us", "2026-01-31")


@pytest.fixture
def copy(caps_dataset: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(caps_dataset, tmp_path / "dataset"))


def split_readme(folder: Path) -> tuple[dict, str]:
    _, front, body = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(front), body


def arrow_type(table: pa.Table, column: str) -> str:
    """Its type; what Parquet calls the elements of lists does not matter."""
    return re.sub(r"list<\w+: ", "list<", str(table.schema.field(column).type))


def test_the_front_matter_is_what_the_index_holds(copy: Path) -> None:
    assert write_cards(Dataset.open(copy), OPTIONS) == ("README.md", "croissant.json")
    front, _ = split_readme(copy)
    manifest = read_manifest(copy)
    assert (
        front["license"] == "cc-by-4.0"
        and front["pretty_name"] == "caps"
        and front["size_categories"] == ["n<1K"]
    )
    (config,) = front["configs"]  # a repository has one reader: the tables are none of its configs
    assert {entry["split"] for entry in config["data_files"]} == set(manifest.splits)
    for entry in config["data_files"]:
        matched = sorted(path.relative_to(copy).as_posix() for path in copy.glob(entry["path"]))
        assert matched == [shard.name for shard in manifest.shards if shard.split == entry["split"]]


def test_the_text_counts_what_is_there(copy: Path) -> None:
    write_cards(Dataset.open(copy), OPTIONS)
    _, body = split_readme(copy)
    dataset = Dataset.open(copy)
    samples = [dataset[index] for index in range(len(dataset))]
    scenes = {sample.meta.scene for sample in samples}
    categories = Counter(row.category for sample in samples for row in sample.meta.instances)
    assert (
        f"{len(samples)} synthetic 360° panoramas (equirectangular) of {len(scenes)} scenes with"
        f" {categories.total()} instances of {len(categories)} categories" in body
    )
    for category, count in categories.items():
        assert f"| {category} | {count} |" in body
    for name, count in dataset.manifest.splits.items():
        shards = [entry for entry in dataset.manifest.shards if entry.split == name]
        assert (
            f"| {name} | {count} | {len(shards)} | {sum(entry.bytes for entry in shards):,} |"
            in body
        )
    for suffix in ("rgb.jpg", "instance.zst", "depth.delta.zst", "meta.json"):
        assert f"| `{suffix}` |" in body
    assert "| 256×128 | 8 |" in body


def test_the_croissant_has_what_the_specification_requires(copy: Path) -> None:
    write_cards(Dataset.open(copy), OPTIONS)
    card = json.loads((copy / "croissant.json").read_text())
    for name in (
        "@context",
        "@type",
        "conformsTo",
        "name",
        "description",
        "license",
        "url",
        "creator",
        "datePublished",
    ):
        assert card[name]
    assert (
        card["@type"] == "sc:Dataset" and card["conformsTo"] == "http://mlcommons.org/croissant/1.1"
    )
    files = {file["@id"]: file for file in card["distribution"]}
    manifest = read_manifest(copy)
    assert {file["contentUrl"] for file in files.values()} == {
        manifest.sample_index.name,
        manifest.instance_index.name,
        *(entry.name for entry in manifest.shards),
    }
    for file in files.values():
        data = (copy / file["contentUrl"]).read_bytes()
        assert file["@type"] == "cr:FileObject" and file["encodingFormat"]
        assert (
            file["sha256"] == hashlib.sha256(data).hexdigest()
            and file["contentSize"] == f"{len(data)} B"
        )
    dataset = Dataset.open(copy)
    tables = {"samples": dataset.samples, "instances": dataset.instances()}
    assert [record_set["@id"] for record_set in card["recordSet"]] == list(tables)
    ids = {field["@id"] for record_set in card["recordSet"] for field in record_set["field"]}
    for record_set in card["recordSet"]:
        table = tables[record_set["name"]]
        assert {field["name"] for field in record_set["field"]} == set(table.schema.names) - {
            "members"
        }
        assert {key["@id"] for key in record_set["key"]} <= ids
        for field in record_set["field"]:
            kind = arrow_type(table, field["name"])
            assert (
                field["dataType"]
                == {"s": "sc:Text", "i": "sc:Integer", "d": "sc:Float"}[
                    kind.removeprefix("list<")[0]
                ]
            )
            listed = field.get("repeated", False) or field.get("isArray", False)
            assert listed == kind.startswith("list")
            assert field.get("arrayShape") == ("3" if field["name"] == "position_m" else None)
            assert files[field["source"]["fileObject"]["@id"]]["contentUrl"].endswith(".parquet")
            assert field["source"]["extract"] == {"column": field["name"]}
    (link,) = [
        field["references"] for field in card["recordSet"][1]["field"] if "references" in field
    ]
    assert link["field"]["@id"] in ids


def test_cards_are_functions_of_the_dataset_and_verify_does_not_mind(copy: Path) -> None:
    command = [
        "card",
        str(copy),
        "--name",
        "caps",
        "--license",
        "cc-by-4.0",
        "--published",
        "2026-01-31",
    ]
    with pytest.raises(SystemExit) as stop:
        main(command)
    assert stop.value.code == 0
    first = [(copy / name).read_bytes() for name in ("README.md", "croissant.json")]
    with pytest.raises(SystemExit):
        main(command)
    assert first == [(copy / name).read_bytes() for name in ("README.md", "croissant.json")]
    assert verify(copy).faults == ()


def test_what_a_card_cannot_say_is_refused(caps_dataset: Path) -> None:
    with pytest.raises(
        UsageError,
        match=r"--license 'CC BY 4.0': expected one identifier .* Did you mean cc-by-4.0\?",
    ):
        CardOptions("caps", "CC BY 4.0")
    for wrong in ("mine", "MIT OR Apache-2.0", "LicenseRef-x", "", "cc-by-9.0"):
        with pytest.raises(UsageError, match="expected one identifier of SPDX's list"):
            CardOptions("caps", wrong)
    for wrong in ("2026-02-30", "2026-13-01", "20260101", "today"):
        with pytest.raises(UsageError, match="expected a date such as"):
            CardOptions("caps", "other", published=wrong)
    with pytest.raises(
        UsageError, match=r"--published '31.1.2026': expected a date such as 2026-11-21"
    ):
        CardOptions("caps", "other", published="31.1.2026")
    with pytest.raises(UsageError, match="needs the dataset's name"):
        CardOptions(" ", "other")
    dataset = Dataset.open(caps_dataset)
    with pytest.raises(UsageError, match="open it without a split"):
        write_cards(replace(dataset, samples=dataset.samples.slice(1)), OPTIONS)


def test_a_card_that_was_edited_is_kept_beside_the_new_one(copy: Path) -> None:
    """People write into README.md; a second `pano card` took it away."""
    write_cards(Dataset.open(copy), OPTIONS)
    assert write_cards(Dataset.open(copy), OPTIONS) == ("README.md", "croissant.json")
    edited = (copy / "README.md").read_text() + "\nSee our paper.\n"
    (copy / "README.md").write_text(edited)
    readme, _, kept = write_cards(Dataset.open(copy), OPTIONS)
    assert re.fullmatch(r"README-[0-9a-f]{8}\.md", kept)
    assert (copy / kept).read_text() == edited and "our paper" not in (copy / readme).read_text()
    assert not verify(copy).faults


def test_a_dataset_that_changed_meanwhile_is_not_described(copy: Path) -> None:
    opened = Dataset.open(copy)
    synthetic.stage(copy.parent / "staged", 7, 0)
    pack(copy.parent / "staged", copy)
    with pytest.raises(DataError, match="was packed or repaired meanwhile"):
        write_cards(opened, OPTIONS)
    assert not (copy / "README.md").exists()
