"""Is there a seam? Errors of trained models at the picture's two ends, against the same pixels with
the seam elsewhere.

    python -m bench.dense_seam --out FOLDER          every model that bench.learns_dense left there

What lies at the seam of a room may be harder than what lies elsewhere: a ratio of errors says
nothing by itself. So each held-out room is predicted twice, as it is and turned by half, and the
second result is turned back. Compared are the errors in the same `SEAM_COLUMNS` columns. In the
first they are cut apart by the seam, in the second they are whole, in the middle of the picture.
Their difference is what the seam costs, with the central 95 % of 2,000 bootstrap draws of rooms.
The same difference half-way between both seams, where nothing is cut, stands beside it.
`ok` says that no interval at the seam lies above 0: nothing is worse for being cut.

A model that is told an absolute azimuth has a jump of it at the seam, and what it says of normals
changes when the picture is turned. Nothing can be read of the normals of one that cannot know the
azimuth and yet says them in the world's axes (`plain`): they differ everywhere.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.common import machine, use_one_thread
from bench.dense_scores import DRAWS, SEAM_COLUMNS, Said, held_out_rooms, predicted
from bench.learns_dense import MODEL

HALF_TURN = np.diag([-1.0, -1.0, 1.0])
METRICS = ("AbsRel", "normals, °")


def turned_back(said: Said) -> Said:
    """What was said of a picture turned by half, as of the picture itself."""
    columns = said.depth_m.shape[1] // 2
    return Said(
        np.roll(said.semantic, columns, axis=1),
        np.roll(said.depth_m, columns, axis=1),
        np.roll(said.normal, columns, axis=1) @ HALF_TURN.astype(np.float32),
    )


def errors_at(said: Said, room: Any, middle: int) -> NDArray[np.float64]:
    """Mean AbsRel and mean degrees, by solid angle, in the columns around the left edge of one."""
    from panoforge.core.geometry.sphere import row_area_sr
    from panoforge.eval.scoring.metrics.normals import angles_deg

    height, width = room.depth_m.shape
    columns = (middle + np.arange(-SEAM_COLUMNS // 2, SEAM_COLUMNS // 2)) % width
    depth_m, normal = room.depth_m[:, columns], room.normal[:, columns]
    off = np.abs(said.depth_m[:, columns] - depth_m) / depth_m
    degrees = angles_deg(normal.reshape(-1, 3), said.normal[:, columns].reshape(-1, 3))
    rows = row_area_sr(width, height)
    both = np.stack([off, degrees.reshape(off.shape)]).mean(axis=2)
    return both @ rows / rows.sum()


def costs_of(model: Any, room: Any) -> NDArray[np.float64]:
    """Errors (place, turned or not, metric) of a room at the seam and between both seams."""
    width = room.depth_m.shape[1]
    still = predicted(model, room.rgb)
    turned = turned_back(predicted(model, np.roll(room.rgb, width // 2, axis=1)))
    return np.array(
        [[errors_at(said, room, at) for said in (still, turned)] for at in (0, width // 4)]
    )


def main() -> None:
    from panoforge.eval.scoring.metrics.stats import bootstrap_mean
    from panoforge.train.config import TrainConfig
    from panoforge.train.model.mtpano.build import load_dense

    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", default="full", help="full, quick or toy")
    args = parser.parse_args()
    use_one_thread()
    folder = args.out / args.size
    config = TrainConfig.model_validate({"dense": {"model": MODEL}})
    rooms = held_out_rooms(folder / "data" / "truth", config)
    print("| model | metric | whole | cut at the seam | difference | same, between the seams |")
    print("|" + "---|" * 6)
    names, worse = [str(k) for k in range(len(rooms))], []
    for weights in sorted(folder.glob("runs/*/checkpoints/model.pt")):
        model, name = load_dense(weights), weights.parents[1].name
        found = np.stack([costs_of(model, room) for room in rooms])  # room × place × turned × 2
        for number, metric in enumerate(METRICS):
            cut, whole = found[:, 0, :, number].T
            pairs = (cut, whole), found[:, 1, :, number].T
            seam, beside = (bootstrap_mean(a - b, names, resamples=DRAWS) for a, b in pairs)
            said = " | ".join(
                f"{one.value:+.4f} [{one.low:+.4f}, {one.high:+.4f}]" for one in (seam, beside)
            )
            print(
                f"| {name} | {metric} | {whole.mean():.4f} | {cut.mean():.4f} | {said} |",
                flush=True,
            )
            worse += [f"{name}: {metric}"] if seam.low is not None and seam.low > 0 else []
    summary = {"bench": "dense_seam", "ok": not worse, "worse": worse, "n": len(rooms)}
    print(json.dumps({**summary, "machine": machine()}))


if __name__ == "__main__":
    main()
