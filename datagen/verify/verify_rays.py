"""Check one scene's panoramas by rays, in a process of its own.

`python -m panoforge.datagen.verify.verify_rays JOB.json`.

The scene is made again from its seed; a .blend of a user's is opened again. It stays as its source
made it, but for the subdivision cap, which is part of what was asked for. See
`panoforge.datagen.verify.oracle` for what is compared. Pixels are drawn from a generator of the
sample's key, so the same check gives the same answer. The report is JSON, written as the last act.
"""

import json
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from panoforge.core.errors import DataError
from panoforge.core.models import FrozenModel
from panoforge.core.sample.metadata import SampleMeta
from panoforge.core.sample.products import FLOWS, PRODUCT_OF_SUFFIX, decode_product
from panoforge.core.shards.videos import by_video
from panoforge.core.storage.atomic import write_bytes_atomic
from panoforge.core.storage.staged import read_staged
from panoforge.datagen.config.render import RenderConfig, SceneJob
from panoforge.datagen.scene.scene import Scene


class VerifyRequest(FrozenModel):
    """Which panoramas of which scene, and how many rays in each."""

    scene: SceneJob
    seed: int
    render: RenderConfig
    staged: Path
    keys: tuple[str, ...]
    rays: int
    result: Path


def check_scene(request: VerifyRequest) -> list[dict]:
    """One report per panorama, as plain data. Needs bpy; changes the whole process."""
    import bpy

    from panoforge.datagen.defects import cap_subdivision
    from panoforge.datagen.extensions.extension import provide_antlandscape
    from panoforge.datagen.redraw.making import make_redrawn
    from panoforge.datagen.rendering.glass import glass_materials
    from panoforge.datagen.verify.oracle import build_oracle
    from panoforge.datagen.verify.ray_judge import judge
    from panoforge.datagen.verify.video_check import check_videos

    bpy.ops.wm.read_factory_settings(use_empty=True)
    with tempfile.TemporaryDirectory() as folder:
        provide_antlandscape(request.render.antlandscape, Path(folder))
        scene = make_redrawn(request.render, request.scene, request.seed)
        cap_subdivision(bpy.data.objects, request.render.subdivision_cap)
        glass = (
            frozenset(glass_materials()) if request.render.glass == "see-through" else frozenset()
        )
        oracle = build_oracle(scene, glass)
    videos = by_video(request.keys)
    if videos:
        return check_videos(request, scene, oracle, videos)
    reports = []
    for key in request.keys:
        meta, arrays = read_panorama(request.staged, key)
        check_identity(meta, scene)
        pixels = drawn_pixels(meta, request.rays)
        report = judge(
            oracle,
            meta,
            arrays["instance"],
            arrays.get("depth"),
            pixels,
            displacement=request.render.displacement == "true",
        )
        reports.append(vars(report))
    return reports


def read_panorama(staged: Path, key: str) -> tuple[SampleMeta, dict[str, NDArray]]:
    """A staged panorama's metadata, and its ids, depth and flows by the names of products."""
    meta, members = read_staged(staged, key)
    wanted = ("instance", "depth", *FLOWS)
    names = {suffix: PRODUCT_OF_SUFFIX[suffix] for suffix in meta.products}
    return meta, {
        name: decode_product(suffix, members[suffix])
        for suffix, name in names.items()
        if name in wanted
    }


def drawn_pixels(meta: SampleMeta, rays: int) -> NDArray[np.int64]:
    """Flat indices of the pixels that are checked: drawn by the sample's key, sorted."""
    rng = np.random.default_rng([zlib.crc32(meta.key.encode()), rays])
    count = meta.width * meta.height
    return np.sort(rng.choice(count, min(rays, count), replace=False))


def check_identity(meta: SampleMeta, scene: Scene) -> None:
    """DataError if the scene came out otherwise than the one that was rendered.

    Infinigen 1 does not repeat to the last vertex.
    """
    for name, made in scene.versions.items():
        rendered = meta.versions.get(name)
        if name.endswith("_scene") and rendered not in (None, made):
            raise DataError(
                f"{meta.key} shows scene {rendered}, and its seed now makes {made}: rays would be"
                " compared with another scene. Keep generated scenes (cache of the source) to"
                " check them"
            )


def main(arguments: list[str]) -> int:
    """Check the scene of a request file and write its reports."""
    request = VerifyRequest.model_validate_json(Path(arguments[0]).read_bytes())
    reports = check_scene(request)
    write_bytes_atomic(request.result, json.dumps(reports).encode())
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    from panoforge.datagen.defects import exit_now

    exit_now(code)
