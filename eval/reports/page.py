"""The evaluation report: what was scored, with which weights, how well, and what it looks like.

One HTML file.

Takes the content of results.json and the folder of panorama results (their pictures); gives a page
made with `panoforge.core.report.page`. Scores never stand alone: beside each are the ceiling of its
geometry, the ceiling of the model's logit resolution, and the floor. Random or hardly trained
weights are announced above everything else.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from panoforge.core.geometry.pixels import pixel_at
from panoforge.core.numbers import count, percent
from panoforge.core.report.page import (
    Banner,
    Bar,
    Cell,
    Details,
    Facts,
    Gallery,
    Item,
    Picture,
    Report,
    Section,
    Table,
    Tile,
    write_report,
)
from panoforge.core.report.pictures import id_colours, jpeg_uri, overlay_ids, shrink_rgb
from panoforge.core.report.viewer import Point, PointLayer, Sphere, css_colour, id_layer
from panoforge.core.sample.products import decode_product
from panoforge.core.storage.atomic import storage_errors
from panoforge.core.types import Labels, Rgb
from panoforge.eval.reports.published import SAP_ON_PAV_SOD, SAP_SOURCE, TABLES
from panoforge.eval.scoring.salient import OFFICIAL, SEAM_AWARE
from panoforge.eval.views.methods import get_method

FEW_STEPS = 1000
SIDE_BY_SIDE = 3
SCORES = ("boundary_f", "j_and_f", "j_sphere", "f_sphere")
GALLERY_WIDTH = 800  # of the flat pictures; the sphere that they open has all that was kept
TRUTH, CLICKS = "ground truth", "clicks"
RIGHT, MISSED, WRONG, CONFUSED = (60, 170, 110), (60, 130, 235), (225, 70, 70), (240, 190, 60)


def write_evaluation_report(
    path: Path, results: Mapping[str, Any], folder: Path, panoramas: int
) -> None:
    """Write the report of `results` with pictures of up to `panoramas` panoramas, worst and best
    included.
    """
    write_report(path, evaluation_report(results, folder, panoramas))


def evaluation_report(results: Mapping[str, Any], folder: Path, panoramas: int) -> Report:
    """The report as data."""
    data, weights, model = results["dataset"], results["weights"], results["model"]
    best = max(
        (s for s in results["scores"] if s["role"] == "model"),
        key=lambda s: s["miou"] or 0.0,
        default=None,
    )
    instances = len({(row["key"], row["id"]) for row in results["rows"]})
    what = (
        f"SAM2.1 {model['size']} at {model['image_size']}²"
        if model["predictor"] == "sam2"
        else weights["source"]
    )
    return Report(
        title="Evaluation",
        subtitle=f"{what} · {data['panoramas']} panoramas of {', '.join(data['size'])}",
        made_by=f"panoforge {results['versions']['panoforge']} · protocol {results['protocol_id']}",
        banners=_banners(results),
        tiles=[
            Tile(
                "Best mIoU",
                percent(best["miou"] if best else None),
                note=f"method {best['method']}" if best else "",
            ),
            Tile(
                "cos φ-weighted",
                percent(best["miou_cos"] if best else None),
                note="the same, by solid angle",
            ),
            Tile(
                "Instances",
                count(instances),
                note=f"prompts: {_prompts(results['protocol']['prompts']).split(',')[0]}",
            ),
            Tile(
                "Panoramas",
                count(data["panoramas"]),
                note=f"split {data['split']}" if data["split"] else "the whole dataset",
            ),
        ],
        sections=[
            _scores(results),
            _panoramas(results, folder, panoramas),
            _published(results),
            _protocol(results),
        ],
    )


def _banners(results: Mapping[str, Any]) -> list[Banner]:
    weights = results["weights"]
    if weights["kind"] == "random":
        return [
            Banner(
                "The weights are random numbers: the scores of the model say nothing about SAM2 or"
                " SAP. Ceiling and floor are real measurements.",
                kind="warn",
                title="Random weights.",
            )
        ]
    if weights["kind"] == "none":
        return [
            Banner(
                f"No model was run: the predictor is “{weights['source']}”, which measures the path"
                " around a model.",
                title="No model.",
            )
        ]
    steps = weights["steps"]
    if steps is not None and steps < FEW_STEPS:
        return [
            Banner(
                f"These weights were trained for {count(steps)} steps only. The scores show that"
                " the chain works; they say nothing about what SAM2 or SAP can do. Ceiling and"
                " floor are real measurements.",
                kind="warn",
                title="Hardly trained.",
            )
        ]
    return []


def _scores(results: Mapping[str, Any]) -> Section:
    found = {(s["method"], s["role"]): s for s in results["scores"]}
    methods = list(dict.fromkeys(s["method"] for s in results["scores"]))
    rows: list[list[Any]] = []
    others: list[list[Any]] = []  # in a table of their own: in one, the ceilings were off the page
    for method in methods:
        score = found[method, "model"]
        rows.append(
            [
                method,
                Bar(score["miou"] or 0.0, percent(score["miou"])),
                _span(score),
                *(
                    percent(found[method, role]["miou"], 2)
                    for role in ("ceiling", "logit ceiling", "floor")
                ),
            ]
        )
        others.append(
            [
                method,
                percent(score["miou_cos"]),
                percent(score["miou_by_image"]),
                *(percent(score[name]) for name in SCORES),
                percent(score["ap"]),
            ]
        )
    best = max(range(len(rows)), key=lambda k: found[methods[k], "model"]["miou"] or 0.0, default=0)
    summaries = {name: get_method(name).summary for name in methods}
    return Section(
        "Scores",
        text=(
            "IoU of every instance on the panorama itself, then the mean. The ceiling is ground"
            " truth sent through the same frames and the same merging; the logit ceiling does so at"
            " the resolution of the model's own masks, which no weights can beat; the floor is no"
            " mask at all. Boundary F (DAVIS) is how much of both outlines lies within 0.8 % of the"
            " image diagonal of the other, also across the seam; J&F is the mean of both, the"
            " spherical ones weigh every pixel by its solid angle. AP ranks masks by how sure they"
            " are. Intervals are 95 % bootstrap intervals over panoramas."
        ),
        blocks=[
            Table(
                ["method", "mIoU", "95 %", "ceiling", "logit ceiling", "floor"],
                rows,
                strong=[best] if len(rows) > 1 else [],
            ),
            Table(
                [
                    "method",
                    "cos φ-weighted",
                    "mean over panoramas",
                    "boundary F",
                    "J&F",
                    "J sphere",
                    "F sphere",
                    "AP",
                ],
                others,
                strong=[best] if len(rows) > 1 else [],
            ),
            *_saliency(results),
            Facts(summaries),
            *_groups(results, methods),
        ],
    )


def _saliency(results: Mapping[str, Any]) -> list[Table]:
    """The masks together as a saliency map, for benchmarks of salient objects."""
    names = (*OFFICIAL, *SEAM_AWARE)
    rows = [
        [s["method"], s["role"], *(percent(s[name], 2) for name in names)]
        for s in results.get("saliency", ())
    ]
    heads = [
        "method",
        "",
        "MAE",
        "F_β",
        "E-measure",
        "S-measure",
        "MAE by solid angle",
        "E-measure, paper's",
        "S-measure, seam turned",
    ]
    caption = (
        "All masks of a panorama as one saliency map. First as the sets' evaluator computes it,"
        " then by solid angle, with E-measure as its paper has it, and with the seam turned to"
        " where nothing is. E-measure divides by one pixel less than there are, in the evaluator: a"
        " perfect map has a little over 100 %."
    )
    return [Table(heads, rows, caption=caption)] if rows else []


def _span(entry: Mapping[str, Any]) -> str:
    """'61.2 to 70.3', or a dash where one panorama says nothing of the spread."""
    low, high = entry["miou_low"], entry["miou_high"]
    return "–" if low is None or high is None else f"{100 * low:.1f} to {100 * high:.1f}"


def _groups(results: Mapping[str, Any], methods: Sequence[str]) -> list[Table]:
    """A table per way to group: mIoU of each method with its interval, and its logit ceiling, in
    every group. Where many methods would run off the page, methods are rows if groups are few, and
    numbers stand alone if they are many too.
    """
    tables = []
    for by in dict.fromkeys(entry["by"] for entry in results["groups"]):
        entries = {
            (e["group"], e["method"], e["role"]): e for e in results["groups"] if e["by"] == by
        }
        groups = list(dict.fromkeys(key[0] for key in entries))
        numbers = {
            group: count(entries[group, methods[0], "model"]["instances"]) for group in groups
        }

        def pair(
            group: str, method: str, entries: Mapping[tuple[str, str, str], Any] = entries
        ) -> list[Any]:
            score, ceiling = (
                entries[group, method, "model"],
                entries[group, method, "logit ceiling"],
            )
            span = f" ({_span(score)})" if len(methods) <= SIDE_BY_SIDE else ""
            return [Bar(score["miou"], percent(score["miou"]) + span), percent(ceiling["miou"])]

        caption = f"mIoU by {by}"
        if len(methods) <= SIDE_BY_SIDE:
            caption += ", and its 95 % interval"
            heads = [
                by,
                "instances",
                *(head for method in methods for head in (method, "logit ceiling")),
            ]
            rows = [
                [
                    group,
                    numbers[group],
                    *(cell for method in methods for cell in pair(group, method)),
                ]
                for group in groups
            ]
        elif len(groups) <= SIDE_BY_SIDE:
            heads = [
                "method",
                *(
                    head
                    for group in groups
                    for head in (f"{group}, {numbers[group]}", "logit ceiling")
                ),
            ]
            rows = [
                [method, *(cell for group in groups for cell in pair(group, method))]
                for method in methods
            ]
        else:
            heads = [by, "instances", *methods]
            rows = [
                [
                    group,
                    numbers[group],
                    *(percent(entries[group, method, "model"]["miou"]) for method in methods),
                ]
                for group in groups
            ]
        tables.append(Table(heads, rows, caption=caption))
    return tables


def _prompts(rule: Mapping[str, Any]) -> str:
    """The prompts' rule in words."""
    if rule["kind"] == "click":
        number = "one click" if rule["clicks"] == 1 else f"{rule['clicks']} clicks"
        return (
            f"{number} per instance, the first at its most interior point (angular distance, across"
            " seam and poles)"
        )
    if rule["kind"] == "file":
        return f"a prompts file, sha256 {rule['sha256']}"
    return f"the {rule['kind']} of every instance, in the frame that sees most of it"


