"""Benchmark `structured3d`: Structured3D's panoramas with their instance maps.

Zheng et al., ECCV 2020.

Instances are furniture only: walls, floors and ceilings have none (their issue 12), and only `full`
configurations are annotated. 65535 is background. A few published masks are of another size than
their image (errata.txt, issue 63): those are refused by name.
"""

from pathlib import Path

from panoforge.core.errors import DataError
from panoforge.core.foreign.files import found_in
from panoforge.core.foreign.left_out import LeftOut
from panoforge.core.numbers import counted
from panoforge.eval.benchmarks.base import Benchmark, Opened, PanoramaItem
from panoforge.eval.benchmarks.folder import pair_item

BACKGROUND = 65535


def open_rooms(root: Path, split: str | None) -> Opened[PanoramaItem]:
    """The rooms of Structured3D, scene by scene."""
    folder = root / split if split else root
    scenes = sorted(p for p in folder.glob("scene_*") if p.is_dir()) if folder.is_dir() else []
    if not scenes:
        raise DataError(
            f"{folder}: expected folders scene_00000, scene_00001, …; found {found_in(folder)}"
        )
    items, other = [], []
    for scene in scenes:
        rooms = sorted(p for p in (scene / "2D_rendering").glob("*") if p.is_dir())
        other += [] if rooms else [("scene without 2D_rendering/<room>", scene.name)]
        for room in rooms:
            key, full = f"{scene.name}_{room.name}", room / "panorama/full"
            image, ids = full / "rgb_rawlight.png", full / "instance.png"
            missing = [path.name for path in (image, ids) if not path.is_file()]
            if missing:
                other.append((f"room without panorama/full/{' and '.join(missing)}", key))
            else:
                items.append(pair_item(key, image, ids, (BACKGROUND,)))
    if not items:
        raise DataError(
            f"{folder} has {counted(len(scenes), 'scene')}, and none with"
            " 2D_rendering/<room>/panorama/full/rgb_rawlight.png and instance.png: unpack the"
            f" panorama and the annotation archives into one folder. {scenes[0].name} holds"
            f" {found_in(scenes[0])}"
        )
    return Opened(items, LeftOut.of(other))


BENCHMARKS = (
    Benchmark(
        "structured3d",
        "Structured3D panoramas, full configuration",
        "images",
        "structured3d-dataset.org, after agreeing to the terms of use by the form there"
        " (Structured3D_panorama_*.zip).",
        "its terms of use: non-commercial research; no redistribution.",
        "    scene_<number>/2D_rendering/<room>/panorama/full/{rgb_rawlight,instance}.png  "
        " instance: 16 bit, 65535 = background",
        open_rooms,
    ),
)
