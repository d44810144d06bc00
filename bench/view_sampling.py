"""Perspective views of a 4096×2048 panorama: time per frame of training scans, and error on
analytic pictures.

Speed: 24-frame scans (90°, 50 % overlap) of 1024² RGB (bilinear) and label (nearest) views, a new
random yaw for each scan as in training, one thread. Ours: `panoforge.core.geometry.views`, laying
out the panorama included. Peers: py360convert and pyequilib as their documentation uses them.
pyequilib takes no uint16: its labels go through float32. Asserted first: on a smooth picture and on
coarse labels all three give the same views, up to half a pixel.

Error: pictures known at every direction, seen through 8×8 rays per view pixel. `smooth` tells how
exactly a sampler reads, `edges` (hard edges) and `noise` (a render's grain, 20 levels; truth is
none) how it does where rows are stretched. Every library is judged by its own pixel and ray
convention, so that a half-pixel shift is not counted as an error.

On a GPU the same frames are read by torch's grid_sample from a panorama that lies there, too: what
it would give to sample on the device. Training does not: its workers sample beside the GPU.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.common import (
    Outcome,
    Peer,
    arguments,
    finish,
    interleave,
    median,
    spread,
    use_one_thread,
    version,
)
from bench.maps import picture, room_labels
from panoforge.core.geometry.scan import ScanSpec, random_yaw0_deg, scan_views
from panoforge.core.geometry.sphere import View, lonlat_to_direction, view_rotation
from panoforge.core.geometry.views import sample_view, wrap_panorama

Image = NDArray
Sampler = Callable[[Image, View], Image]
SUBPIXELS = 8


def ours(image: Image, view: View, *, prefilter: bool = False) -> Image:
    return sample_view(wrap_panorama(image, prefilter=prefilter), view)


def py360(image: Image, view: View, mode: str = "bilinear") -> Image:
    from py360convert import e2p

    return e2p(
        image, view.fov_deg, view.yaw_deg, view.pitch_deg, (view.size_px, view.size_px), mode=mode
    )


def equilib(image: Image, view: View, mode: str = "bilinear") -> Image:
    from equilib import equi2pers

    channels = np.ascontiguousarray(image.transpose(2, 0, 1)) if image.ndim == 3 else image[None]
    rotation = {"roll": 0.0, "pitch": -np.radians(view.pitch_deg), "yaw": -np.radians(view.yaw_deg)}
    out = equi2pers(
        equi=channels,
        rots=rotation,
        height=view.size_px,
        width=view.size_px,
        fov_x=view.fov_deg,
        mode=mode,
    )
    return out.transpose(1, 2, 0) if image.ndim == 3 else out[0]


# Which direction a library's panorama index j and view index i stand for: (j + panorama) / W of the
# way around, and (i − view(size)) / focal(size, fov) on the image plane. Read from their sources.
CONVENTIONS: dict[str, tuple[float, Callable[[int], float], Callable[[int, float], float]]] = {
    "ours": (0.5, lambda n: (n - 1) / 2, lambda n, t: n / 2 / t),
    "py360convert": (0.5, lambda n: (n - 1) / 2, lambda n, t: (n - 1) / 2 / t),
    "pyequilib": (-0.5, lambda n: n / 2, lambda n, t: n / 2 / t),
}


def _steps(rng: np.random.Generator, count: int) -> tuple[NDArray, NDArray]:
    normals = rng.normal(size=(count, 3))
    return normals / np.linalg.norm(normals, axis=1, keepdims=True), rng.uniform(-0.9, 0.9, count)


def smooth(direction: NDArray) -> NDArray:
    """A picture of waves about 60 equator pixels long at W = 1024, values 0 to 255."""
    normals, phases = _steps(np.random.default_rng(1), 6)
    return 127.5 + 127.5 * np.sin(16 * direction @ normals.T + phases).mean(axis=-1)


def edges(direction: NDArray) -> NDArray:
    """A picture of 64 great and small circles, each side of which is a little lighter: hard edges
    everywhere.
    """
    normals, offsets = _steps(np.random.default_rng(2), 64)
    return 127.5 + 6 * np.sign(direction @ normals.T - offsets).sum(
        axis=-1
    )  # within 0 … 255 but for 1 in 200 directions


@lru_cache(maxsize=32)
def panorama_of(scene: Callable, width: int, shift: float, subpixels: int) -> NDArray[np.uint8]:
    """The scene as an equirectangular uint8 picture, averaged over subpixels, in the convention of
    `shift`.
    """
    height, total = width // 2, np.zeros((width // 2, width))
    offsets = (np.arange(subpixels) + 0.5) / subpixels - 0.5
    for dv in offsets:
        for du in offsets:
            lon = ((np.arange(width) + shift + du) / width - 0.5) * 2 * np.pi
            lat = (0.5 - (np.arange(height) + shift + dv) / height) * np.pi
            total += scene(lonlat_to_direction(lon[None, :], lat[:, None]))
    return np.clip(np.rint(total / subpixels**2), 0, 255).astype(np.uint8)


@lru_cache(maxsize=64)
def truth_of(scene: Callable, view: View, convention: str, subpixels: int) -> NDArray:
    """The scene seen in the view, averaged over rays in every pixel."""
    _, centre, focal = CONVENTIONS[convention]
    tangent = np.tan(np.radians(view.fov_deg) / 2)
    offsets = (np.arange(subpixels) + 0.5) / subpixels - 0.5
    total = np.zeros((view.size_px, view.size_px))
    for dy in offsets:
        for dx in offsets:
            x = (np.arange(view.size_px) + dx - centre(view.size_px)) / focal(view.size_px, tangent)
            y = (np.arange(view.size_px) + dy - centre(view.size_px)) / focal(view.size_px, tangent)
            rays = (
                np.stack(np.broadcast_arrays(x[None, :], y[:, None], 1.0), axis=-1)
                @ view_rotation(view).T
            )
            total += scene(rays / np.linalg.norm(rays, axis=-1, keepdims=True))
    return total / subpixels**2


def errors(
    samplers: dict[str, tuple[str, Sampler]], width: int = 512, size: int = 128
) -> dict[str, dict[str, float]]:
    """RMS error in grey levels (of 255) per sampler and question, at an eighth of the size of the
    timed scans.
    """
    level = [View(yaw, 0.0, 90.0, size) for yaw in (-60.0, 33.0)]
    seam = [View(180.0 - 1e-9, 0.0, 90.0, size), View(170.0, 0.0, 90.0, size)]
    high = [
        View(yaw, pitch, 90.0, size) for yaw, pitch in ((10.0, 60.0), (100.0, -75.0), (0.0, 90.0))
    ]
    found: dict[str, dict[str, float]] = {name: {} for name in samplers}
    for name, (convention, sample) in samplers.items():
        for scene, subpixels, questions in (
            (smooth, 1, {"smooth, level": level, "smooth, seam": seam, "smooth, high": high}),
            (edges, SUBPIXELS, {"edges, level": level, "edges, high": high}),
        ):
            image = panorama_of(scene, width, CONVENTIONS[convention][0], subpixels)
            for question, views in questions.items():
                squares = [
                    (sample(image, view) - truth_of(scene, view, convention, subpixels)) ** 2
                    for view in views
                ]
                found[name][question] = float(np.sqrt(np.mean(squares)))
        noise = np.clip(
            np.random.default_rng(4).normal(128, 20, (width // 2, width)), 0, 255
        ).astype(np.uint8)
        found[name]["noise, high"] = float(np.std([sample(noise, view) for view in high]))
    return found


def assert_same_views(
    samplers: dict[str, tuple[Sampler, Sampler]], rgb: Image, labels: Image
) -> None:
    """Peers see what we see: on a blurred picture (their half-pixel shifts stay small) and on
    labels 64 pixels wide.
    """
    import cv2

    soft = cv2.GaussianBlur(rgb, (0, 0), 12)
    coarse = labels.copy()
    coarse[:] = (
        np.arange(labels.shape[1]) // 64 + np.arange(labels.shape[0])[:, None] // 64 * 64 + 1
    ).astype(np.uint16)
    for view in (View(33.75, 0.0, 90.0, 256), View(-178.0, 45.0, 90.0, 256)):
        for name, (colour, label) in samplers.items():
            mine = sample_view(wrap_panorama(soft), view).astype(int)
            assert np.abs(mine - colour(soft, view)).mean() < 1.0, name
            same = sample_view(wrap_panorama(coarse), view, labels=True) == label(coarse, view)
            assert same.mean() > 0.9, f"{name}: {same.mean():.3f} of the labels agree"


def equilib_labels(labels: Image, view: View) -> Image:
    return equilib(labels.astype(np.float32), view, "nearest").astype(np.uint16)


class OnDevice:
    """A view of a panorama that lies on the device, by torch's grid_sample."""

    def __init__(self, image: Image) -> None:
        import torch

        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        values = torch.from_numpy(image.astype(np.float32)).to(self.device)
        values = values.permute(2, 0, 1) if values.ndim == 3 else values[None]
        # A column on either side: no seam.
        self.values = torch.cat([values[..., -1:], values, values[..., :1]], dim=-1)[None]

    def view(self, view: View, mode: str) -> Any:
        import torch

        size, tangent = view.size_px, np.tan(np.radians(view.fov_deg) / 2)
        at = ((torch.arange(size, device=self.device) + 0.5) / size * 2 - 1) * tangent
        y, x = torch.meshgrid(at, at, indexing="ij")
        turn = torch.from_numpy(view_rotation(view).astype(np.float32)).to(self.device)
        right, ahead, up = (torch.stack([x, y, torch.ones_like(x)], dim=-1) @ turn.T).unbind(-1)
        lon = torch.atan2(right, ahead) / np.pi
        lat = torch.atan2(up, torch.hypot(right, ahead)) / (np.pi / 2)
        width = self.values.shape[-1]
        grid = torch.stack([lon * (width - 2) / width, -lat], dim=-1)[None]
        return torch.nn.functional.grid_sample(
            self.values, grid, mode=mode, padding_mode="border", align_corners=False
        )[0]