def _protocol(results: Mapping[str, Any]) -> Section:
    weights, data, protocol = results["weights"], results["dataset"], results["protocol"]
    scan, chosen = protocol["scan"], protocol["instances"]
    limit = (
        f", at most {chosen['max_per_panorama']} drawn per panorama"
        if chosen["max_per_panorama"]
        else ""
    )
    facts = {
        "protocol id": results["protocol_id"],
        "prompts": f"{_prompts(protocol['prompts'])}; saved in prompts.json",
        "instances": f"all of at least {chosen['min_pixels']} pixels{limit}",
        "scan": (
            f"{scan['fov_deg']:g}° field of view, {scan['overlap']:.0%} overlap, views of"
            f" {scan['size_px']}²"
        ),
        "merge": (
            f"logits clamped to ±{protocol['merge']['clamp']:g}, centre-weighted mean, mask where"
            " above 0"
        ),
        "weights": (
            weights["source"]
            + (f", {count(weights['steps'])} steps" if weights["steps"] is not None else "")
        ),
        "weights sha256": weights["sha256"],
        "dataset manifest sha256": data["manifest_sha256"],
        "machine": f"{results['hardware']['processor']}, {results['hardware']['cores']} cores",
    }
    if data.get("left_out"):
        facts["left out"] = data["left_out"]
    rows = [[name, version] for name, version in results["versions"].items()]
    return Section(
        "Protocol",
        text="Two results may be compared only if their protocol ids are equal.",
        blocks=[Facts(facts), Details("Versions", [Table(["package", "version"], rows)])],
    )


