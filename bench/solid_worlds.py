"""Three small worlds of solids (bench.solids), written in the formats that the product reads.

    stage_panoramas(WORLD_A, folder, count, seed)     staged panoramas, for pano pack
    write_images(folder, count, seed)                 SA-1B: sa_<id>.jpg and .json
    write_videos(folder, count, seed)                 SA-V: <id>_manual.json and frames

- P, perspective only: the stand-in for what SAM2 was pretrained on. Pictures of 45° to 90°, and
  videos whose camera turns by at most 18° a frame. Solids drift, hide one another, leave the
  picture and come back.
- A, panoramas: solids of one colour on all sides, above and below too. Fine-tuning uses it.
- B, panoramas: other shapes, stripes on all of them, stronger light, dimmer colours. Nothing is
  ever trained or chosen on it.

Everything is a function of (world, seed, number).
"""

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from bench.solids import Floats, Scene, Solid, shoot
from panoforge.core.geometry.sphere import View, pixel_to_direction, view_pixel_to_direction
from panoforge.core.sample.instance_table import InstanceLabel, instance_table
from panoforge.core.sample.label_maps import dense_ids, encode_rles
from panoforge.core.sample.metadata import Pose, SampleMeta
from panoforge.core.storage.staged import write_staged

WIDTH, FRAME_PX = 512, 128
VIDEO_FRAMES = 16
ANNOTATED_EVERY = 4  # SA-V: entry k of a masklet is frame 4 k
POSE = Pose(
    position_m=(0.0, 0.0, 0.0),
    yaw_deg=0.0,
    clearance_m=1.0,
    world_from_pano=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
)
CONTRAST = 0.25  # least RGB distance of a solid to the backdrop


@dataclass(frozen=True)
class World:
    """What the scenes of a world are drawn from. Sizes and distances in metres."""

    name: str
    lane: int  # of the random streams: no two worlds share a scene
    kinds: tuple[str, ...]
    striped: float  # chance of a solid
    ambient: tuple[float, float]
    brightest: float
    half: tuple[float, float]
    distance: tuple[float, float]


WORLD_P = World(
    "perspective",
    1,
    ("ball", "cylinder", "box", "pyramid"),
    0.3,
    (0.5, 0.8),
    1.0,
    (0.2, 1.0),
    (2.0, 4.5),
)
WORLD_A = World(
    "a", 2, ("ball", "cylinder", "box", "pyramid"), 0.0, (0.6, 0.8), 1.0, (0.2, 1.3), (1.6, 4.0)
)
WORLD_B = World(
    "b", 3, ("wedge", "hexagon", "octahedron"), 1.0, (0.3, 0.5), 0.7, (0.2, 1.3), (1.6, 4.0)
)


def unit(vector: Floats) -> Floats:
    """The same direction, of length 1."""
    return vector / np.linalg.norm(vector)


def draw_scene(world: World, rng: np.random.Generator, directions: Floats) -> Scene:
    """A scene with one solid in each of `directions` (K×3)."""
    below, above = rng.uniform(0, world.brightest, (2, 3))
    solids = []
    for direction in directions:
        colours = rng.uniform(0, world.brightest, (2, 3))
        while min(np.linalg.norm(colours[0] - side) for side in (below, above)) < CONTRAST:
            colours = rng.uniform(0, world.brightest, (2, 3))
        half = rng.uniform(*world.half) * rng.uniform(0.6, 1.4, 3)
        away = max(rng.uniform(*world.distance), 1.2 * float(half.max()) + 0.4)
        solids.append(
            Solid(
                str(rng.choice(world.kinds)),
                direction * away,
                np.linalg.qr(rng.normal(size=(3, 3)))[0],
                half,
                colours,
                float(rng.uniform(1.5, 4)) if rng.random() < world.striped else 0.0,
            )
        )
    light = unit(rng.normal(size=3))
    return Scene(tuple(solids), below, above, light, rng.uniform(*world.ambient))


