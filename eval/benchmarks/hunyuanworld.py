"""Benchmark `hunyuanworld`: panoramas that HunyuanWorld-1.0 generates, with masks that you supply.

HunyuanWorld-1.0 is a generator: it writes panorama.png (1920×960, or 3840×1920 with
super-resolution), and no instance ground truth; SAP's annotations of it are not published. Its own
<layer>_mask.png are a step of scene generation, no ground truth, and not read.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from panoforge.core.errors import DataError
from panoforge.core.foreign.files import found_in
from panoforge.eval.benchmarks.base import Benchmark, PanoramaItem
from panoforge.eval.benchmarks.folder import COCO, LAYOUT, open_coco, open_folder, pair_item

IMAGE, IDS = "panorama.png", "instance.png"


def open_cases(root: Path, split: str | None) -> Sequence[PanoramaItem]:
    """The cases of HunyuanWorld's benchmark."""
    folder = root / split if split else root
    if (folder / "images").is_dir():
        return open_folder(root, split)
    cases = sorted(p for p in folder.iterdir() if (p / IMAGE).is_file()) if folder.is_dir() else []
    if not cases:
        raise DataError(f"{folder}: expected <case>/{IMAGE}, or images/; found {found_in(folder)}")
    items = []
    for case in cases:
        if (case / IDS).is_file():
            items.append(pair_item(case.name, case / IMAGE, case / IDS))
        elif (case / COCO).is_file():
            (item,) = open_coco(case, case / COCO)
            items.append(replace(item, key=case.name))
        else:
            raise DataError(
                f"{case} has neither {IDS} (an id map) nor {COCO} (COCO instances of {IMAGE}):"
                f" found {found_in(case)}"
            )
    return items


BENCHMARKS = (
    Benchmark(
        "hunyuanworld",
        "HunyuanWorld-1.0 panoramas with your own masks",
        "images",
        "generate them with github.com/Tencent-Hunyuan/HunyuanWorld-1.0 (demo_panogen.py) and"
        " annotate them; no masks are published.",
        "the Tencent HunyuanWorld-1.0 community licence (not in the EU, the UK and South Korea) for"
        " the panoramas; masks are yours.",
        f"    <case>/{IMAGE} with <case>/{IDS} (id map) or <case>/{COCO} (COCO of that one image),"
        f" or\n{LAYOUT}",
        open_cases,
    ),
)
