"""`pano verify`: gigabytes per second of one core on a warm cache, over 4096×2048 samples as they
are rendered.

Members are of the sizes and kinds that a run makes by default. They are a JPEG of a noisy picture,
the rendered label map of a furnished room with its instance table, float32 depth and float16
normals. Everything that the command checks by default is checked: each shard's digest, headers,
padding, members' checksums, both indices, metadata, and the label map against its table. Beside it
one SHA-256 over the same files, which no verification can be faster than.
"""

import hashlib
import json
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.common import RESULTS, arguments, interleave, machine, median, spread, use_one_thread
from bench.maps import picture, room_labels
from panoforge.core.geometry.sphere import pixel_to_direction
from panoforge.core.sample.instance_table import InstanceLabel, instance_table
from panoforge.core.sample.metadata import Pose, SampleMeta
from panoforge.core.shards.layout import read_manifest
from panoforge.core.shards.verify import verify
from panoforge.core.shards.write import PackOptions, pack
from panoforge.core.storage.staged import write_staged

TARGET_GB_PER_S = 0.5


def room_depth(labels: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Distances in a box of a room of 5×4×2.8 m, each instance set forward by its own share: smooth
    with edges, as rendered.
    """
    height, width = labels.shape
    directions = pixel_to_direction(
        np.arange(width)[None, :], np.arange(height)[:, None], width, height
    )
    half_m = np.array([2.5, 2.0, 1.4])
    distance = (half_m / np.maximum(np.abs(directions), 1e-6)).min(axis=-1)
    return (distance * (1 - 0.5 * (labels % 17) / 17)).astype(np.float32)


def room_normals(labels: NDArray[np.uint16]) -> NDArray[np.float16]:
    """One normal per instance, with the waviness of a normal map in the last bits."""
    rng = np.random.default_rng(0)
    of_instance = rng.normal(size=(int(labels.max()) + 1, 3))
    normals = of_instance[labels] + 0.002 * rng.normal(size=(*labels.shape, 1))
    return (normals / np.linalg.norm(normals, axis=-1, keepdims=True)).astype(np.float16)


def make_dataset(folder: Path, samples: int, *, geometry: bool) -> Path:
    """A dataset of `samples` such panoramas; without `geometry` they have colour and labels
    only."""
    labels = room_labels()
    arrays: dict[str, NDArray] = {"rgb.jpg": picture(), "instance.zst": labels}
    if geometry:
        arrays |= {"depth.delta.zst": room_depth(labels), "normal.oct.zst": room_normals(labels)}
    names = {
        int(id_): InstanceLabel(f"thing_{id_}", "chair", f"Thing.{id_:03d}")
        for id_ in np.unique(labels)
        if id_
    }
    table = instance_table(labels, names)
    for number in range(samples):
        write_staged(
            folder / "staged",
            SampleMeta(
                key=f"room-{number:08d}-c0",
                width=4096,
                height=2048,
                source="bench",
                scene=f"room-{number:08d}",
                seed=number,
                camera=0,
                pose=Pose(
                    position_m=(0.0, 0.0, 1.5),
                    yaw_deg=0.0,
                    world_from_pano=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
                ),
                products=tuple(sorted(arrays)),
                instances=table,
                config_sha256="0" * 64,
                versions={},
            ),
            arrays,
        )
    pack(folder / "staged", folder / "dataset", PackOptions(splits=(("train", 1.0),)))
    return folder / "dataset"


def hash_files(dataset: Path) -> None:
    """One SHA-256 over every shard."""
    for entry in read_manifest(dataset).shards:
        with open(dataset / entry.name, "rb") as file:
            hashlib.file_digest(file, "sha256")


def main() -> None:
    args = arguments(__doc__).parse_args()
    use_one_thread()
    speeds, sizes_mb, hashing = {}, {}, {}
    for kind, geometry in (("default products", True), ("colour and labels", False)):
        with tempfile.TemporaryDirectory() as scratch:
            dataset = make_dataset(Path(scratch), 4 if args.quick else 12, geometry=geometry)
            manifest = read_manifest(dataset)
            size = sum(entry.bytes for entry in manifest.shards)
            report = verify(dataset)
            assert report.faults == () and report.samples == manifest.samples
            _assert_a_flipped_bit_is_found(dataset)
            seconds = interleave(
                {"ours": partial(verify, dataset), "sha256": partial(hash_files, dataset)},
                repeats=5 if args.quick else 9,
            )
            print(
                f"{kind}: {size / 1e6:.0f} MB, ours {spread(seconds['ours'])} ms, sha256"
                f" {spread(seconds['sha256'])} ms"
            )
            speeds[kind] = size / 1e9 / median(seconds["ours"])
            hashing[kind] = size / 1e9 / median(seconds["sha256"])
            sizes_mb[kind] = size / 1e6 / manifest.samples
    ours = speeds["default products"]
    for kind, speed in speeds.items():
        print(
            f"verify_speed, {kind}, {sizes_mb[kind]:.1f} MB a sample: {speed:.2f} GB/s per core"
            f" (SHA-256 {hashing[kind]:.2f})"
        )
    if args.record:
        _record(speeds, hashing, sizes_mb)
    print(
        json.dumps(
            {
                "bench": "verify_speed",
                "ok": ours >= TARGET_GB_PER_S,
                "gb_per_s": round(ours, 3),
                "target": TARGET_GB_PER_S,
                "by_kind": {kind: round(speed, 3) for kind, speed in speeds.items()},
                "sha256_gb_per_s": {kind: round(speed, 3) for kind, speed in hashing.items()},
                "mb_per_sample": {kind: round(size, 2) for kind, size in sizes_mb.items()},
                "machine": machine(),
                "quick": args.quick,
            }
        )
    )
    sys.exit(0 if ours >= TARGET_GB_PER_S else 1)


def _assert_a_flipped_bit_is_found(dataset: Path) -> None:
    """What is timed does verify: one bit in the middle of a shard, and back."""
    shard = dataset / read_manifest(dataset).shards[0].name
    with open(shard, "r+b") as file:
        for turn in range(2):
            file.seek(shard.stat().st_size // 2)
            byte = file.read(1)[0]
            file.seek(-1, 1)
            file.write(bytes([byte ^ 16]))
            file.flush()
            if turn == 0:
                assert [fault.sample for fault in verify(dataset).faults if fault.sample]
    assert verify(dataset).faults == ()


def _record(
    speeds: dict[str, float], hashing: dict[str, float], sizes_mb: dict[str, float]
) -> None:
    today = time.strftime("%Y-%m-%d", time.gmtime())
    with open(RESULTS, "a") as file:
        for kind, speed in speeds.items():
            met = "yes" if speed >= TARGET_GB_PER_S else "**no**"
            cells = (
                today,
                "verify_speed",
                f"SHA-256 alone ({kind}, {sizes_mb[kind]:.1f} MB a sample)",
                f"{1 / speed:.3f}",
                f"{1 / hashing[kind]:.3f}",
                f"CPU s/GB: {speed:.2f} GB/s per core",
                f"{speed / hashing[kind]:.2f}",
                f"{TARGET_GB_PER_S} GB/s",
                met,
                machine(),
            )
            file.write("| " + " | ".join(cells) + " |\n")


if __name__ == "__main__":
    main()
