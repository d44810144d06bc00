"""What the scores look like: panoramas with clicks, truth and errors, the worst and the best."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from panoforge.core.geometry.pixels import pixel_at
from panoforge.core.numbers import counted, percent
from panoforge.core.report.page import (
    Gallery,
    Item,
    Picture,
    Section,
)
from panoforge.core.report.pictures import id_colours, jpeg_uri, overlay_ids, shrink_rgb
from panoforge.core.report.viewer import Point, PointLayer, Sphere, css_colour, id_layer
from panoforge.core.sample.products import decode_product
from panoforge.core.types import Labels, Rgb
from panoforge.eval.folders import not_as_written, read_finished

GALLERY_WIDTH = 800  # of the flat pictures; the sphere that they open has all that was kept
TRUTH, CLICKS = "ground truth", "clicks"
RIGHT, MISSED, WRONG, CONFUSED = (60, 170, 110), (60, 130, 235), (225, 70, 70), (240, 190, 60)


def panoramas_section(results: Mapping[str, Any], folder: Path, limit: int) -> Section:
    """Pictures of up to `limit` panoramas, worst and best included."""
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
    """All keys in order, or `limit` of them spread evenly from the worst to the best mean IoU.

    The one in which methods differ most is among them.
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
    files = {method: folder / key / f"{method}.png" for method in by_method}
    predicted = {method: _read(path, "instance.png") for method, path in files.items()}
    for path, labels in (
        (folder / key / "truth.png", truth),
        *zip(files.values(), predicted.values(), strict=True),
    ):
        if labels.shape != rgb.shape[:2]:
            raise not_as_written(
                path,
                f"{labels.shape[1]}×{labels.shape[0]}, its picture {rgb.shape[1]}×{rgb.shape[0]}",
            )
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
    note = f"{counted(n, 'instance')}" + (f" · {mark}" if mark else "")
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
    """The panorama to look around in.

    Ground truth as outlines over the predictions, which name their IoU, and the clicks.
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
    return read_finished(path, partial(decode_product, suffix))


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
