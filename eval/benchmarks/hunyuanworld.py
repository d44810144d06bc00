"""Benchmark `hunyuanworld`: panoramas that HunyuanWorld-1.0 generates, with masks that you supply.

HunyuanWorld-1.0 is a generator: it writes panorama.png (1920×960, or 3840×1920 with
super-resolution), and no instance ground truth; SAP's annotations of it are not published. Its own
<layer>_mask.png are a step of scene generation, no ground truth, and not read.
"""

from dataclasses import replace
from pathlib import Path

from panoforge.core.errors import DataError
from panoforge.core.foreign.files import found_in
from panoforge.core.foreign.left_out import LeftOut
from panoforge.core.numbers import counted
from panoforge.eval.benchmarks.base import Benchmark, Opened, PanoramaItem
from panoforge.eval.benchmarks.folder import COCO, LAYOUT, open_coco, open_folder, pair_item

IMAGE, IDS = "panorama.png", "instance.png"


def open_cases(root: Path, split: str | None) -> Opened[PanoramaItem]:
    """The cases of HunyuanWorld's benchmark."""
    folder = root / split if split else root
    if (folder / "images").is_dir():
        return open_folder(root, split)
    cases = sorted(p for p in folder.iterdir() if (p / IMAGE).is_file()) if folder.is_dir() else []
    if not cases:
        raise DataError(f"{folder}: expected <case>/{IMAGE}, or images/; found {found_in(folder)}")
    items = []
    others = {p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")}
    others -= {case.name for case in cases}
    left_out = LeftOut.of((f"folder without {IMAGE}", name) for name in sorted(others))
    for case in cases:
        if (case / IDS).is_file():
            items.append(pair_item(case.name, case / IMAGE, case / IDS))
        elif (case / COCO).is_file():
            found = open_coco(case, case / COCO)
            if len(found) != 1:
                raise DataError(
                    f"{case / COCO} has {counted(len(found), 'image')} with objects, expected one:"
                    f" {IMAGE}"
                )
            items.append(replace(found[0], key=case.name))
            left_out += found.left_out.inside(case.name)
        else:
            raise DataError(
                f"{case} has neither {IDS} (an id map) nor {COCO} (COCO instances of {IMAGE}):"
                f" found {found_in(case)}. Add one of both, or take the case away"
            )
    return Opened(items, left_out)


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
