"""Dataset statistics: against brute force on the pixels, and as a page in a real browser."""

import json
import shutil
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import synthetic
from browser import difference, open_tab

from panoforge.core.errors import DataError, UsageError
from panoforge.core.geometry.sphere import row_area_sr
from panoforge.core.sample.instance_table import InstanceLabel, instance_table
from panoforge.core.sample.metadata import Pose, SampleMeta
from panoforge.core.shards.read import Dataset
from panoforge.core.shards.write import pack
from panoforge.core.stats import DatasetStats, collect, dataset_statistics, write_report
from panoforge.core.stats.choice import evenly_over_scenes
from panoforge.core.stats.collect import Prices, cost
from panoforge.core.stats.model import Histogram
from panoforge.core.stats.pixels import GRID_COLUMNS, GRID_ROWS, difference_hash, find_duplicates
from panoforge.core.stats.tables import distribution
from panoforge.core.storage.lease import InUse, held
from panoforge.core.storage.runlog import record_stage
from panoforge.core.storage.staged import write_staged


@pytest.fixture(scope="module")
def caps_stats(caps_dataset: Path) -> DatasetStats:
    return dataset_statistics(caps_dataset)


def test_counts_are_those_of_the_samples(caps_dataset: Path, caps_stats: DatasetStats) -> None:
    dataset, index = Dataset.open(caps_dataset), caps_stats.index
    metas = [dataset[i].meta for i in range(len(dataset))]
    rows = [row for meta in metas for row in meta.instances]
    assert (index.panoramas, index.scenes, index.instances) == (8, 4, len(rows))
    assert {row.name: row.instances for row in index.categories} == Counter(
        row.category for row in rows
    )
    assert {row.name: row.panoramas for row in index.categories} == Counter(
        c for meta in metas for c in {row.category for row in meta.instances}
    )
    for category in index.categories:
        areas = [row.area_sr for row in rows if row.category == category.name]
        assert category.median_sr == pytest.approx(np.median(areas)) and not category.structure
        assert category.share == pytest.approx(sum(areas) / (8 * 4 * np.pi))
    assert index.flags == Counter(flag for row in rows for flag in row.flags)
    assert (
        index.seam_panoramas
        == sum(any("seam" in row.flags for row in meta.instances) for meta in metas)
        > 0
    )
    assert (
        index.pole_panoramas
        == sum(any("pole" in row.flags for row in meta.instances) for meta in metas)
        > 0
    )
    assert sum(index.area_px.histogram.counts) == sum(index.area_sr.histogram.counts) == len(rows)
    assert index.instances_per_panorama.summary.mean == pytest.approx(len(rows) / 8)
    assert sum(split.panoramas for split in index.splits.values()) == 8
    assert index.bytes == sum(path.stat().st_size for path in caps_dataset.glob("shards/*.tar"))


def test_categories_seen_together(caps_dataset: Path, caps_stats: DatasetStats) -> None:
    dataset, table = Dataset.open(caps_dataset), caps_stats.index.co_occurrence
    seen = [{row.category for row in dataset[i].meta.instances} for i in range(len(dataset))]
    for i, a in enumerate(table.categories):
        for j, b in enumerate(table.categories):
            assert table.panoramas[i][j] == sum({a, b} <= categories for categories in seen)


