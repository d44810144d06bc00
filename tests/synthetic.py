"""Small panoramas with known answers, for tests of what comes after the renderer: coloured
spherical caps on a plain sky.

Cap k is painted where the angle to its centre is below its radius; later caps hide earlier ones.
The first cap sits on the seam, the second on the north pole, so the hard places are always there.
"""

from pathlib import Path

import numpy as np

from panoforge.core.geometry.sphere import angle_between, lonlat_to_direction, pixel_to_direction
from panoforge.core.sample.instance_table import InstanceLabel, instance_table
from panoforge.core.sample.label_maps import dense_ids
from panoforge.core.sample.metadata import Pose, SampleMeta
from panoforge.core.shards.write import PackOptions, pack
from panoforge.core.storage.staged import write_staged


def caps(rng: np.random.Generator, width: int, n_caps: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """(rgb uint8 H×W×3, labels uint16 H×W) of `n_caps` caps; ids are dense from 1."""
    height = width // 2
    directions = pixel_to_direction(
        np.arange(width)[None, :], np.arange(height)[:, None], width, height
    )
    lon, lat = rng.uniform(-np.pi, np.pi, n_caps), np.arcsin(rng.uniform(-1, 1, n_caps))
    radius = rng.uniform(0.15, 0.5, n_caps)
    lon[0], lat[0] = np.pi, 0.2
    lat[1 % n_caps] = np.pi / 2
    labels = np.zeros((height, width), np.uint16)
    rgb = np.full((height, width, 3), (110, 130, 150), np.uint8)
    for k, centre in enumerate(lonlat_to_direction(lon, lat)):
        inside = angle_between(directions, centre) < radius[k]
        labels[inside] = k + 1
        rgb[inside] = rng.integers(0, 256, 3)
    noise = rng.integers(-6, 7, rgb.shape)
    return np.clip(rgb + noise, 0, 255).astype(np.uint8), dense_ids(labels)[0]


def stage(
    staged: Path, scene: int, camera: int, width: int = 256, *, n_caps: int = 8, rle: bool = False
) -> str:
    """Stage one such panorama (rgb, instance, depth) and return its key."""
    rng = np.random.default_rng([scene, camera])
    rgb, labels = caps(rng, width, n_caps)
    names = {
        i: InstanceLabel(
            f"cap_{i}",
            ("sofa", "lamp", "plant")[i % 3],
            f"Cap.{i:03d}",
            visibility=(1 / i, None)[i % 4 == 3],
        )
        for i in range(1, n_caps + 1)
    }  # any share will do: what follows the renderer only carries it
    key = f"caps-{scene:06d}-c{camera}"
    arrays = {
        "rgb.jpg": rgb,
        "instance.zst": labels,
        "depth.delta.zst": np.where(
            labels > 0, labels * np.float32(0.5), np.float32(np.inf)
        ).astype(np.float32),
    }
    meta = SampleMeta(
        key=key,
        width=width,
        height=width // 2,
        source="synthetic/caps",
        scene=f"caps-{scene:06d}",
        seed=scene,
        camera=camera,
        pose=Pose(
            position_m=(0.0, 0.0, 1.5),
            yaw_deg=0.0,
            clearance_m=0.5,
            world_from_pano=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
        ),
        products=tuple(sorted(arrays)),
        instances=instance_table(labels, names, rle=rle),
        config_sha256="0" * 64,
        versions={"panoforge": "test"},
        timings_s={"generate": 1.0, "sample": 2.0},
    )
    write_staged(staged, meta, arrays)
    return key


def dataset(
    folder: Path,
    scenes: int = 4,
    cameras: int = 2,
    width: int = 256,
    options: PackOptions = PackOptions(),
    *,
    n_caps: int = 8,
    rle: bool = False,
) -> Path:
    """A published dataset of such panoramas at `folder`/dataset."""
    for scene in range(scenes):
        for camera in range(cameras):
            stage(folder / "staged", scene, camera, width, n_caps=n_caps, rle=rle)
    pack(folder / "staged", folder / "dataset", options)
    return folder / "dataset"