def stage_panoramas(world: World, folder: Path, count: int, seed: int) -> None:
    """Stage `count` panoramas; those that are there stay."""
    rays = pixel_to_direction(
        np.arange(WIDTH)[None, :], np.arange(WIDTH // 2)[:, None], WIDTH, WIDTH // 2
    )
    for number in range(count):
        key = f"{world.name}-{number:05d}-c0"
        if (folder / key).exists():
            continue
        rng = np.random.default_rng([seed, world.lane, number])
        around = np.stack([unit(v) for v in rng.normal(size=(int(rng.integers(8, 15)), 3))])
        scene = draw_scene(world, rng, around)
        index, rgb = shoot(np.zeros(3), rays, scene)
        labels, originals = dense_ids(index)
        names = {
            dense + 1: InstanceLabel(f"s{i}", scene.solids[i - 1].kind, f"s{i}")
            for dense, i in enumerate(int(i) for i in originals if i > 0)
        }
        arrays = {"rgb.png": rgb, "instance.zst": labels}
        meta = SampleMeta(
            key=key,
            width=WIDTH,
            height=WIDTH // 2,
            source=f"bench/{world.name}",
            scene=f"{world.name}-{number:05d}",
            seed=seed * 10**6 + number,
            camera=0,
            pose=POSE,
            products=tuple(sorted(arrays)),
            instances=instance_table(labels, names),
            config_sha256="0" * 64,
            versions={"numpy": np.__version__},
        )
        write_staged(folder, meta, arrays)


def frame_rays(yaw_deg: float, pitch_deg: float, fov_deg: float) -> Floats:
    """The rays of a square perspective frame."""
    place = np.arange(FRAME_PX)
    view = View(yaw_deg, pitch_deg, fov_deg, FRAME_PX)
    rays = view_pixel_to_direction(place[None, :], place[:, None], view)
    return np.broadcast_to(rays, (FRAME_PX, FRAME_PX, 3))


def before(rng: np.random.Generator, count: int, cone_deg: float) -> Floats:
    """Directions around straight ahead, K×3."""
    ahead = frame_rays(0.0, 0.0, 2.0)[FRAME_PX // 2, FRAME_PX // 2]
    spread = np.tan(np.radians(cone_deg))
    return np.stack([unit(unit(ahead) + spread * rng.uniform(-1, 1, 3)) for _ in range(count)])


def write_images(folder: Path, count: int, seed: int) -> None:
    """`count` pictures of world P with all their masks, as SA-1B has them."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        if (folder / f"sa_{number}.json").exists():
            continue
        rng = np.random.default_rng([seed, WORLD_P.lane, 0, number])
        scene = draw_scene(WORLD_P, rng, before(rng, int(rng.integers(4, 9)), 35.0))
        rays = frame_rays(
            float(rng.uniform(-8, 8)), float(rng.uniform(-8, 8)), float(rng.uniform(45, 90))
        )
        index, rgb = shoot(np.zeros(3), rays, scene)
        size = {"height": FRAME_PX, "width": FRAME_PX}
        masks = [
            {"id": int(id_), "segmentation": _plain(rle), "area": int((index == id_).sum())}
            for id_, rle in encode_rles(index).items()
        ]
        _save_jpeg(folder / f"sa_{number}.jpg", rgb)
        content = {"image": {"image_id": number, **size}, "annotations": masks}
        (folder / f"sa_{number}.json").write_text(json.dumps(content))


def write_videos(folder: Path, count: int, seed: int) -> None:
    """`count` videos of world P, as SA-V has them: annotated frames only, as extracted JPEGs."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        name = f"p_{number:06d}"
        if (folder / f"{name}_manual.json").exists():
            continue
        images, indices, solids = video(seed, number)
        (folder / name).mkdir(exist_ok=True)
        for t, image in enumerate(images):
            _save_jpeg(folder / name / f"{ANNOTATED_EVERY * t:05d}.jpg", image)
        empty = {"size": [FRAME_PX, FRAME_PX], "counts": _empty_counts()}
        masklet = []
        for index in indices:
            rles = {int(id_): _plain(rle) for id_, rle in encode_rles(index).items()}
            masklet.append([rles.get(id_, empty) for id_ in range(1, solids + 1)])
        content = {
            "video_id": name,
            "video_height": FRAME_PX,
            "video_width": FRAME_PX,
            "masklet": masklet,
        }
        (folder / f"{name}_manual.json").write_text(json.dumps(content))


def video(seed: int, number: int) -> tuple[list[np.ndarray], list[np.ndarray], int]:
    """Frames (RGB), their ids, and how many solids there are, of one video of world P.

    The camera swings: a turn of at most 18° from frame to frame, there and back, so what leaves
    returns. It also moves by up to 4 cm a frame, solids by up to 8 cm.
    """
    rng = np.random.default_rng([seed, WORLD_P.lane, 1, number])
    scene = draw_scene(WORLD_P, rng, before(rng, int(rng.integers(5, 10)), 45.0))
    drift = rng.uniform(-0.08, 0.08, (len(scene.solids), 3))
    step = rng.uniform(-0.04, 0.04, 3)
    fov, phase = float(rng.uniform(55, 90)), rng.uniform(0, 2 * np.pi, 2)
    swing = rng.uniform(15, 45), rng.uniform(0, 15)
    rate = 2 * np.pi / rng.uniform(16, 32)
    images, indices = [], []
    for t in range(VIDEO_FRAMES):
        moved = tuple(
            Solid(s.kind, s.centre + t * d, s.axes, s.half, s.colours, s.stripes)
            for s, d in zip(scene.solids, drift, strict=True)
        )
        yaw, pitch = (w * np.sin(rate * t + p) for w, p in zip(swing, phase, strict=True))
        now = Scene(moved, scene.below, scene.above, scene.light, scene.ambient)
        index, rgb = shoot(t * step, frame_rays(float(yaw), float(pitch), fov), now)
        images.append(rgb)
        indices.append(index)
    return images, indices, len(scene.solids)


def _plain(rle: object) -> dict[str, object]:
    found = dict(rle)  # type: ignore[call-overload]
    counts = found["counts"]
    return {
        "size": list(found["size"]),
        "counts": counts.decode() if isinstance(counts, bytes) else counts,
    }


def _empty_counts() -> str:
    from pycocotools import mask

    counts: bytes = mask.encode(np.zeros((FRAME_PX, FRAME_PX), np.uint8, order="F"))["counts"]
    return counts.decode()


def _save_jpeg(path: Path, rgb: np.ndarray) -> None:
    cv2.imwrite(str(path), rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
