"""The export for the Hub, read by the `datasets` library itself: the card's own example runs, and
what comes back is what the shards hold.
"""

import io
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import synthetic
import yaml
from PIL import Image

from panoforge.cli import main
from panoforge.core.cards import CardOptions, write_cards
from panoforge.core.errors import DataError, UsageError
from panoforge.core.export import ExportOptions, export, huggingface
from panoforge.core.export.huggingface import depth_png, depth_unit_m
from panoforge.core.shards.read import Dataset
from panoforge.core.shards.write import PackOptions

os.environ["HF_HUB_OFFLINE"] = "1"  # before `datasets` is imported: nothing here asks the network
CARD = CardOptions("caps", "cc-by-4.0", repo="us/caps")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Two splits of panoramas with depth and sky."""
    options = PackOptions(splits=(("train", 0.6), ("val", 0.4)))
    folder = tmp_path_factory.mktemp("hub")
    return Dataset.open(synthetic.dataset(folder, scenes=6, cameras=1, width=128, options=options))


@pytest.fixture(scope="module")
def exported(source: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("hf") / "out"
    facts = export(source, "hf", out, ExportOptions(card=CARD))
    assert facts["panoramas"] == 6 and facts["instances"] == source.manifest.instances
    files = [path for path in out.rglob("*.parquet")]
    assert facts["files"] == len(files) == 4
    assert facts["bytes"] == sum(path.stat().st_size for path in files)
    return out


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


def example(folder: Path, repository: str, **replaced: str) -> dict:
    """The names that the card's first example leaves behind, run with a folder for the Hub."""
    readme = (folder / "README.md").read_text(encoding="utf-8")
    (code, *_) = re.findall(r"```python\n(.*?)```", readme, re.S)
    code = code.replace(f"hf://datasets/{repository}/", f"{folder}/")
    names: dict = {}
    exec(code.replace(f'"{repository}"', repr(str(folder))), names)
    return names


def test_the_cards_example_runs_and_gives_what_the_shards_hold(
    source: Dataset, exported: Path
) -> None:
    names = example(exported, "us/caps")
    sample = source.by_key(names["row"]["key"])
    assert np.array_equal(names["rgb"], np.array(Image.open(io.BytesIO(sample.members["rgb.jpg"]))))
    assert names["ids"].dtype == np.uint16 and np.array_equal(names["ids"], sample.read("instance"))
    depth = sample.read("depth")
    assert np.array_equal(np.isinf(names["depth_m"]), np.isinf(depth))
    near = np.isfinite(depth)
    assert np.abs(names["depth_m"][near] - depth[near]).max() <= names["row"]["depth_unit_m"] / 2
    assert {row["id"]: row["category"] for row in names["mine"]} == {
        row.id: row.category for row in sample.meta.instances
    }


@pytest.mark.parametrize("streaming", [False, True])
def test_every_row_is_equal_to_its_source(source: Dataset, exported: Path, streaming: bool) -> None:
    from datasets import load_dataset

    splits = load_dataset(str(exported), streaming=streaming)
    assert {name: splits[name].features["ids"].dtype for name in splits} == {
        "train": "PIL.Image.Image",
        "val": "PIL.Image.Image",
    }
    seen = {}
    for split in splits:
        for row in splits[split]:
            sample = source.by_key(row["key"])
            assert np.array_equal(np.array(row["ids"]), sample.read("instance"))
            assert np.array_equal(row["rgb"], Image.open(io.BytesIO(sample.members["rgb.jpg"])))
            assert row["preview"].size == (128, 64) and row["position_m"] == [0.0, 0.0, 1.5]
            assert row["world_from_pano"] == np.eye(3).ravel().tolist()
            seen[row["key"]] = split
    assert seen == {source.key(i): source.split(i) for i in range(len(source))}
    rows = load_dataset(str(exported), "instances", streaming=streaming)
    found = sorted((row["key"], row["id"], row["pixels"]) for s in rows for row in rows[s])
    table = source.instances()
    assert found == sorted(
        zip(*(table[n].to_pylist() for n in ("key", "id", "pixels")), strict=True)
    )


