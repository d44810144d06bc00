"""Seconds and peak memory per panorama, from image to scores: ours against the plain way.

The work: method `scan` with one click per instance, SAM2.1-tiny with random weights, on one
panorama of coloured caps: propagate, merge into the panorama, IoU of every instance. Ours: batched
propagation, native logits, gathered band by band. Plain: SAM2's official video predictor as its
notebook uses it (object by object, masks at the size of the views). Every frame's masks are spread
over the whole panorama with `grid_sample`, summed and divided. Then IoU mask by mask. Asserted
first: the mIoU of both is the same to 1e-3. Memory is what a forked process needs beyond the model
and the panorama, at its peak.

On a GPU: 4096×2048, 50 objects, 1024². On a CPU: 2048×1024, 20 objects, 256², views of 512². There
the network is nearly all of the time and both must run the same arithmetic (`bench.propagate
--flops`). So --quick, 1024×512 with 20 objects and views of 256², has the micro model at 128². It
measures what is around the network, in about a minute.
"""

from collections.abc import Callable
from functools import partial

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
from bench.merge import CLAMP, peak_bytes
from bench.merge import plain as plain_merge
from bench.propagate import picture_of_caps, plain_official


def main() -> None:
    args = arguments(__doc__).parse_args()
    use_one_thread()
    import torch

    from panoforge.eval.config import EvalConfig
    from panoforge.eval.predictors.batched_sam2 import BatchedSam2
    from panoforge.eval.predictors.load import load_model
    from panoforge.eval.scoring.metrics import iou, row_counts
    from panoforge.eval.segmentation.prompts import click_instances, project_prompts
    from panoforge.eval.segmentation.segment import PanoramaInput, frame_inputs
    from panoforge.eval.views.frames import PerspectiveFrame
    from panoforge.eval.views.merge import merge_masks
    from panoforge.eval.views.methods import get_method

    torch.set_num_threads(1)
    gpu = torch.cuda.is_available()
    width, n, size, view_px = (
        (256, 3, 64, 64)
        if args.toy
        else (4096, 50, 1024, 1024)
        if gpu
        else (1024, 20, 128, 256)
        if args.quick
        else (2048, 20, 256, 512)
    )
    height, model_size = width // 2, "micro" if args.toy or (args.quick and not gpu) else "tiny"
    config = EvalConfig.model_validate(
        {"model": {"size": model_size, "image_size": size}, "scan": {"size_px": view_px}}
    )
    model = load_model(config).model
    rgb, labels = picture_of_caps(np.random.default_rng(0), width, 3 * n)
    panorama, ids = PanoramaInput("caps", rgb, labels), list(range(1, n + 1))
    plan = get_method("scan").plan(width, height, config)
    views = [p.view for p in plan.projections if isinstance(p, PerspectiveFrame)]
    batched, official = BatchedSam2(model), plain_official(model)

    def ours() -> float:
        inputs = frame_inputs(panorama, plan)
        prompts = project_prompts(click_instances(labels, ids), plan.projections)
        masks = merge_masks(
            plan.projections, list(batched.predict(inputs, prompts)), n, width, height, clamp=CLAMP
        )
        return float(iou(row_counts(masks, labels, ids)).mean())

    def plain() -> float:
        inputs = frame_inputs(panorama, plan)
        prompts = project_prompts(click_instances(labels, ids), plan.projections)
        with torch.inference_mode():
            merged = (
                plain_merge(views, list(official.predict(inputs, prompts)), n, width, height) > 0
            )
        found = []
        for k, id_ in enumerate(ids):
            predicted, true = merged[k].cpu().numpy(), labels == id_
            found.append((predicted & true).sum() / (predicted | true).sum())
        return float(np.mean(found))

    scores: dict[str, float] = {}

    def scored(name: str, work: Callable[[], float]) -> None:
        scores[name] = work()

    sides = {"ours": ours, "plain": plain}
    memory = {name: peak_bytes(partial(scored, name, work)) for name, work in sides.items()}
    if not gpu:  # there it was a forked process that scored
        for name, work in sides.items():
            scored(name, work)
    # On a GPU the plain way takes half a minute a round, and is in bfloat16.
    assert abs(scores["ours"] - scores["plain"]) <= (5e-3 if gpu else 1e-3), scores
    once = args.toy or gpu
    seconds = interleave(sides, 1 if once else 5, warm_up=not once)
    print(f"ours {spread(seconds['ours'])} ms, plain {spread(seconds['plain'])} ms; mIoU {scores}")
    name = (
        f"SAM2VideoPredictor object by object + full-panorama grid_sample ({version('sam2')},"
        f" {version('torch')})"
    )
    finish(
        Outcome(
            "end_to_end",
            ours=median(seconds["ours"]),
            unit=f"s per panorama, {width} wide, {n} objects, {model_size}",
            n=n,
            facts={"width": width, "model": model_size, "image_size": size, "miou": scores},
            peers=(
                Peer(name, median(seconds["plain"]), target=4),
                Peer(
                    "the same: peak memory",
                    memory["plain"] / 1e6,
                    target=1,
                    ours=memory["ours"] / 1e6,
                    unit="MB",
                ),
            ),
        ),
        args,
    )


if __name__ == "__main__":
    main()