def _published(results: Mapping[str, Any]) -> Section:
    """Our scores above those that SAP publishes, then the tables of others."""
    data, weights = results["dataset"], results["weights"]
    what = (
        weights["source"]
        if weights["kind"] == "none"
        else f"SAM2.1 {results['model']['size']}, {weights['kind']} weights"
    )
    ours: list[list[Cell]] = [
        [
            f"{score['method']} ({what})",
            Bar(score["miou"] or 0.0, percent(score["miou"])),
            f"{data['name']}, this report",
            "measured here",
        ]
        for score in results["scores"]
        if score["role"] == "model"
    ]
    theirs: list[list[Cell]] = [
        [label, Bar(miou, percent(miou)), data_, "published, not reproduced"]
        for label, miou, data_ in SAP_ON_PAV_SOD
    ]
    tables = [
        Table(
            table.columns,
            table.rows,
            caption=f"{table.title}. Published, not reproduced. Source: {table.source}.",
        )
        for table in TABLES
    ]
    return Section(
        "Beside published results",
        text=(
            "What others print of theirs. None of it was reproduced here, and a row compares with"
            " ours only on the same data under the same protocol: SAP publishes neither its clicks"
            " nor its averaging."
        ),
        blocks=[
            Table(
                ["method", "mIoU", "data", "evidence"],
                [*ours, *theirs],
                caption=(
                    "Zero-shot mIoU as published; ours as measured on our data. Source of the"
                    f" published rows: {SAP_SOURCE}."
                ),
            ),
            Details("Ablations and the 360° video benchmarks, as published", tables),
        ],
    )


