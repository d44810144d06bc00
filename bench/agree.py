"""Views that disagree made one: masks of 24 views × 100 instances joined, depth of any scale and
shift aligned, against what one does first.

    python -m bench.agree [--quick] [--record]

Joining: truth as teacher on the 24 views of SAP's scan, each with ids of its own, about 100 a view.
The panorama is 2048×1024 of round things on a floor (--quick 1024×512); limit 2 s. Asserted first:
each thing of over 50 pixels in the panorama is one instance of IoU over 0.85. The peer is the plain
way: every segment laid on the whole panorama, IoU of every pair of overlapping boxes.

Depth: truth of a room with balls (known by ray casting) through the views of a set. Each view is
multiplied by its own 0.5 to 2 and shifted by up to 20 % of its median. AbsRel after one scale for
the whole, weighted by solid angle, is the mean of five draws: ours at most 0.5 %. Beside it are
naive averaging and one random view at each pixel, which is what learning from one random view a
step sees. Lines with 3 % of noise by pixel follow, for which there is no limit.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bench import round_room
from bench.common import Outcome, Peer, arguments, finish, interleave, median, use_one_thread

LIMIT_S, LIMIT_ABS_REL = 2.0, 5e-3
THINGS = 540  # about 100 in a view of 90°


def many_things(width: int) -> NDArray[np.uint16]:
    """A label map of that many round things of 2° to 8°, on a ground of id 1."""
    from panoforge.core.geometry.sphere import fibonacci_directions, pixel_to_direction

    rng, height = np.random.default_rng(0), width // 2
    at = pixel_to_direction(np.arange(width)[None, :], np.arange(height)[:, None], width, height)
    labels = np.ones((height, width), np.uint16)
    at32 = at.astype(np.float32)
    centres = fibonacci_directions(THINGS).astype(np.float32)
    for k, centre in enumerate(centres):
        inside = at32 @ centre > np.cos(np.radians(rng.uniform(2, 8)) / 2)
        labels[inside] = k + 2
    return labels


def join_work(width: int) -> tuple[list, NDArray[np.uint16], int]:
    """What truth says of each view, with ids of its own; the labels; the mean count in a view."""
    from panoforge.label.agree.instances import ViewSegments
    from panoforge.label.teachers.base import Panoptic, Segment, ViewImage
    from panoforge.label.teachers.truth import TrueThing, Truth, TruthTeacher
    from panoforge.label.views.sets import ViewSetConfig, view_frames

    labels = many_things(width)
    truth = Truth(labels, {k: TrueThing("thing", k > 1) for k in range(1, THINGS + 2)})
    teacher, views = TruthTeacher(lambda key: truth, least_px=4), []
    rng = np.random.default_rng(1)
    for frame in view_frames(ViewSetConfig(size_px=512), width, width // 2):
        said = teacher.panoptic(ViewImage(np.zeros((512, 512, 3), np.uint8), frame))
        new = rng.permutation(THINGS + 2) + 1
        own = tuple(Segment(int(new[s.id]), s.class_name, s.is_thing, 1.0) for s in said.segments)
        ids = np.where(said.segment_ids > 0, new[said.segment_ids], 0).astype(np.int32)
        views.append(ViewSegments(frame, Panoptic(ids, own)))
    return views, labels, round(np.mean([len(view.said.segments) for view in views]))


def plain_join(views: Sequence, width: int) -> int:
    """Every segment as a mask of the whole panorama; pairs of overlapping boxes by their IoU.

    It only counts the pairs that it would join: what it says is compared with nothing.
    """
    from panoforge.label.views.landing import land

    masks: list[tuple[int, NDArray[np.bool_], tuple[int, int, int, int]]] = []
    for place, view in enumerate(views):
        landing = land(view.frame, width, width // 2)
        ids = np.zeros(width * width // 2, np.int32)
        ids[landing.pixels] = landing.nearest(view.said.segment_ids)
        ids = ids.reshape(width // 2, width)
        for segment in view.said.segments:
            mask = ids == segment.id
            rows, columns = mask.any(axis=1).nonzero()[0], mask.any(axis=0).nonzero()[0]
            if len(rows):
                masks.append((place, mask, (rows[0], rows[-1], columns[0], columns[-1])))
    pairs = 0
    for k, (place, one, box) in enumerate(masks):
        for other_place, other, beside in masks[k + 1 :]:
            apart = box[0] > beside[1] or beside[0] > box[1] or box[2] > beside[3]
            if other_place == place or apart or beside[2] > box[3]:
                continue
            rows = slice(min(box[0], beside[0]), max(box[1], beside[1]) + 1)
            columns = slice(min(box[2], beside[2]), max(box[3], beside[3]) + 1)
            a, b = one[rows, columns], other[rows, columns]
            pairs += int((a & b).sum() > 0.5 * (a | b).sum())
    return pairs


def check_joined(joined: "object", labels: NDArray[np.uint16]) -> None:
    """Every thing of over 50 pixels is one instance."""
    ids = joined.ids  # type: ignore[attr-defined]
    for id_, pixels in zip(*np.unique(labels, return_counts=True), strict=True):
        if id_ < 2 or pixels <= 50:
            continue
        mask = labels == id_
        own = np.bincount(ids[mask]).argmax()
        iou = (mask & (ids == own)).sum() / (mask | (ids == own)).sum()
        assert own and iou > 0.85, f"thing {id_} of {pixels} pixels: IoU {iou:.3f}"


def spoilt(said: Sequence, seed: int, noise: float) -> list:
    """Each view's depth times its own 0.5 to 2, shifted by up to 20 % of its median."""
    rng, found = np.random.default_rng(seed), []
    for one in said:
        values = one.depth.values * (1 + noise * rng.standard_normal(one.depth.values.shape))
        values = values + rng.uniform(-0.2, 0.2) * np.median(values)
        values = np.maximum(values, 1e-3) * 2 ** rng.uniform(-1, 1)
        depth = replace(one.depth, values=values.astype(np.float32))
        found.append(replace(one, depth=depth))
    return found


