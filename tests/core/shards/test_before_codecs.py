"""A dataset that panoforge wrote before depth and normals had codecs of their own: read as it is.

`before_codecs/` was packed by that version (two panoramas of 64×32, members `depth.zst` and
`normal.zst`, raw bands). Its arrays follow from its ids, so what is right is known.
"""

import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from panoforge.core.cards import CardOptions
from panoforge.core.export import ExportOptions, export
from panoforge.core.geometry.sphere import pixel_to_direction
from panoforge.core.shards.read import Dataset
from panoforge.core.shards.repair import repair
from panoforge.core.shards.verify import verify

BEFORE = Path(__file__).parent / "before_codecs"
WIDTH, HEIGHT = 64, 32


def test_its_depth_and_normals_are_read_to_the_bit():
    dataset = Dataset.open(BEFORE)
    assert dataset.keys == ["old-0", "old-1"]
    rays = pixel_to_direction(np.arange(WIDTH)[None], np.arange(HEIGHT)[:, None], WIDTH, HEIGHT)
    for sample in (dataset[0], dataset[1]):
        assert {"depth.zst", "normal.zst"} < set(sample.members)
        labels = sample.read("instance")
        depth, normal = sample.read("depth"), sample.read("normal")
        hit = labels > 0
        assert 0 < hit.sum() < hit.size
        far = np.where(hit, 1 + rays[..., 0] / 3 + labels, np.inf).astype(np.float32)
        assert depth.dtype == np.float32 and np.array_equal(depth, far)
        assert normal.dtype == np.float16
        assert np.array_equal(normal, np.where(hit[..., None], -rays, 0).astype(np.float16))
        assert np.array_equal(sample.read("depth", (5, 9)), depth[5:9])


def test_it_is_verified_repaired_and_exported_as_any_other(tmp_path: Path):
    copy = tmp_path / "dataset"
    shutil.copytree(BEFORE, copy)
    report = verify(copy, deep=True)
    assert (report.samples, report.faults) == (2, ())
    before = {path.name: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    repair(copy)
    assert {path.name: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before
    card = CardOptions("before", "cc-by-4.0")
    export(Dataset.open(copy), "hf", tmp_path / "hf", ExportOptions(card=card))
    [pictures] = (tmp_path / "hf" / "data").glob("*.parquet")
    assert "depth" in pq.read_table(pictures).column_names