def test_pixel_statistics_equal_brute_force(caps_dataset: Path, caps_stats: DatasetStats) -> None:
    dataset = Dataset.open(caps_dataset)
    cells, bands, sky, luma = np.zeros((GRID_ROWS, GRID_COLUMNS)), np.zeros(36), 0.0, np.zeros(256)
    for i in range(len(dataset)):
        labels = dataset[i].read("instance")
        height, width = labels.shape
        area = np.repeat(row_area_sr(width, height)[:, None], width, axis=1)
        blocks = (labels > 0).reshape(
            GRID_ROWS, height // GRID_ROWS, GRID_COLUMNS, width // GRID_COLUMNS
        )
        cells += blocks.mean(axis=(1, 3)) / len(dataset)
        for band in range(36):
            rows = np.flatnonzero(np.arange(height) * 36 // height == band)
            bands[band] += ((labels > 0) * area)[rows].sum() / area[rows].sum() / len(dataset)
        sky += area[np.isinf(dataset[i].read("depth"))].sum() / (4 * np.pi * len(dataset))
        gray = cv2.imdecode(
            np.frombuffer(dataset[i].members["rgb.jpg"], np.uint8), cv2.IMREAD_GRAYSCALE
        )
        luma += np.bincount(gray.ravel(), area.ravel(), minlength=256) / (4 * np.pi * len(dataset))
    pixels = caps_stats.pixels
    assert np.allclose(pixels.object_share, cells, atol=1e-5)
    assert np.allclose(pixels.latitude.objects, bands)
    assert sum(pixels.latitude.structure) == 0 and pixels.objects + pixels.nothing == pytest.approx(
        1
    )
    assert pixels.sky == pytest.approx(sky) == pytest.approx(pixels.nothing)
    assert np.allclose(pixels.luma.counts, luma)
    assert sum(pixels.depth_m.counts) == pytest.approx(4 * np.pi * (1 - pixels.sky))


def stage_one(
    staged: Path,
    key: str,
    labels: np.ndarray,
    flags: dict[int, tuple[str, ...]],
    category: str = "c",
    **fields: object,
) -> None:
    """Stage a panorama of these labels on grey, without depth; categories are c1, c2, …"""
    height, width = labels.shape
    names = {
        int(i): InstanceLabel(f"n{i}", f"{category}{i}", f"o{i}", flags.get(int(i), ()))
        for i in np.unique(labels)
        if i
    }
    arrays = {"rgb.png": np.full((height, width, 3), 128, np.uint8), "instance.zst": labels}
    write_staged(
        staged,
        SampleMeta(
            key=key,
            width=width,
            height=height,
            source="test",
            scene=key,
            seed=0,
            camera=0,
            products=tuple(sorted(arrays)),
            pose=Pose(
                position_m=(0.0, 0.0, 1.0),
                yaw_deg=0.0,
                world_from_pano=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
            ),
            instances=instance_table(labels, names),
            config_sha256="0" * 64,
            versions={},
            **fields,
        ),
        arrays,
    )


def test_structure_is_not_an_object_and_odd_sizes_work(tmp_path: Path) -> None:
    """One panorama of 40×20: a wall on the left three quarters, a thing on the rest; no depth,
    clearance or timings.
    """
    labels = np.ones((20, 40), np.uint16)
    labels[:, 30:] = 2
    stage_one(tmp_path / "staged", "one", labels, {1: ("structure",)})
    pack(tmp_path / "staged", tmp_path / "dataset")
    stats = write_report(tmp_path / "dataset", tmp_path / "out")
    assert stats.pixels.objects == pytest.approx(0.25) and stats.pixels.structure == pytest.approx(
        0.75
    )
    assert {row.name: row.structure for row in stats.index.categories} == {"c1": True, "c2": False}
    assert stats.index.objects == 1 and stats.index.co_occurrence.categories == ("c2",)
    assert stats.index.clearance_m is stats.cost is stats.pixels.depth_m is stats.run is None
    seen = [value for row in stats.pixels.object_share for value in row]
    assert set(seen) == {0.0, 1.0}
    assert "1 panorama only" in (tmp_path / "out" / "report.html").read_text()


def test_the_numbers_do_not_depend_on_threads(caps_dataset: Path, caps_stats: DatasetStats) -> None:
    assert (
        dataset_statistics(caps_dataset, threads=1)
        == dataset_statistics(caps_dataset, threads=5)
        == caps_stats
    )


def test_report_json_reads_back(
    caps_dataset: Path, caps_stats: DatasetStats, tmp_path: Path
) -> None:
    with record_stage(tmp_path, "render", None) as entry:  # beside another dataset: not ours
        entry.update(scenes={"done": 1}, reasons={})
    assert write_report(caps_dataset, tmp_path / "new" / "out", gallery=3) == caps_stats
    data = (tmp_path / "new" / "out" / "report.json").read_bytes()
    assert DatasetStats.model_validate_json(data) == caps_stats
    html = (tmp_path / "new" / "out" / "report.html").read_text()
    assert (
        html.count('<article class="card item">') == 3
        and "3 of 8, evenly spread over the scenes" in html
    )


def test_a_run_record_beside_the_dataset_is_told(tmp_path: Path) -> None:
    dataset = synthetic.dataset(tmp_path, scenes=1, cameras=1, width=128)
    with record_stage(tmp_path, "render", None) as entry:
        entry.update(
            scenes={"done": 5, "rejected": 2, "failed": 1},
            reasons={"too_close": 2, "killed by SIGSEGV": 1},
        )
    stats = write_report(dataset, tmp_path / "out")
    assert stats.run.scenes == {"done": 5, "rejected": 2, "failed": 1}
    assert "killed by SIGSEGV" in (tmp_path / "out" / "report.html").read_text()
    (tmp_path / "run.json").write_text(json.dumps({"stages": {"render": {"scenes": "many"}}}))
    assert dataset_statistics(dataset).run is None


def test_a_damaged_sample_is_named_and_nothing_written(caps_dataset: Path, tmp_path: Path) -> None:
    shutil.copytree(caps_dataset, tmp_path / "dataset")
    shard = next((tmp_path / "dataset" / "shards").glob("*.tar"))
    data = bytearray(shard.read_bytes())
    data[2000] ^= 1
    shard.write_bytes(data)
    with pytest.raises(DataError, match=r"caps-\d{6}-c\d.*do not have the digest"):
        write_report(tmp_path / "dataset", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_cost_counts_threads_and_missing_stages() -> None:
    found = cost([{"render": 10.0, "pack": 2.0}, {"render": 20.0}], Prices(0.36), 100.0)
    assert [(stage.name, stage.mean_s) for stage in found.stages] == [
        ("render", 15.0),
        ("pack", 1.0),
    ]
    assert found.core_seconds_per_panorama == 16 and found.price_per_1000 == pytest.approx(1.6)
    assert cost([{}, {}], Prices(), None) is None
    on_gpu = cost([{"render": 10.0}, {"render": 10.0}], Prices(0.36, 3.6), None, gpu_s=8.0)
    assert on_gpu.gpu_seconds_per_panorama == 4 and on_gpu.price_per_1000 == pytest.approx(
        1.0 + 4.0
    )


def test_core_seconds_are_the_processors_and_what_was_not_measured_has_no_cost(
    tmp_path: Path,
) -> None:
    labels = np.ones((8, 16), np.uint16)
    clock, measured = {"sample": 3.0, "generate": 5.0}, {"sample": 9.0, "generate": 5.0}
    for name, cpu, device in (
        ("foreign", {}, "cpu"),
        ("cpu", measured, "cpu"),
        ("gpu", measured, "optix: A card"),
    ):
        hardware = {"threads": "4", "device": device}
        stage_one(
            tmp_path / name / "staged",
            "a",
            labels,
            {},
            timings_s=clock,
            cpu_s=cpu,
            hardware=hardware,
        )
        pack(tmp_path / name / "staged", tmp_path / name / "dataset")
    prices = Prices(0.36, 0.36)
    found = {
        name: dataset_statistics(tmp_path / name / "dataset", prices=prices).cost
        for name in ("foreign", "cpu", "gpu")
    }
    assert found["foreign"] is None and found["cpu"].core_seconds_per_panorama == 14
    assert found["gpu"].gpu_seconds_per_panorama == 8 and found["cpu"].gpu_seconds_per_panorama == 0
    assert found["gpu"].price_per_1000 == pytest.approx(2.2)


@pytest.mark.parametrize(
    ("scenes", "limit", "expected"),
    [
        (["a", "a", "b", "b"], 2, {0, 2}),
        (["a", "a", "b", "b"], 3, {0, 2, 1}),
        (["a"], 5, {0}),
        (["a", "b"], 0, set()),
        ([str(i) for i in range(100)], 4, {0, 33, 66, 99}),
    ],
)
def test_the_gallery_shows_scenes_before_second_cameras(
    scenes: list[str], limit: int, expected: set[int]
) -> None:
    assert evenly_over_scenes(scenes, limit) == expected


def test_histograms_hold_every_value_once() -> None:
    rng = np.random.default_rng(0)
    for values, log in [
        (rng.integers(1, 9, 50), False),
        (rng.integers(0, 9000, 50), False),
        (rng.random(50), False),
        (np.array([1.5]), False),
        (np.array([7]), False),
        (10 ** rng.uniform(-5, 1, 50), True),
        (np.array([1, 10, 100, 1000]), True),
        (np.array([10.0]), True),
    ]:
        found: Histogram = distribution(values, "x", log=log).histogram
        assert sum(found.counts) == len(values) and len(found.edges) == len(found.counts) + 1
        assert (np.diff(found.edges) > 0).all() and len(found.counts) <= 60


def test_look_alikes_are_found_and_others_are_not() -> None:
    rng = np.random.default_rng(0)
    pictures = [
        cv2.GaussianBlur(rng.integers(0, 256, (64, 128), np.uint8), (0, 0), 5) for _ in range(60)
    ]
    again = np.clip(pictures[7].astype(float) * 1.1 + rng.normal(0, 0.5, (64, 128)), 0, 255).astype(
        np.uint8
    )
    looks = [difference_hash(picture) for picture in (*pictures, again)]
    found = find_duplicates([f"k{i}" for i in range(61)], looks)
    assert (found.pairs, found.panoramas, found.examples) == (1, 2, (("k7", "k60"),))
    flipped = np.frombuffer(looks[0], np.uint8).copy()
    flipped[[0, 5, 10, 15]] ^= 16  # four bits in four different parts: still found
    assert find_duplicates(["a", "b"], [looks[0], flipped.tobytes()]).pairs == 1
    flipped[1] ^= 1
    assert find_duplicates(["a", "b"], [looks[0], flipped.tobytes()]).pairs == 0


def test_names_are_text_and_never_formulas(tmp_path: Path) -> None:
    """A category that matplotlib, rich or HTML would read as something else."""
    for number, key in enumerate(("a", "b")):
        labels = np.repeat(np.arange(1, 5, dtype=np.uint16), 512).reshape(32, 64)
        labels = np.roll(labels, number, axis=1)
        stage_one(tmp_path / "staged", key, labels, {}, category=r"$\bad{$[/b]<script>x_")
    pack(tmp_path / "staged", tmp_path / "set [/b]")
    write_report(tmp_path / "set [/b]", tmp_path / "out [/b]")
    page = (tmp_path / "out [/b]" / "report.html").read_text()
    assert r"$\bad{$[/b]&lt;script&gt;x 1" in page and "<script>x" not in page


def test_reports_of_two_datasets_do_not_share_a_folder(caps_dataset: Path, tmp_path: Path) -> None:
    """Another dataset's report is refused; one of an earlier state of the same stays beside."""
    mine = tmp_path / "mine"
    synthetic.stage(tmp_path / "staged", 0, 0)
    pack(tmp_path / "staged", mine)
    first = write_report(mine, tmp_path / "out")
    assert write_report(mine, tmp_path / "out") == first  # again is no conflict
    with pytest.raises(UsageError, match="holds the report of mine, not of caps"):
        write_report(caps_dataset, tmp_path / "out")
    synthetic.stage(tmp_path / "staged", 1, 0)
    pack(tmp_path / "staged", mine)
    assert write_report(mine, tmp_path / "out").index.panoramas == 2
    kept = tmp_path / "out" / f"report-{first.index_sha256[:8]}.json"
    assert DatasetStats.model_validate_json(kept.read_bytes()) == first
    assert kept.with_suffix(".html").is_file() and not (tmp_path / "out" / "lease").exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "report.json").write_text('{"miou": 1}')
    with pytest.raises(UsageError, match="of something else, not of mine"):
        write_report(mine, tmp_path / "other")


@pytest.mark.browser
def test_a_browser_shows_the_report(caps_dataset: Path, tmp_path: Path) -> None:
    write_report(caps_dataset, tmp_path)
    for width in (1280, 500):
        with open_tab((tmp_path / "report.html").as_uri(), width) as tab:
            assert (tab.console, tab.requests) == ([], [])
            assert (tab.broken_images(), tab.overflow_px()) == (0, 0)
            assert tab.page.locator("img[src]").count() == 3 * 8
            assert tab.page.locator("svg").count() == 12
            assert tab.page.evaluate("document.documentElement.scrollHeight") > 3000


@pytest.mark.browser
def test_a_gallery_picture_opens_the_panorama_to_look_around_in(
    caps_dataset: Path, tmp_path: Path
) -> None:
    """As a reader does: click the overlay, drag, point at a thing, switch the ids off, Escape."""
    write_report(caps_dataset, tmp_path, gallery=2)
    names = {row.name for row in Dataset.open(caps_dataset)[0].meta.instances}
    with open_tab((tmp_path / "report.html").as_uri()) as tab:
        tab.page.click(".item:first-child figure:last-child button.zoom")
        tab.wait_for("document.querySelector('#sphere > div').dataset.shown > 0")
        x, y, width, height = map(round, tab.box(".ps-stage"))
        first = tab.shot_of(".ps-stage")
        assert first.std() > 10  # something is there
        tab.drag(x + 700, y + 300, x + 300, y + 350)
        tab.page.evaluate(
            "new Promise((done) => setTimeout(done, 1500))"
        )  # the view glides on a little
        turned = tab.shot_of(".ps-stage")
        assert difference(turned, first) > 5
        read = set()
        for fraction in np.linspace(0.05, 0.95, 40):
            tab.page.mouse.move(x + fraction * width, y + (0.3 + 0.4 * fraction) * height)
            read.add(
                tab.page.evaluate("(document.querySelector('.ps-readout b') || {}).textContent")
            )
        assert any(str(text).split(" (")[0] in names for text in read), read
        tab.page.click('[data-layer="instances"]')
        tab.wait_for("document.querySelector('#sphere > div').dataset.shown > 1")
        assert difference(tab.shot_of(".ps-stage"), turned) > 1
        tab.page.keyboard.press("Escape")
        tab.wait_for("!document.getElementById('sphere').open")
        assert (tab.console, tab.requests) == ([], [])


def test_a_second_writer_is_refused_before_the_work(
    caps_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collect, "_collect", lambda *_: pytest.fail("it worked first"))
    with held(tmp_path / "out", "another"), pytest.raises(InUse):
        write_report(caps_dataset, tmp_path / "out")