def depth_errors(kind: str, width: int, noise: float, draws: int) -> dict[str, float]:
    """Mean AbsRel of ours, of naive averaging and of one random view."""
    from panoforge.core.geometry.sphere import row_area_sr
    from panoforge.label.agree.alignment import align
    from panoforge.label.agree.merging import merge_depth
    from panoforge.label.teachers.base import Dense, ViewImage
    from panoforge.label.teachers.truth import TruthTeacher
    from panoforge.label.views.carry import carry_depth
    from panoforge.label.views.landing import land
    from panoforge.label.views.sets import ViewSetConfig, view_frames

    room, size = round_room.truth(width), width // 2
    weight = np.repeat(row_area_sr(width, width // 2), width)
    assert room.depth_m is not None
    true = room.depth_m.ravel()
    frames = view_frames(ViewSetConfig(kind=kind, size_px=size), width, width // 2)
    blank = np.zeros((size, size, 3), np.uint8)
    teacher = TruthTeacher(lambda key: room, along="axis")
    answers = [Dense(teacher.dense(ViewImage(blank, frame)).depth) for frame in frames]
    landings = [land(frame, width, width // 2) for frame in frames]

    def abs_rel(distance: NDArray) -> float:
        ratio = distance.ravel() / true
        ratio *= np.average(ratio, weights=weight) / np.average(ratio**2, weights=weight)
        return float(np.average(np.abs(ratio - 1), weights=weight))

    errors: dict[str, list[float]] = {"ours": [], "naive averaging": [], "one random view": []}
    for seed in range(draws):
        said = spoilt(answers, seed, noise)
        found = align(frames, [one.depth for one in said])
        merged = merge_depth(frames, said, found, width, width // 2)
        errors["ours"].append(abs_rel(merged.distance))
        sums, total = np.zeros((2, len(true)))
        pick, best = np.full(len(true), -1.0), np.zeros(len(true))
        rng = np.random.default_rng(seed)
        for landing, one in zip(landings, said, strict=True):
            distance = carry_depth(one.depth, landing)[0]
            sums[landing.pixels] += landing.border * distance
            total[landing.pixels] += landing.border
            drawn = rng.random()  # one view of those that see a pixel, the same for a whole view
            taken = landing.pixels[pick[landing.pixels] < drawn]
            best[taken] = distance[pick[landing.pixels] < drawn]
            pick[taken] = drawn
        errors["naive averaging"].append(abs_rel(sums / total))
        errors["one random view"].append(abs_rel(best))
    return {name: float(np.mean(found)) for name, found in errors.items()}


def main() -> None:
    args = arguments(__doc__).parse_args()
    use_one_thread()
    from panoforge.label.agree.instances import join

    width = 256 if args.toy else 1024 if args.quick else 2048
    views, labels, count = join_work(width)
    joined = join(views, width, width // 2)
    if not args.toy:
        check_joined(joined, labels)
    work: dict[str, Callable[[], object]] = {"ours": lambda: join(views, width, width // 2)}
    seconds = median(interleave(work, 3 if args.quick else 5)["ours"])
    plain = median(interleave({"plain": lambda: plain_join(views, 512)}, 1, warm_up=False)["plain"])
    print(f"join: {len(views)} views × {count} instances into {width}×{width // 2}:"
          f" {seconds:.2f} s; the plain way at 512×256: {plain:.1f} s")  # fmt: skip
    peers = [
        Peer(f"limit, 24 views × {count} joined at {width}", LIMIT_S, 1, seconds, "CPU s"),
        Peer("masks of whole panoramas, at 512", plain, 1, seconds, "CPU s"),
    ]
    facts: dict[str, object] = {"instances_a_view": count}
    size, draws = (128, 1) if args.toy else (256, 3) if args.quick else (512, 5)
    for kind in ("scan", "cube", "dense32"):
        for noise in (0.0, 0.03):
            errors = depth_errors(kind, size, noise, draws)
            said = ", ".join(f"{name} {100 * error:.3f} %" for name, error in errors.items())
            print(f"depth, {kind}, noise {100 * noise:g} %: AbsRel {said}")
            facts[f"depth {kind} noise {noise:g}"] = errors
            name = f"depth, {kind}, {100 * noise:g} % noise: "
            ours = errors.pop("ours")
            if not noise:
                peers.append(Peer(name + "limit", LIMIT_ABS_REL, 1, ours, "AbsRel"))
            peers += [Peer(name + who, error, 1, ours, "AbsRel") for who, error in errors.items()]
    finish(Outcome("agree", seconds, "CPU s", len(views), tuple(peers), facts), args)


if __name__ == "__main__":
    main()
