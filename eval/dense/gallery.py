"""What dense scores look like: maps of a panorama, their errors, and its points in space."""

from pathlib import Path

import numpy as np

from panoforge.core.categories.class_sets import VOID, class_set
from panoforge.core.report.maps import depth_colours, normal_colours, share_colours
from panoforge.core.report.page import Item, Picture, PointView
from panoforge.core.report.pictures import NOTHING_RGB, colour_ids, jpeg_uri, shrink_rgb
from panoforge.core.report.points import cloud_of_panorama
from panoforge.core.report.viewer import IdLayer, Sphere, id_layer
from panoforge.core.types import Depth, Normals, Rgb
from panoforge.eval.dense.pictures import class_ids, read_maps_of, read_rgb
from panoforge.eval.maps import DenseMaps, resized_rgb
from panoforge.eval.scoring.metrics.normals import angles_deg

GALLERY_WIDTH = 640
POINTS_HEIGHT = 256  # rows that points are taken from: some 80,000 of them
WORST_REL, WORST_DEG = 0.5, 60.0  # errors that are brightest
TRUTH, PREDICTION = "truth", "prediction"


def panorama_item(folder: Path, key: str, classes: str | None, max_depth_m: float | None) -> Item:
    """A panorama's picture, and of each task truth, prediction and error."""
    rgb, truth, found = (
        read_rgb(folder),
        read_maps_of(folder, "truth"),
        read_maps_of(folder, "model"),
    )
    pictures = [Picture(jpeg_uri(rgb), "picture", wide=True)]
    if truth.semantic is not None and found.semantic is not None:
        pictures += [
            _picture(colour_ids(class_ids(truth.semantic)), "classes: truth", TRUTH),
            _picture(colour_ids(class_ids(found.semantic)), "classes: prediction", PREDICTION),
            _picture(class_errors(truth, found), "classes: wrong in red, void dark", PREDICTION),
        ]
    if truth.depth_m is not None and found.depth_m is not None:
        far = max_depth_m or float(np.max(truth.depth_m[np.isfinite(truth.depth_m)], initial=1.0))
        pictures += [
            _picture(depth_colours(truth.depth_m, far), "depth: truth"),
            _picture(depth_colours(found.depth_m, far), "depth: prediction"),
            _picture(
                depth_error_colours(truth.depth_m, found.depth_m),
                f"depth: error, bright from {100 * WORST_REL:.0f} %",
            ),
        ]
    if truth.normal is not None and found.normal is not None:
        pictures += [
            _picture(normal_colours(truth.normal), "normals: truth"),
            _picture(normal_colours(found.normal), "normals: prediction"),
            _picture(
                normal_error_colours(truth.normal, found.normal),
                f"normals: error, bright from {WORST_DEG:.0f}°",
            ),
        ]
    return Item(key, pictures, sphere=_sphere(rgb, truth, found, classes))


def point_view(folder: Path, key: str, classes: str | None) -> PointView | None:
    """The panorama's points where truth and prediction put them; None without depth."""
    rgb, truth, found = (
        read_rgb(folder),
        read_maps_of(folder, "truth"),
        read_maps_of(folder, "model"),
    )
    if found.depth_m is None:
        return None
    height = min(POINTS_HEIGHT, rgb.shape[0])
    small = resized_rgb(rgb, height)
    clouds = []
    for label, maps in ((PREDICTION, found.resized(height)), (TRUTH, truth.resized(height))):
        if maps.depth_m is None:
            continue
        colours = {"picture": small}
        if maps.semantic is not None:
            colours["classes"] = colour_ids(class_ids(maps.semantic))
        if maps.normal is not None:
            colours["normals"] = normal_colours(maps.normal)
        clouds.append(cloud_of_panorama(label, maps.depth_m, colours))
    same = set.intersection(*(set(cloud.colours) for cloud in clouds))
    if any(set(cloud.colours) != same for cloud in clouds):
        clouds = clouds[:1]
    return PointView(key, clouds)


def depth_error_colours(truth: Depth, predicted: Depth) -> Rgb:
    """|Δ| over the truth, dark where right."""
    known = np.isfinite(truth) & (truth > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.abs(np.where(np.isfinite(predicted), predicted, 1e3) - truth) / truth
    return share_colours(np.where(known, error, 0) / WORST_REL, known, "inferno")


def normal_error_colours(truth: Normals, predicted: Normals) -> Rgb:
    """The angle between them, dark where right."""
    known = (truth != 0).any(axis=-1)
    error = np.zeros(known.shape)
    error[known] = angles_deg(truth[known], predicted[known])
    return share_colours(error / WORST_DEG, known, "inferno")


def class_errors(truth: DenseMaps, found: DenseMaps) -> Rgb:
    """Right classes in grey, wrong ones in red, void dark."""
    if truth.semantic is None or found.semantic is None:
        raise ValueError("class_errors needs both class maps")
    out = np.full((*truth.semantic.shape, 3), NOTHING_RGB, np.uint8)
    known = truth.semantic != VOID
    out[known] = (70, 76, 86)
    out[known & (truth.semantic != found.semantic)] = (225, 70, 70)
    return out


def _picture(rgb: Rgb, label: str, *shown: str) -> Picture:
    return Picture(
        jpeg_uri(shrink_rgb(np.ascontiguousarray(rgb), GALLERY_WIDTH)), label, shown=shown
    )


def _sphere(rgb: Rgb, truth: DenseMaps, found: DenseMaps, classes: str | None) -> Sphere:
    """The panorama to look around in, with the classes as layers."""
    layers: list[IdLayer] = []
    names = dict(enumerate(class_set(classes).classes, start=1)) if classes else {}
    for label, maps in ((TRUTH, truth), (PREDICTION, found)):
        if maps.semantic is not None and classes:
            ids = class_ids(maps.semantic)
            layers.append(id_layer(label, ids, names, outline=label == TRUTH))
    return Sphere(jpeg_uri(rgb), tuple(layers))
