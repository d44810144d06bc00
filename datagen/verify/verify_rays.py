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
from pathlib import Path

from panoforge.core.errors import UserError
from panoforge.core.shards.videos import by_video
from panoforge.core.storage.atomic import write_bytes_atomic
from panoforge.datagen.verify.request import (
    VerifyRequest,
    check_identity,
    drawn_pixels,
    read_panorama,
)


def check_scene(request: VerifyRequest) -> list[dict]:
    """One report per panorama, as plain data. Needs bpy; changes the whole process."""
    import bpy

    from panoforge.datagen.defects import cap_subdivision
    from panoforge.datagen.extensions.extension import provide_antlandscape
    from panoforge.datagen.redraw.making import make_redrawn
    from panoforge.datagen.rendering.glass import glass_materials
    from panoforge.datagen.verify.oracle import build_oracle, build_ray_scene
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
        videos = by_video(request.keys)
        if videos:
            return check_videos(request, scene, build_oracle(scene, glass), videos)
        oracle = build_ray_scene(scene, glass)
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


def main(arguments: list[str]) -> int:
    """Check the scene of a request file and write its reports."""
    request = VerifyRequest.model_validate_json(Path(arguments[0]).read_bytes())
    reports = check_scene(request)
    write_bytes_atomic(request.result, json.dumps(reports).encode())
    return 0


if __name__ == "__main__":
    from panoforge.datagen.defects import exit_now

    try:
        code = main(sys.argv[1:])
    except UserError as error:  # Blender may crash where Python ends, after other last words
        print(error, file=sys.stderr, flush=True)
        code = 1
    exit_now(code)
