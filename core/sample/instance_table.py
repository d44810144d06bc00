"""The instance table of a sample.

What the renderer knows of each id, joined with what the label map says.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from panoforge.core.errors import DataError
from panoforge.core.sample.label_maps import InstanceStats, encode_rles, instance_stats
from panoforge.core.sample.metadata import Box3D, InstanceMeta, Rle, SampleMeta, WrapBox
from panoforge.core.types import Labels


@dataclass(frozen=True)
class InstanceLabel:
    """What the renderer knows of an id, before pixels are counted."""

    name: str
    category: str
    source_object: str
    flags: tuple[str, ...] = ()
    box_3d: Box3D | None = None
    visibility: float | None = None


def instance_table(
    labels: Labels, names: Mapping[int, InstanceLabel], *, rle: bool = False
) -> tuple[InstanceMeta, ...]:
    """The metadata's instance table: what is known of each id joined with what the label map says.

    Every id in the map must be named; seam and pole flags come from the pixels. With `rle` each
    instance carries its COCO RLE.
    """
    stats = instance_stats(labels)
    unnamed = sorted(set(stats.ids.tolist()) - set(names))
    if unnamed:
        raise DataError(f"label map holds ids that nothing names: {unnamed[:10]}")
    rles = encode_rles(labels) if rle else {}
    return tuple(_instance_row(stats, index, names, rles) for index in range(stats.ids.size))


def _instance_row(
    stats: InstanceStats, index: int, names: Mapping[int, InstanceLabel], rles: dict
) -> InstanceMeta:
    id_ = int(stats.ids[index])
    label, box = names[id_], stats.box(index)
    flags = [*label.flags] + ["seam"] * bool(stats.seam[index]) + ["pole"] * bool(stats.pole[index])
    return InstanceMeta(
        id=id_,
        name=label.name,
        category=label.category,
        source_object=label.source_object,
        flags=tuple(sorted(set(flags))),
        pixels=int(stats.pixels[index]),
        area_sr=float(stats.area_sr[index]),
        box=WrapBox(u0=box.u0, v0=box.v0, width=box.width, height=box.height),
        box_3d=label.box_3d,
        visibility=label.visibility,
        rle=Rle(**rles[id_]) if id_ in rles else None,
    )


def table_faults(labels: Labels, meta: SampleMeta) -> list[str]:
    """How the instance table disagrees with the pixels; empty when it does not.

    Ids (dense from 1, but in frames of videos), counts, areas, boxes, flags and RLEs are compared.
    """
    stats = instance_stats(labels)
    in_map, in_table = stats.ids.tolist(), [row.id for row in meta.instances]
    if in_map != in_table:
        return [
            f"instance ids differ: {len(in_map)} in the label map, {len(in_table)} in the table, "
            f"first difference {sorted(set(in_map) ^ set(in_table))[:5] or 'in their order'}"
        ]
    faults = []
    if meta.video is None and in_map != list(range(1, len(in_map) + 1)):
        faults.append("instance ids are not dense from 1")
    for index, row in enumerate(meta.instances):
        box = stats.box(index)
        if row.pixels != stats.pixels[index] or abs(
            row.area_sr - stats.area_sr[index]
        ) > 1e-9 * max(1.0, row.area_sr):
            faults.append(
                f"instance {row.id}: table says {row.pixels} px and {row.area_sr:.6g} sr, "
                f"the pixels say {stats.pixels[index]} and {stats.area_sr[index]:.6g}"
            )
        if (row.box.u0, row.box.v0, row.box.width, row.box.height) != (
            box.u0,
            box.v0,
            box.width,
            box.height,
        ):
            faults.append(f"instance {row.id}: box in the table does not match the pixels")
        for flag, seen in (("seam", stats.seam[index]), ("pole", stats.pole[index])):
            if (flag in row.flags) != bool(seen):
                faults.append(f"instance {row.id}: its flag {flag!r} does not match the pixels")
    return faults + _rle_faults(labels, meta)


def _rle_faults(labels: Labels, meta: SampleMeta) -> list[str]:
    """RLEs that are not the label map's. Compared as texts: a forged one is never decoded."""
    if not any(row.rle for row in meta.instances):
        return []
    rles = {id_: Rle.model_validate(rle) for id_, rle in encode_rles(labels).items()}
    return [
        f"instance {row.id}: its RLE is not that of its pixels in the label map"
        for row in meta.instances
        if row.rle is not None and row.rle != rles[row.id]
    ]
