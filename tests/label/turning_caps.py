"""Frames in memory: caps that go around on a wall and a floor. One is over the seam, one over the
pole, one enters late, one is hidden for a while. Ids are the same on all frames.
"""

from dataclasses import dataclass, field

import numpy as np

from panoforge.core.geometry.sphere import angle_between, lonlat_to_direction, pixel_to_direction
from panoforge.label.outlines import grown
from panoforge.label.video.finding import Named
from panoforge.label.video.proposals import MaskCandidate, Proposal

WALL, FLOOR, SEAM, POLE, LATE, HIDDEN = 1, 2, 3, 4, 5, 6
CLASSES = {1: "wall", 2: "floor", 3: "ball", 4: "lamp", 5: "cat", 6: "dog"}
CAPS = {
    SEAM: (178.0, 0.1, 0.25),
    POLE: (0.0, 1.45, 0.3),
    LATE: (-60.0, -0.2, 0.2),
    HIDDEN: (60.0, 0.2, 0.2),
}
SPEED_DEG = {SEAM: 3.0, POLE: 0.0, LATE: 4.0, HIDDEN: 2.0}
ENTERS, AWAY = 4, range(3, 7)


def ids_of(frame: int, width: int) -> np.ndarray:
    height = width // 2
    ways = pixel_to_direction(np.arange(width)[None], np.arange(height)[:, None], width, height)
    ids = np.full((height, width), WALL, np.uint16)
    ids[np.arcsin(ways[..., 2]) < -0.7] = FLOOR
    for id_, (lon, lat, radius) in CAPS.items():
        if (id_ == LATE and frame < ENTERS) or (id_ == HIDDEN and frame in AWAY):
            continue
        middle = lonlat_to_direction(np.radians(lon + SPEED_DEG[id_] * frame), lat)
        ids[angle_between(ways, middle) < radius] = id_
    return ids


@dataclass
class CapFrames:
    """A `Frames` of so many such frames."""

    count: int = 10
    width: int = 256
    fps: float = 10.0
    sha256: str = "caps"
    maps: list[np.ndarray] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.maps = [ids_of(frame, self.width) for frame in range(self.count)]
        self.size = self.width, self.width // 2
        self.names = [f"caps/{frame:05d}.png" for frame in range(self.count)]

    def rgb(self, number: int) -> np.ndarray:
        colours = np.random.default_rng(1).integers(0, 255, (9, 3)).astype(np.uint8)
        return colours[self.maps[number]]

    def labels(self, number: int) -> np.ndarray:
        return self.maps[number]

    def again(self) -> "CapFrames":
        return self

    def close(self) -> None:
        pass


@dataclass
class CapTeachers:
    """Three teachers that know the truth but for what is said here: `misses` of each, by chance,
    outlines off by `edge_px`, and things that all of them are blind to on frame 0.
    """

    edge_px: int = 0
    misses: float = 0.0
    blind: tuple[int, ...] = ()
    teachers: int = 3
    asked: list[tuple[int, bool]] = field(default_factory=list)

    def proposals(self, frames: CapFrames, number: int, turned: bool) -> list[Proposal]:
        self.asked.append((number, turned))
        return [one for k in range(self.teachers) for one in self._of(frames, number, k)]

    def alone(self, frames: CapFrames, number: int) -> list[Proposal]:
        return self._of(frames, number, 0)

    def _of(self, frames: CapFrames, number: int, teacher: int) -> list[Proposal]:
        rng, found = np.random.default_rng([number, teacher]), []
        for id_ in np.unique(frames.labels(number)).tolist():
            edge = int(rng.integers(-self.edge_px, self.edge_px + 1))
            if rng.random() < self.misses or (number == 0 and id_ in self.blind):
                continue
            mask = grown(frames.labels(number) == id_, edge)
            label = CLASSES[id_] if teacher else None
            found.append(Proposal(mask, f"teacher {teacher}", 0.9, label, id_ > FLOOR))
        return found

    def name(self, rgb: np.ndarray, candidate: MaskCandidate) -> Named:
        if not candidate.labels:
            return Named("unknown", "nobody")
        return Named(candidate.labels[0][1], candidate.labels[0][0])
