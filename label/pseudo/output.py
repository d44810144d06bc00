"""Pseudo-labels as a sample of our format, staged as a renderer stages them.

Members are those of every sample: `depth`, `normal`, `semantic`, `instance`; beside each its
confidence (`depth_confidence`, …), codes of 1/255. What is not known is not made up: outside of a
partial sphere depth is that of the sky, normals and classes are nothing, confidence is 0.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panoforge.core.errors import DataError
from panoforge.core.numbers import counted
from panoforge.core.sample.instance_table import InstanceLabel, instance_table
from panoforge.core.sample.metadata import Pose, SampleMeta
from panoforge.core.storage.runlog import hardware, versions
from panoforge.core.storage.staged import write_staged
from panoforge.core.types import Labels, Mask, Rgb, Values
from panoforge.label.agree.instances import Joined
from panoforge.label.pseudo.labels import PseudoLabels
from panoforge.label.teachers.choice import TeacherRole
from panoforge.label.teachers.truth import to_world_frame
from panoforge.label.vocabulary import Vocabulary

SOURCE = "pano pseudolabel"
MAX_IDS = 65535


def stage_pseudolabels(
    staged: Path,
    key: str,
    scene: str,
    rgb: Rgb,
    found: PseudoLabels,
    *,
    teachers: Mapping[TeacherRole, Any],
    vocabulary: Vocabulary,
    pose: Pose,
    seen: Mask | None,
    config_sha256: str,
    seconds: float,
) -> dict[str, float]:
    """Stage one labelled panorama.

    Returns:
        The mean confidence of each product over the picture.
    """
    arrays: dict[str, NDArray] = {"rgb.jpg": rgb}
    shares: dict[str, float] = {}
    outside = None if seen is None else ~seen

    def confidence(name: str, values: Values) -> None:
        own = values if outside is None else np.where(outside, 0, values)
        shares[name] = float(own.mean() if seen is None else own[seen].mean())
        arrays[f"{name}_confidence.zst"] = np.rint(own * 255).astype(np.uint8)

    sky = np.zeros(rgb.shape[:2], bool)
    if found.depth is not None:
        distance = found.depth.distance if outside is None else found.depth.distance.copy()
        if outside is not None:
            distance[outside] = np.inf
        sky = np.isinf(distance)
        arrays["depth.delta.zst"] = distance
        confidence("depth", found.depth.confidence)
    if found.normals is not None:
        normals = to_world_frame(found.normals.normals, pose)
        if outside is not None:
            normals[outside] = 0
        arrays["normal.oct.zst"] = normals
        confidence("normal", found.normals.confidence)
    if found.classes is not None:
        arrays["semantic.zst"] = _category_ids(found, vocabulary, outside)
        confidence("semantic", found.classes.confidence)
    labels, names = _instances(found.instances, vocabulary, outside, sky)
    if found.instances is not None:
        confidence("instance", found.instances.confidence)
    arrays["instance.zst"] = labels
    height, width = rgb.shape[:2]
    meta = SampleMeta(
        key=key,
        width=width,
        height=height,
        source=SOURCE,
        scene=scene,
        seed=0,
        camera=0,
        pose=pose,
        products=tuple(sorted(arrays)),
        instances=instance_table(labels, names),
        notes=tuple(notes_of(found, teachers, shares)),
        config_sha256=config_sha256,
        versions=versions(),
        timings_s={"pseudolabel": round(seconds, 3)},
        hardware=hardware(),
    )
    write_staged(staged, meta, arrays)
    return shares


def notes_of(
    found: PseudoLabels, teachers: Mapping[TeacherRole, Any], shares: Mapping[str, float]
) -> Sequence[str]:
    """What the metadata say: whose labels these are, and how well views agreed."""
    said = ["labels of teachers, not of a person"]
    for role, teacher in teachers.items():
        said.append(f"{role}: teacher {teacher.name}, sha256 {teacher.digest}")
    if found.alignment is not None:
        scales = found.alignment.scale[found.alignment.scale > 0]
        said.append(
            f"depth: {counted(found.views, 'view')} agree to {100 * found.alignment.residual:.2f} %"
            f" ({100 * found.alignment.before:.1f} % before), scales"
            f" {float(scales.min(initial=1)):.3g} to {float(scales.max(initial=1)):.3g},"
            f" {len(found.alignment.left_out)} left out"
        )
        if found.unit != "metres":
            said.append("depth: right up to scale and shift, its teacher knows no metres")
    said += [f"{name}: mean confidence {share:.3f}" for name, share in shares.items()]
    return said


def _category_ids(
    found: PseudoLabels, vocabulary: Vocabulary, outside: Mask | None
) -> NDArray[np.uint16]:
    assert found.classes is not None
    ids = np.array([vocabulary.classes[name].category_id for name in vocabulary.names] + [0])
    semantic = ids[found.classes.classes].astype(np.uint16)  # −1, nothing said, is the last
    if outside is not None:
        semantic[outside] = 0
    return semantic


def _instances(
    joined: Joined | None,
    vocabulary: Vocabulary,
    outside: Mask | None,
    sky: Mask,
) -> tuple[Labels, dict[int, InstanceLabel]]:
    """Ids, dense from 1, of what has depth; and what each is."""
    if joined is None:
        return np.zeros(sky.shape, np.uint16), {}
    ids = np.where(sky | (False if outside is None else outside), 0, joined.ids)
    there = np.unique(ids[ids > 0])
    if len(there) > MAX_IDS:
        raise DataError(
            f"{counted(len(there), 'instance')}: ids can tell {MAX_IDS} at most,"
            " raise the teacher's threshold"
        )
    new = np.zeros(int(joined.ids.max(initial=0)) + 1, np.uint16)
    new[there] = np.arange(1, len(there) + 1)
    names = {}
    for one in joined.instances:
        if new[one.id]:
            class_ = vocabulary.find(one.class_name)
            category = class_.name if class_ else f"unknown:{one.class_name}"
            thing = class_.is_thing if class_ else one.is_thing
            number = int(new[one.id])
            flags = () if thing else ("structure",)
            names[number] = InstanceLabel(f"{category} {number}", category, SOURCE, flags)
    return new[ids], names