def _panoramas(results: Mapping[str, Any], folder: Path, limit: int) -> Section:
    by_key: dict[str, list[Mapping[str, Any]]] = {}
    for row in results["rows"]:
        if row["role"] == "model":
            by_key.setdefault(row["key"], []).append(row)
    shown, marks = _pick(by_key, limit), _marks(by_key)
    note = (
        ""
        if len(shown) == len(by_key)
        else f" {len(shown)} of {len(by_key)} are shown, from the worst to the best."
    )
    return Section(
        "Panoramas",
        text=(
            "The image with the clicks, ground truth, and for every method its prediction and where"
            " it differs: green is right, blue was missed, red is too much, yellow went to another"
            " instance. A click on a picture opens the panorama to look around in, with clicks,"
            " ground truth (outlines) and predictions to be switched on and off; point at a thing"
            " to read its IoU." + note
        ),
        blocks=[
            Gallery(
                [_item(key, by_key[key], folder, marks.get(key, "")) for key in shown], columns=2
            )
        ],
    )


def _pick(by_key: Mapping[str, Sequence[Mapping[str, Any]]], limit: int) -> list[str]:
    """All keys in order, or `limit` of them spread evenly from the worst to the best mean IoU, the
    one in which methods differ most among them.
    """
    if len(by_key) <= limit:
        return list(by_key)
    ranked = sorted(by_key, key=lambda key: (_mean_iou(by_key[key]), key))
    chosen = (
        [ranked[index] for index in np.linspace(0, len(ranked) - 1, limit).round().astype(int)]
        if limit
        else []
    )
    differing = max(by_key, key=lambda key: (_spread(by_key[key]), key))
    if limit >= 3 and _spread(by_key[differing]) > 0 and differing not in chosen:
        chosen[limit // 2] = differing
        chosen.sort(key=ranked.index)
    return chosen


def _marks(by_key: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, str]:
    """What is notable about some panoramas: the worst, the best, and where methods differ most."""
    if len(by_key) < 2:
        return {}
    ranked = sorted(by_key, key=lambda key: (_mean_iou(by_key[key]), key))
    marks = {ranked[0]: ["the worst"], ranked[-1]: ["the best"]}
    differing = max(by_key, key=lambda key: (_spread(by_key[key]), key))
    if (spread := _spread(by_key[differing])) > 0:
        marks.setdefault(differing, []).append(
            f"methods differ most ({100 * spread:.1f} points of mIoU)"
        )
    return {key: ", ".join(words) for key, words in marks.items()}


def _mean_iou(rows: Sequence[Mapping[str, Any]]) -> float:
    return float(np.mean([row["iou"] for row in rows]))


def _spread(rows: Sequence[Mapping[str, Any]]) -> float:
    """Best minus worst mIoU over the methods."""
    means = [
        _mean_iou([row for row in rows if row["method"] == method])
        for method in {row["method"] for row in rows}
    ]
    return max(means) - min(means)


def _item(key: str, rows: Sequence[Mapping[str, Any]], folder: Path, mark: str = "") -> Item:
    rgb, truth = (
        _read(folder / key / "rgb.jpg", "rgb.jpg"),
        _read(folder / key / "truth.png", "instance.png"),
    )
    methods = dict.fromkeys(row["method"] for row in rows)
    by_method = {method: [row for row in rows if row["method"] == method] for method in methods}
    predicted = {
        method: _read(folder / key / f"{method}.png", "instance.png") for method in by_method
    }
    pictures = [
        _picture(draw_clicks(rgb, rows), "image and clicks", CLICKS),
        _picture(overlay_ids(rgb, truth), "ground truth", TRUTH, CLICKS),
    ]
    facts = {}
    for method, own in by_method.items():
        pictures += [
            _picture(overlay_ids(rgb, predicted[method]), f"{method}: prediction", method, CLICKS),
            _picture(draw_errors(rgb, truth, predicted[method]), f"{method}: error", method, TRUTH),
        ]
        facts[method] = f"mIoU {percent(float(np.mean([row['iou'] for row in own])))}"
    n = len({row["id"] for row in rows})
    note = f"{n} instances" + (f" · {mark}" if mark else "")
    return Item(
        key, pictures, note=note, facts=facts, sphere=_sphere(rgb, truth, predicted, by_method)
    )


def _picture(rgb: Rgb, label: str, *shown: str) -> Picture:
    return Picture(jpeg_uri(shrink_rgb(rgb, GALLERY_WIDTH)), label, shown=shown)


def _sphere(
    rgb: Rgb,
    truth: Labels,
    predicted: Mapping[str, Labels],
    by_method: Mapping[str, Sequence[Mapping[str, Any]]],
) -> Sphere:
    """The panorama to look around in: ground truth as outlines over the predictions, which name
    their IoU, and the clicks.
    """
    every = {row["id"]: row for own in by_method.values() for row in own}
    names = {id_: f"{row['category'].replace('_', ' ')} {id_}" for id_, row in every.items()}
    layers = [
        id_layer(
            method,
            predicted[method],
            {row["id"]: f"{names[row['id']]}, IoU {percent(row['iou'])}" for row in own},
        )
        for method, own in by_method.items()
    ]
    clicks = [
        Point(row["lon_deg"], row["lat_deg"], css_colour(id_), names[id_])
        for id_, row in every.items()
    ]
    return Sphere(
        jpeg_uri(rgb),
        (*layers, id_layer(TRUTH, truth, names, outline=True), PointLayer(CLICKS, clicks)),
    )


def _read(path: Path, suffix: str) -> NDArray:
    with storage_errors(path):
        data = path.read_bytes()
    return decode_product(suffix, data)


def draw_clicks(rgb: Rgb, rows: Sequence[Mapping[str, Any]]) -> Rgb:
    """A ringed dot in its instance's colour at every click."""
    out, (height, width) = rgb.copy(), rgb.shape[:2]
    for row in {row["id"]: row for row in rows}.values():
        lon, lat = np.radians(row["lon_deg"]), np.radians(row["lat_deg"])
        u, v = (int(index) for index in pixel_at(lon, lat, width, height))
        radius = max(4, width // 170)
        cv2.circle(out, (u, v), radius + 2, (20, 22, 26), -1, cv2.LINE_AA)
        cv2.circle(out, (u, v), radius + 1, (255, 255, 255), -1, cv2.LINE_AA)
        cv2.circle(
            out, (u, v), radius - 1, tuple(map(int, id_colours()[row["id"]])), -1, cv2.LINE_AA
        )
    return out


def draw_errors(rgb: Rgb, truth: Labels, predicted: Labels) -> Rgb:
    """Agreement and its three ways to fail, over the darkened grey picture."""
    grey = cv2.cvtColor(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB) // 2
    colour, shown = np.zeros_like(rgb), (truth > 0) | (predicted > 0)
    colour[(truth > 0) & (truth == predicted)] = RIGHT
    colour[(truth > 0) & (predicted == 0)] = MISSED
    colour[(truth == 0) & (predicted > 0)] = WRONG
    colour[(truth > 0) & (predicted > 0) & (truth != predicted)] = CONFUSED
    return np.where(shown[..., None], cv2.addWeighted(grey, 0.35, colour, 0.65, 0), grey)