def test_the_front_matter_is_what_lies_there(exported: Path) -> None:
    _, front, _ = (exported / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    matter = yaml.safe_load(front)
    assert [config["config_name"] for config in matter["configs"]] == ["default", "instances"]
    for config, info in zip(matter["configs"], matter["dataset_info"], strict=True):
        for entry, split in zip(config["data_files"], info["splits"], strict=True):
            files = sorted(exported.glob(entry["path"]))
            assert files and entry["split"] == split["name"]
            rows = sum(pq.read_metadata(file).num_rows for file in files)
            assert rows == split["num_examples"]
            columns = pq.read_schema(files[0]).names
            assert [column["name"] for column in info["features"]] == columns
    kinds = {row["name"]: row.get("dtype") for row in matter["dataset_info"][0]["features"]}
    assert [name for name, kind in kinds.items() if kind == "image"] == [
        "preview",
        "rgb",
        "ids",
        "depth",
    ]


def test_row_groups_and_files_stay_within_what_the_viewer_reads(
    source: Dataset, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (file,) = (exported / "data").glob("train-*")
    row = file.stat().st_size // source.manifest.splits["train"]
    monkeypatch.setattr(huggingface, "MAX_GROUP_BYTES", int(1.5 * row))
    monkeypatch.setattr(huggingface, "MAX_FILE_BYTES", int(2.5 * row))
    export(source, "hf", tmp_path / "out", ExportOptions(card=CARD))
    files = sorted((tmp_path / "out" / "data").glob("train-*"))
    assert len(files) > 1 and all(f"-of-{len(files):05d}." in file.name for file in files)
    metadata = [pq.read_metadata(file) for file in files]
    groups = [meta.row_group(i) for meta in metadata for i in range(meta.num_row_groups)]
    assert max(group.total_byte_size for group in groups) <= 2 * row
    assert all(group.column(0).has_offset_index for group in groups)
    keys = [key for file in files for key in pq.read_table(file)["key"].to_pylist()]
    assert keys == [source.key(i) for i in range(len(source)) if source.split(i) == "train"]
    monkeypatch.setattr(huggingface, "MAX_GROUP_BYTES", 1000)
    with pytest.raises(DataError, match=r"its pictures take .* over the 1,000 of a row group"):
        export(source, "hf", tmp_path / "big", ExportOptions(card=CARD))
    assert not (tmp_path / "big" / "export.json").exists()


def test_workers_write_the_same_bytes(source: Dataset, exported: Path, tmp_path: Path) -> None:
    export(source, "hf", tmp_path / "out", ExportOptions(card=CARD), workers=2)
    for path in exported.rglob("*"):
        if path.is_file():
            assert (tmp_path / "out" / path.relative_to(exported)).read_bytes() == path.read_bytes()


def test_depth_takes_the_unit_that_reaches_the_farthest_pixel() -> None:
    assert depth_unit_m(np.array([[1, 65.535, np.inf]])) == 0.001
    assert depth_unit_m(np.array([[65.6]])) == 0.002
    assert depth_unit_m(np.array([[40_000.0]])) == pytest.approx(1.0)
    assert depth_unit_m(np.full((2, 2), np.inf, np.float32)) == 0.001
    depth = np.array([[0.0001, 0.0014, 90, np.inf]], np.float32)
    steps = np.array(Image.open(io.BytesIO(depth_png(depth, 0.002))))
    assert steps.dtype == np.uint16 and steps.tolist() == [[1, 1, 45000, 0]]


def test_what_a_card_needs_is_asked_for_before_anything_is_written(
    source: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="give --name and --license"):
        export(source, "hf", tmp_path / "a")
    part = Dataset.open(source.folder, "train")
    with pytest.raises(UsageError, match="open it without a split"):
        export(part, "hf", tmp_path / "b", ExportOptions(card=CARD))
    with pytest.raises(UsageError, match="expected OWNER/NAME"):
        CardOptions("caps", "cc-by-4.0", repo="https://huggingface.co/datasets/us/caps")
    assert not list(tmp_path.rglob("*.parquet"))


def test_the_repository_is_named_as_datasets_wants_it() -> None:
    url = "https://huggingface.co/datasets/us/caps"
    assert CardOptions("caps", "mit", url).repository == "us/caps"
    assert CardOptions("caps", "mit", url, repo="we/them").repository == "we/them"
    assert CardOptions("caps", "mit", "https://example.org/caps").repository == "OWNER/NAME"


def test_the_card_of_shards_runs_too(source: Dataset, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(str(source.folder), tmp_path / "dataset"))
    write_cards(Dataset.open(folder), CARD)
    names = example(folder, "us/caps")
    row, (rows,) = names["row"], names["instances"].values()
    assert row["__key__"] == source.keys[0] and row["meta.json"]["key"] == row["__key__"]
    assert rows.num_rows == source.manifest.instances
    assert np.array_equal(names["ids"], source[0].read("instance"))


def test_by_command(source: Dataset, tmp_path: Path) -> None:
    words = ["--to", "hf", "--name", "caps", "--license", "cc-by-4.0", "--repo", "us/caps"]
    with pytest.raises(SystemExit) as stop:
        main(["export", str(source.folder), str(tmp_path / "out"), *words])
    assert stop.value.code == 0
    assert json.loads((tmp_path / "out" / "export.json").read_text())["panoramas"] == 6


def test_croissant_is_valid_by_its_own_library(source: Dataset, tmp_path: Path) -> None:
    import mlcroissant

    folder = Path(shutil.copytree(str(source.folder), tmp_path / "dataset"))
    write_cards(
        Dataset.open(folder),
        CardOptions("caps", "cc-by-4.0", "https://example.org/caps", published="2026-01-31"),
    )
    read = mlcroissant.Dataset(jsonld=folder / "croissant.json")
    assert read.metadata.ctx.issues.errors == set() and read.metadata.ctx.issues.warnings == set()
    assert read.metadata.ctx.is_v1_1()
    rows = list(read.records("instances"))
    assert len(rows) == source.manifest.instances
    sample = next(iter(read.records("samples")))
    assert list(sample["samples/position_m"]) == [0.0, 0.0, 1.5]
