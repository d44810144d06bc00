"""Every page that the program writes, for everybody: on a desk and on a phone, light and dark, by
keyboard alone. `pano serve`, which answers, has tests of its own (test_annotation_page.py).
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from browser import open_tab
from everybody import faults, not_reached_by_tab
from repository import ROOT
from rooms import rooms
from videos import dataset_of_videos

from panoforge.cluster.config.jobs import RenderJobConfig
from panoforge.cluster.config.sections import load_section
from panoforge.cluster.state.job_file import save_job
from panoforge.cluster.state.ledger import Ledger
from panoforge.cluster.status.status_page import write_page
from panoforge.core.preview import preview
from panoforge.core.shards.read import Dataset
from panoforge.core.stats import write_report
from panoforge.eval.config import EvalConfig
from panoforge.eval.reports.comparison import render
from panoforge.eval.run import run_evaluation
from panoforge.eval.scoring.compare import compare
from panoforge.label.annotating import annotate
from panoforge.label.config import AnnotateConfig

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]
SCREENS = {
    "desk": (1280, 900, False), "desk, dark": (1280, 900, True),
    "phone": (390, 844, False), "phone, dark": (390, 844, True),
}  # fmt: skip


def stats(caps: Path, out: Path) -> Path:
    write_report(caps, out)
    return out / "report.html"


def video_stats(caps: Path, out: Path) -> Path:
    return stats(dataset_of_videos(out / "videos", scenes=1), out / "stats")


def previewed(caps: Path, out: Path) -> Path:
    paths = preview(Dataset.open(rooms(out, 2, 256)), None, out / "look")
    return next(path for path in paths if path.suffix == ".html")


def evaluation(caps: Path, out: Path) -> Path:
    asked = {
        "predictor": "ground_truth", "methods": ["direct", "scan"], "max_panoramas": 1,
        "device": "cpu", "scan": {"size_px": 128}, "model": {"size": "tiny", "image_size": 128},
    }  # fmt: skip
    run_evaluation(EvalConfig.model_validate(asked), caps, out)
    return out / "eval/latest/report.html"


def dense(caps: Path, out: Path) -> Path:
    data = rooms(out, 4, 256, splits={"train": 0.5, "val": 0.5})
    asked = {"task": "dense", "split": "val", "dense": {"predictor": "mean", "fit_split": "train"}}
    run_evaluation(EvalConfig.model_validate(asked), data, out)
    return out / "eval/latest/report.html"


def video_evaluation(caps: Path, out: Path) -> Path:
    asked = {
        "benchmark": "held_out_video", "split": "train", "device": "cpu",
        "root": str(dataset_of_videos(out / "videos", scenes=1, frames=3)),
        "model": {"size": "micro", "image_size": 64, "checkpoint": "random"},
    }  # fmt: skip
    run_evaluation(EvalConfig.model_validate(asked), caps, out)
    return out / "eval/latest/report.html"


def comparison(caps: Path, out: Path) -> Path:
    for name in ("ground_truth", "empty"):
        asked = {
            "predictor": name, "methods": ["direct"], "max_panoramas": 2, "device": "cpu",
            "model": {"size": "tiny", "image_size": 128},
        }  # fmt: skip
        run_evaluation(EvalConfig.model_validate(asked), caps, out / name)
    page = out / "table.html"
    page.write_text(render(compare([out / "ground_truth", out / "empty"]), "html"))
    return page


def labels(caps: Path, out: Path) -> Path:
    asked = {
        "entities": [{"kind": "truth", "name": "a"}],
        "panoptic": [{"kind": "truth", "name": "b"}, {"kind": "truth", "name": "c"}],
        "follow": {"kind": "noisy_truth"}, "least_free_mb": 1,
    }  # fmt: skip
    films = dataset_of_videos(out / "videos", scenes=1, frames=3)
    annotate(films, out / "labels", AnnotateConfig.model_validate(asked))
    return out / "labels/report.html"


def status(caps: Path, out: Path) -> Path:
    job = load_section(ROOT / "configs/demo.yaml", RenderJobConfig, [f"run={out}"])
    save_job(job)
    Ledger(job.ledger_url).declare("a" * 64, {})
    return write_page(out)


PAGES = (
    stats, video_stats, previewed, evaluation, dense, video_evaluation, comparison, labels, status,
)  # fmt: skip


@pytest.fixture(scope="module")
def pages(caps_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    made: dict[str, Path] = {}

    def page(maker: Callable[[Path, Path], Path]) -> Path:
        name = maker.__name__
        if name not in made:
            made[name] = maker(caps_dataset, tmp_path_factory.mktemp(name))
        return made[name]

    return page


@pytest.mark.parametrize("maker", PAGES, ids=lambda maker: maker.__name__)
def test_everybody_can_use_it(pages: Callable[..., Path], maker: Callable[..., Path]) -> None:
    has_canvas = maker in (previewed, dense)
    found = []
    with open_tab(pages(maker).as_uri(), webgl=has_canvas) as tab:
        tab.page.evaluate("document.querySelectorAll('details').forEach((d) => (d.open = true))")
        for screen, (width, height, dark) in SCREENS.items():
            tab.page.set_viewport_size({"width": width, "height": height})
            tab.page.emulate_media(color_scheme="dark" if dark else "light")
            tab.page.wait_for_timeout(300)
            found += [f"{screen}: {fault}" for fault in faults(tab)]
            if dark:
                found += [f"{screen}: Tab misses {one}" for one in not_reached_by_tab(tab)]
        found += [f"asks for {url}" for url in tab.requests]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("maker", [stats, video_stats, dense], ids=lambda maker: maker.__name__)
def test_what_a_picture_opens_is_for_everybody(
    pages: Callable[..., Path], maker: Callable[..., Path]
) -> None:
    """Opened and closed by keys; the focus comes back to where it was."""
    with open_tab(pages(maker).as_uri()) as tab:
        for width, height, dark in (SCREENS["desk"], SCREENS["phone, dark"]):
            tab.page.set_viewport_size({"width": width, "height": height})
            tab.page.emulate_media(color_scheme="dark" if dark else "light")
            tab.page.locator("button.zoom").first.focus()
            tab.page.keyboard.press("Enter")
            tab.wait_for("document.querySelector('#sphere > div').dataset.shown > 0")
            assert faults(tab) == []
            tab.page.keyboard.press("Escape")
            assert tab.page.locator("dialog[open]").count() == 0
            assert tab.page.evaluate("document.activeElement.className") == "zoom"


def test_these_checks_can_fail(tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<!doctype html><html lang=en><title>x</title><main><h1>x</h1><button></button>"
        "<p style='color:#ccc;background:#fff'>pale</p><div style='width:3000px'>wide</div>"
        "<input aria-label=trap onkeydown='event.preventDefault()'><a href='#x'>behind</a></main>"
    )
    with open_tab(bad.as_uri()) as tab:
        said = "\n".join(faults(tab))
        for fault in ("too small", "without a name", "too wide", "color-contrast"):
            assert fault in said
        assert [one for one in not_reached_by_tab(tab) if "behind" in one]
