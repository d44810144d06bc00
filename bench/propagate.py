"""Propagating masks along a scan: object-frames per second of batched propagation against SAM2's
official video predictor.

The work: one 24-view scan of a panorama of coloured caps, every object clicked in every view that
sees its click. The model is SAM2.1-tiny with random weights: nothing here depends on their values.
Peer: the official predictor as its notebook uses it, prompts in frame order, so that its one-frame
feature cache helps it as much as it can. Its masks have the size of the views. Asserted first: for
every object and frame our native logits are the official predictor's to 1e-4, and so are the masks.
On a GPU: 1, 10, 50 and 100 objects at 1024²; on a CPU: 1 and 20 objects at 256², with --quick at
128².

    python -m bench.propagate --flops [--quick]

times nothing. It counts the floating-point operations of both by part of the model, with 1 and with
3 objects. On one thread they bound what batching can gain while every mask stays equal.
"""

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

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

FRAMES = 24


def picture_of_caps(
    rng: np.random.Generator, width: int, n_caps: int
) -> tuple[np.ndarray, np.ndarray]:
    """(rgb, labels) of `n_caps` coloured caps on noise; a cap that another one hides is left
    out."""
    from panoforge.core.geometry.sphere import (
        angle_between,
        lonlat_to_direction,
        pixel_to_direction,
    )
    from panoforge.core.sample.label_maps import dense_ids

    at = pixel_to_direction(
        np.arange(width)[None, :], np.arange(width // 2)[:, None], width, width // 2
    )
    labels = np.zeros(at.shape[:2], np.uint16)
    rgb = rng.integers(90, 130, (*at.shape[:2], 3)).astype(np.uint8)
    centres = lonlat_to_direction(
        rng.uniform(-np.pi, np.pi, n_caps), np.arcsin(rng.uniform(-1, 1, n_caps))
    )
    for k, centre in enumerate(centres):
        inside = angle_between(at, centre) < rng.uniform(0.1, 0.3)
        labels[inside], rgb[inside] = k + 1, rng.integers(0, 256, 3)
    return rgb, dense_ids(labels)[0]


def plain_official(model: Any) -> Any:
    """The official predictor without the two helps that `OfficialSam2` gives it."""
    import torch

    from panoforge.eval.predictors.sam2_video import OfficialSam2, model_input

    class Plain(OfficialSam2):
        def _state(self, frames: Sequence[Any]) -> dict[str, Any]:
            state = super()._state(frames[:1])
            images = torch.cat(
                [model_input(f.image, model.image_size, model.device)[0][None] for f in frames]
            )
            height, width = frames[0].image.shape[:2]
            return state | {
                "images": images,
                "num_frames": len(frames),
                "video_height": height,
                "video_width": width,
            }

    return Plain(model)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument(
        "--flops", action="store_true", help="count operations instead of timing them"
    )
    args = parser.parse_args()
    use_one_thread()
    import torch

    from panoforge.eval.config import EvalConfig
    from panoforge.eval.predictors.batched_sam2 import BatchedSam2
    from panoforge.eval.predictors.load import load_model
    from panoforge.eval.predictors.sam2_video import OfficialSam2
    from panoforge.eval.segmentation.prompts import click_instances, project_prompts
    from panoforge.eval.segmentation.segment import PanoramaInput, frame_inputs
    from panoforge.eval.views.methods import get_method

    gpu = torch.cuda.is_available()
    size, counts = (1024, (1, 10, 50, 100)) if gpu else (128 if args.quick else 256, (1, 20))
    torch.set_num_threads(1)
    config = EvalConfig.model_validate({"model": {"size": "tiny", "image_size": size}})
    model = load_model(config).model
    rgb, labels = picture_of_caps(np.random.default_rng(0), 2048, 3 * max(counts))
    plan = get_method("scan").plan(2048, 1024, config)
    inputs = frame_inputs(PanoramaInput("caps", rgb, labels), plan)
    prompts = project_prompts(click_instances(labels, range(1, max(counts) + 1)), plan.projections)
    ours, official, plain = BatchedSam2(model), OfficialSam2(model), plain_official(model)
    if args.flops:
        for name, predictor in (("ours", ours), ("official", plain)):
            for n in (1, 3):
                counted = flops(predictor, inputs, prompts[:n])
                print(
                    json.dumps({"predictor": name, "image_size": size, "objects": n} | counted),
                    flush=True,
                )
        return

    _assert_equal(ours, official, inputs, prompts[:5])
    figures = {}
    for n in counts:
        seconds = interleave(
            {
                "ours": partial(_run, ours, inputs, prompts[:n]),
                "official": partial(_run, plain, inputs, prompts[:n]),
            }
        )
        print(
            f"{n} objects: ours {spread(seconds['ours'])} ms, official"
            f" {spread(seconds['official'])} ms"
        )
        figures[n] = {name: 1e3 * median(values) / (n * FRAMES) for name, values in seconds.items()}
    most, name = (50 if gpu else 20), f"SAM2VideoPredictor of {version('sam2')}"
    peers = [Peer(f"{name}, {most} objects", figures[most]["official"], target=5 if gpu else 2)]
    peers += [
        Peer(
            f"{name}, {n} object{'s' * (n > 1)}",
            figures[n]["official"],
            target=1,
            ours=figures[n]["ours"],
        )
        for n in counts
        if n != most
    ]
    facts = {
        "image_size": size,
        "object_frames_per_s": {n: round(1e3 / f["ours"], 2) for n, f in figures.items()},
    }
    outcome = Outcome(
        "propagate",
        ours=figures[most]["ours"],
        unit="ms per object-frame",
        n=most,
        peers=tuple(peers),
        facts=facts,
    )
    finish(outcome, args)


def flops(predictor: Any, inputs: Sequence[Any], prompts: Sequence[Any]) -> dict[str, float]:
    """Floating-point operations in GFLOP, in all and by part of the model."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        _run(predictor, inputs, prompts)
    parts = {
        name: sum(by_op.values())
        for name, by_op in counter.get_flop_counts().items()
        if "." not in name and name != "Global"
    }
    return {"all": round(counter.get_total_flops() / 1e9, 3)} | {
        name: round(value / 1e9, 3) for name, value in parts.items()
    }


def _run(predictor: Any, inputs: Sequence[Any], prompts: Sequence[Any]) -> None:
    import torch

    for said in predictor.predict(inputs, prompts):
        del said
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _assert_equal(ours: Any, official: Any, inputs: Sequence[Any], prompts: Sequence[Any]) -> None:
    """Native logits of every object in every frame, object scores included."""
    tolerance = 1e-4 if ours.model.device.type == "cpu" else 0.5  # bfloat16 on a GPU
    wanted = {said.frame: said for said in official.predict(inputs, prompts)}
    flipped = total = 0
    for said in ours.predict(inputs, prompts):
        expected = wanted[said.frame].logits.cpu().numpy()
        found = np.full_like(expected, -1024)
        found[said.objects] = said.logits.cpu().numpy()
        assert np.abs(found - expected).max() <= tolerance, (
            f"frame {said.frame}: {np.abs(found - expected).max()}"
        )
        flipped, total = flipped + ((found > 0) != (expected > 0)).sum(), total + found.size
    assert flipped <= 1e-4 * total, f"{flipped} of {total} mask pixels differ"


if __name__ == "__main__":
    main()