def colour_on_device(image: Image, view: View) -> Image:
    return OnDevice(image).view(view, "bilinear").permute(1, 2, 0).cpu().numpy()


def labels_on_device(labels: Image, view: View) -> Image:
    return OnDevice(labels).view(view, "nearest")[0].cpu().numpy().astype(np.uint16)


def _error_peers(
    rms: dict[str, dict[str, float]], question: str, words: str, mine: str
) -> list[Peer]:
    return [
        Peer(f"{name}, {words}", rms[name][question], 1, ours=rms[mine][question], unit="of 255")
        for name in ("py360convert", "pyequilib")
    ]


def main() -> None:
    args = arguments(__doc__).parse_args()
    use_one_thread()
    import torch

    torch.set_num_threads(1)
    rgb, labels = picture(), room_labels()
    peers: dict[str, tuple[Sampler, Sampler]] = {
        "py360convert": (py360, partial(py360, mode="nearest")),
        "pyequilib": (equilib, equilib_labels),
    }
    on_device = torch.cuda.is_available() or args.toy
    there = {"on the device": (colour_on_device, labels_on_device)} if on_device else {}
    assert_same_views(peers | there, rgb, labels)
    rng = np.random.default_rng(0)
    spec = ScanSpec()
    frames = len(scan_views(spec))

    def our_scan() -> None:
        colour, label = wrap_panorama(rgb), wrap_panorama(labels)
        for view in scan_views(spec, random_yaw0_deg(rng, rgb.shape[1])):
            sample_view(colour, view)
            sample_view(label, view, labels=True)

    def peer_scan(colour: Sampler, label: Sampler, take: int) -> None:
        for view in scan_views(spec, random_yaw0_deg(rng, rgb.shape[1]))[:take]:
            colour(rgb, view)
            label(labels, view)

    def device_scan() -> None:
        colour, label = OnDevice(rgb), OnDevice(labels)
        for view in scan_views(spec, random_yaw0_deg(rng, rgb.shape[1]))[:take]:
            colour.view(view, "bilinear")
            label.view(view, "nearest")

    # Peers cost the same for every frame of a scan: a quick run takes two columns of it.
    take = 1 if args.toy else 6 if args.quick else frames
    seconds = interleave(
        {
            "ours": our_scan,
            **{name: partial(peer_scan, *pair, take) for name, pair in peers.items()},
            **({"on the device": device_scan} if there else {}),
        },
        repeats=1 if args.toy else 5,
        warm_up=not args.toy,
    )
    per_frame = {
        name: [value / (frames if name == "ours" else take) for value in values]
        for name, values in seconds.items()
    }
    for name, values in per_frame.items():
        print(f"{name}: {spread(values)} ms a frame")
    rms = errors(
        {
            "ours": ("ours", ours),
            "ours, prefiltered": ("ours", partial(ours, prefilter=True)),
            "py360convert": ("py360convert", py360),
            "pyequilib": ("pyequilib", equilib),
        },
        *((64, 16) if args.toy else ()),
    )
    for name, answers in rms.items():
        print(
            f"error {name}: "
            + ", ".join(f"{question} {value:.3f}" for question, value in answers.items())
        )
    finish(
        Outcome(
            "view_sampling",
            ours=1e3 * median(per_frame["ours"]),
            unit="ms/frame",
            n=frames,
            facts={
                "rms_error_of_255": {
                    name: {q: round(v, 4) for q, v in answers.items()}
                    for name, answers in rms.items()
                }
            },
            peers=(
                Peer(version("py360convert"), 1e3 * median(per_frame["py360convert"]), 8),
                Peer(version("pyequilib"), 1e3 * median(per_frame["pyequilib"]), 10),
                *(
                    Peer(
                        f"grid_sample {name}, {version('torch')}", 1e3 * median(per_frame[name]), 1
                    )
                    for name in there
                ),
                *_error_peers(rms, "edges, high", "RMS error above 45°", "ours, prefiltered"),
                *_error_peers(rms, "noise, high", "noise left above 45°", "ours, prefiltered"),
                *_error_peers(rms, "smooth, seam", "RMS error at the seam", "ours"),
            ),
        ),
        args,
    )


if __name__ == "__main__":
    main()
