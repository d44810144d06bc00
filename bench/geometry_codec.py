"""Depth and normals on disk: size and decoding of our members against zstd alone, float16 and PNG.

Maps are what the renderer gives: a furnished room, open ground, hills with sky at infinity. Name
folders of staged panoramas with `--maps`, or one `.npz` with `depth` float32 and `normal` float32.
Without, a room of boxes is cast here, as noisy in its last bits as a renderer. Every decoder gives
back what it should, asserted first. Peers: zstd over the raw floats (what our members were), the
same of float16, 16-bit PNG of millimetres (depth), 8-bit PNG (normals, far coarser). Where ffmpeg
is installed, Infinigen 2's cvdpack too: floats as pairs of 16-bit numbers, normals as two angles of
16 bits, in a lossless video of one frame. Of its decoding ffmpeg's own CPU is not counted.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from bench.common import (
    Outcome,
    Peer,
    arguments,
    finish,
    interleave,
    median,
    use_one_thread,
)
from panoforge.core.geometry.sphere import pixel_to_direction
from panoforge.core.sample.array_codec import decode_array, encode_array
from panoforge.core.sample.products import decode_product, encode_product, half_depth


@dataclass(frozen=True)
class Maps:
    """Depth float32 H×W in metres and unit normals float32 H×W×3 of one panorama."""

    name: str
    depth: NDArray[np.float32]
    normal: NDArray[np.float32]


@dataclass(frozen=True)
class Form:
    """One way to store a map: its bytes, and how they become the map again."""

    name: str
    data: bytes
    decode: Callable[[], object]


def box_room(width: int) -> Maps:
    """A room of 5×4×2.8 m with boxes and a window, its last bits as noisy as a renderer's."""
    rng = np.random.default_rng(0)
    rays = pixel_to_direction(
        np.arange(width)[None], np.arange(width // 2)[:, None], width, width // 2
    )
    reach = np.array([2.5, 2.0, 1.4]) / np.maximum(np.abs(rays), 1e-6)
    depth, wall = reach.min(axis=-1), reach.argmin(axis=-1)
    normal = -np.sign(rays) * (wall[..., None] == np.arange(3))
    for _ in range(40):
        centre, size = rng.uniform(-2, 2, 3) * (1, 0.8, 0.6), rng.uniform(0.1, 0.5, 3)
        near = (centre - np.sign(rays) * size) / np.where(np.abs(rays) > 1e-9, rays, 1e-9)
        far = (centre + np.sign(rays) * size) / np.where(np.abs(rays) > 1e-9, rays, 1e-9)
        hit, face = near.max(axis=-1), near.argmax(axis=-1)
        seen = (hit < far.min(axis=-1)) & (hit > 0.1) & (hit < depth)
        depth[seen] = hit[seen]
        normal[seen] = (-np.sign(rays) * (face[..., None] == np.arange(3)))[seen]
    depth = (depth * (1 + 1e-7 * rng.normal(size=depth.shape))).astype(np.float32)
    window = (slice(width // 8, width // 5), slice(width // 4, width // 3))
    depth[window], normal[window] = np.inf, 0
    return Maps("boxes", depth, normal.astype(np.float32))


def staged(folder: Path) -> Maps:
    """The maps of a staged panorama, or of an .npz."""
    if folder.suffix == ".npz":
        arrays = np.load(folder)
        return Maps(folder.stem, arrays["depth"], arrays["normal"])
    found = {}
    for path in folder.iterdir():
        if path.name.split(".")[0] in ("depth", "normal"):
            found[path.name.split(".")[0]] = decode_product(path.name, path.read_bytes())
    return Maps(folder.name, found["depth"], found["normal"].astype(np.float32))


def png(array: NDArray) -> bytes:
    return cv2.imencode(".png", array, [cv2.IMWRITE_PNG_COMPRESSION, 6])[1].tobytes()


def unpng(data: bytes) -> NDArray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


def depth_forms(maps: Maps) -> Iterator[Form]:
    """Ours first, then the default before it."""
    depth = maps.depth
    ours, plain = encode_product("depth.delta.zst", depth), encode_array(depth)
    assert np.array_equal(decode_product("depth.delta.zst", ours), depth)
    assert np.array_equal(decode_array(plain), depth)
    yield Form("ours", ours, lambda: decode_product("depth.delta.zst", ours))
    yield Form("zstd", plain, lambda: decode_array(plain))
    half = encode_product("depth.delta.zst", half_depth(depth))
    yield Form("ours, float16", half, lambda: decode_product("depth.delta.zst", half))
    plain_half = encode_array(half_depth(depth))
    yield Form("zstd, float16", plain_half, lambda: decode_array(plain_half))
    near = np.where(np.isfinite(depth), depth, 0).astype(np.float64)
    steps = png(np.minimum(np.rint(near * 1000), 65535).astype(np.uint16))
    yield Form("PNG16 of mm", steps, lambda: unpng(steps))
    yield from cvdpack_form(depth, "f32_as_2int16")


def normal_forms(maps: Maps) -> Iterator[Form]:
    normal, half = maps.normal, maps.normal.astype(np.float16)
    ours, plain = encode_product("normal.oct.zst", normal), encode_array(half)
    back = decode_product("normal.oct.zst", ours).astype(np.float64)
    chord = np.linalg.norm(back - normal, axis=-1)
    assert np.degrees(2 * np.arcsin(chord.max() / 2)) < 0.0501
    yield Form("ours", ours, lambda: decode_product("normal.oct.zst", ours))
    yield Form("zstd", plain, lambda: decode_array(plain))
    lossless = encode_product("normal.delta.zst", half)
    assert np.array_equal(decode_product("normal.delta.zst", lossless), half)
    yield Form("ours, float16", lossless, lambda: decode_product("normal.delta.zst", lossless))
    coarse = png(np.rint(127.5 * (normal + 1)).astype(np.uint8))
    yield Form("PNG8", coarse, lambda: unpng(coarse))
    yield from cvdpack_form(normal, "3f32_unit_sphere_as_2int16")


def cvdpack_form(array: NDArray[np.float32], method: str) -> Iterator[Form]:
    """As cvdpack packs a frame; nothing where there is no ffmpeg."""
    if shutil.which("ffmpeg") is None:
        return
    from cvdpack.pack_frames import get_channel_packer
    from cvdpack.pack_timeseries import pack_video, unpack_video

    packer = get_channel_packer({"method": method, "out_of_bounds_method": "error"})
    pairs = np.pad(packer.pack(array), ((0, 0), (0, 0), (0, 1)))  # no picture has two channels
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        (place / "0000.png").write_bytes(png(pairs))
        pack_video(place / "{frame:04d}.png", place / "frames.mkv", place / "work")
        data = (place / "frames.mkv").read_bytes()

    def decode() -> NDArray:
        with tempfile.TemporaryDirectory() as name:
            place = Path(name)
            (place / "frames.mkv").write_bytes(data)
            (place / "out").mkdir()
            unpack_video(place / "frames.mkv", place / "out" / "{frame:04d}.png", place / "work")
            return packer.unpack(unpng((place / "out" / "0000.png").read_bytes()))

    back = decode()
    if array.ndim == 2:
        assert np.array_equal(back[..., 0], array)
    else:
        there = np.linalg.norm(array, axis=-1) > 0.5
        assert np.abs(back[there] - array[there]).max() < 1e-3
    yield Form("cvdpack", data, decode)


def row(
    maps: Maps, what: str, forms: list[Form], raw: int, repeats: int
) -> tuple[str, float, float]:
    """A line of the table; ours' ratio to zstd, and its GB/s of the raw array."""
    seconds = interleave({form.name: form.decode for form in forms}, repeats=repeats)
    cells = [
        f"{form.name}: {len(form.data) / 1e6:.2f} MB,"
        f" {raw / median(seconds[form.name]) / 1e9:.2f} GB/s"
        for form in forms
    ]
    print(f"{maps.name}, {what}, {raw / 1e6:.1f} MB raw | " + " | ".join(cells))
    ours, plain = forms[0], forms[1]
    return what, len(plain.data) / len(ours.data), raw / median(seconds["ours"]) / 1e9


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument(
        "--maps", nargs="*", type=Path, default=(), help="staged panoramas, or .npz"
    )
    args = parser.parse_args()
    use_one_thread()
    repeats = 5 if args.quick else 9
    found = [staged(path) for path in args.maps] or [box_room(1024 if args.quick else 4096)]
    peers: list[Peer] = []
    for maps in found:
        for what, forms, raw in (
            ("depth", list(depth_forms(maps)), maps.depth.nbytes),
            ("normals", list(normal_forms(maps)), maps.normal.nbytes // 2),
        ):
            _, ratio, speed = row(maps, what, forms, raw, repeats)
            target = 1.8 if what == "depth" else 2.5
            name = f"{maps.name}, {what}: "
            peers.append(Peer(name + "zstd of the raw array, size", ratio, target, 1, "× smaller"))
            peers.append(Peer(name + "GB/s decoded", speed, 0.5, 1, "GB/s"))
    facts = {"maps": [f"{maps.name} {maps.depth.shape[1]}×{maps.depth.shape[0]}" for maps in found]}
    finish(Outcome("geometry_codec", 1, "× smaller", repeats, tuple(peers), facts), args)


if __name__ == "__main__":
    main()
