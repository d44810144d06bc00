"""Seconds and peak memory per panorama, from image to scores: ours against the plain way.

The work: method `scan` with one click per instance, SAM2.1-tiny with random weights, on one panorama of coloured caps: propagate,
merge into the panorama, IoU of every instance. Ours: batched propagation, native logits, gathered band by band. Plain: SAM2's
official video predictor as its notebook uses it (object by object, masks at the size of the views), every frame's masks spread
over the whole panorama with `grid_sample`, summed and divided, then IoU mask by mask. Asserted first: the mIoU of both is the
same to 1e-3. Memory is what a forked process needs beyond the model and the panorama, at its peak.

On a GPU: 4096×2048, 50 objects, 1024². On a CPU: 2048×1024, 20 objects, 256², views of 512²; --quick 1024×512, 8 objects, 128².
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bench.common import Outcome, Peer, arguments, finish, interleave, median, spread, use_one_thread, version
from bench.merge import peak_bytes
from bench.propagate import picture_of_caps, plain_official

CLAMP = 10.0


def plain_merge(views: Sequence[Any], said: Sequence[Any], n: int, width: int, height: int) -> Any:
    """Full-panorama grid_sample of every frame's masks as they come: merged logits N×H×W."""
    import torch

    from eval.frames import EDGE_WEIGHT
    from pano.sphere import pixel_to_direction, view_rotation

    at = pixel_to_direction(np.arange(width)[None, :], np.arange(height)[:, None], width, height).astype(np.float32)
    device = said[0].logits.device
    directions = torch.from_numpy(at).to(device)
    above, total = torch.zeros(n, height, width, device=device), torch.zeros(height, width, device=device)
    for frame in said:
        view = views[frame.frame]
        local = directions @ torch.from_numpy(view_rotation(view).astype(np.float32)).to(device)
        place = local[..., :2] / (local[..., 2:] * np.tan(np.radians(view.fov_deg) / 2))
        seen = (local[..., 2] > 1e-6) & (place.abs() <= 1).all(dim=-1)
        tent = (1 - place.abs()).clamp(0, 1)
        weight = torch.where(seen, EDGE_WEIGHT + (1 - EDGE_WEIGHT) * tent[..., 0] * tent[..., 1], 0.0)
        logits = frame.logits.clamp(-CLAMP, CLAMP)[None]
        sampled = torch.nn.functional.grid_sample(logits, place[None], padding_mode="border", align_corners=False)[0]
        above[torch.from_numpy(frame.objects).to(device)] += sampled * weight
        total += weight
    return above / total


def main() -> None:
    args = arguments(__doc__).parse_args()
    use_one_thread()
    import torch

    from eval.config import EvalConfig
    from eval.merge import merge_masks
    from eval.methods import get_method
    from eval.metrics import iou, row_counts
    from eval.model import load_model
    from eval.prompts import click_instances, project_prompts
    from eval.propagate import BatchedSam2
    from eval.segment import Panorama, frame_inputs

    torch.set_num_threads(1)
    gpu = torch.cuda.is_available()
    width, n, size, view_px = (4096, 50, 1024, 1024) if gpu else (1024, 8, 128, 256) if args.quick else (2048, 20, 256, 512)
    height = width // 2
    config = EvalConfig.model_validate({"model": {"size": "tiny", "image_size": size}, "scan": {"size_px": view_px}})
    model = load_model(config).model
    rgb, labels = picture_of_caps(np.random.default_rng(0), width, 3 * n)
    panorama, ids = Panorama("caps", rgb, labels), list(range(1, n + 1))
    plan = get_method("scan").plan(width, height, config)
    views = [projection.view for projection in plan.projections]
    batched, official = BatchedSam2(model), plain_official(model)

    def ours() -> float:
        inputs = frame_inputs(panorama, plan)
        prompts = project_prompts(click_instances(labels, ids), plan.projections)
        masks = merge_masks(plan.projections, list(batched.predict(inputs, prompts)), n, width, height, clamp=CLAMP)
        return float(iou(row_counts(masks, labels, ids)).mean())

    def plain() -> float:
        inputs = frame_inputs(panorama, plan)
        prompts = project_prompts(click_instances(labels, ids), plan.projections)
        with torch.inference_mode():
            merged = plain_merge(views, list(official.predict(inputs, prompts)), n, width, height) > 0
        found = []
        for k, id_ in enumerate(ids):
            predicted, true = merged[k].cpu().numpy(), labels == id_
            found.append((predicted & true).sum() / (predicted | true).sum())
        return float(np.mean(found))

    memory = None if gpu else {"ours": peak_bytes(ours), "plain": peak_bytes(plain)}
    scores = {"ours": ours(), "plain": plain()}
    assert abs(scores["ours"] - scores["plain"]) <= 1e-3, scores
    if gpu:
        memory = {}
        for name, work in (("ours", ours), ("plain", plain)):
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            work()
            memory[name] = torch.cuda.max_memory_allocated() - before
    assert memory is not None
    seconds = interleave({"ours": ours, "plain": plain})
    print(f"ours {spread(seconds['ours'])} ms, plain {spread(seconds['plain'])} ms; mIoU {scores}")
    name = f"SAM2VideoPredictor object by object + full-panorama grid_sample ({version('sam2')}, {version('torch')})"
    finish(Outcome(
        "end_to_end", ours=median(seconds["ours"]), unit=f"s per panorama, {n} objects", n=n,
        facts={"width": width, "image_size": size, "miou": scores},
        peers=(Peer(name, median(seconds["plain"]), target=4),
               Peer("the same: peak memory", memory["plain"] / 1e6, target=1, ours=memory["ours"] / 1e6, unit="MB"))), args)


if __name__ == "__main__":
    main()
