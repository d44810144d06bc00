"""Export for the Hugging Face Hub: Parquet whose pictures its viewer shows, and a card.

    README.md                        the card: licence, configs, features, examples that run
    data/<split>-00000-of-00003.parquet        config `default`: a row is a panorama
    instances/<split>-00000-of-00001.parquet   config `instances`: a row is an instance

Pictures are image columns, the encoded files themselves. `rgb` is as it is stored, `ids` a 16-bit
PNG. `depth` is a 16-bit PNG of multiples of the row's `depth_unit_m` (0 is sky). `preview` has the
ids laid over a small picture. A depth's unit is a millimetre, or the least of 2, 5, 10, … that
reaches the farthest pixel. Normals, semantics and albedo stay in the shards.

The Hub's viewer reads whole row groups, and none over 286 MiB. A row group here has at most
MAX_GROUP_BYTES, a file MAX_FILE_BYTES, as `datasets` writes them. Pages have an index, and are cut
where the content says, so that a dataset that grows uploads only what is new.
"""

import contextlib
import io
import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from panoforge.core.cards.facts import DatasetFacts, facts_of
from panoforge.core.cards.hub import HubConfig, HubSplit, hub_readme
from panoforge.core.errors import DataError, UsageError
from panoforge.core.export.frames import ExportFacts, ExportJob, Frame, Part
from panoforge.core.export.units import Unit
from panoforge.core.report.pictures import overlay_ids, shrink_ids, shrink_rgb
from panoforge.core.sample.products import encode_product
from panoforge.core.shards.layout import INSTANCE_SCHEMA, instance_rows
from panoforge.core.shards.read import Sample
from panoforge.core.storage.atomic import storage_errors

MAX_GROUP_BYTES = 100 << 20
MAX_FILE_BYTES = 500 << 20
PREVIEW_WIDTH = 1024

FOLDERS = {"default": "data", "instances": "instances"}  # of the configs
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
PANORAMA_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("preview", IMAGE),
        ("rgb", IMAGE),
        ("ids", IMAGE),
        ("depth", IMAGE),
        ("depth_unit_m", pa.float64()),
        ("source", pa.string()),
        ("scene", pa.string()),
        ("camera", pa.int32()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("n_instances", pa.int32()),
        ("position_m", pa.list_(pa.float64())),
        ("world_from_pano", pa.list_(pa.float64())),
        ("seed", pa.int64()),
        ("config_sha256", pa.string()),
    ]
)
IMAGE_COLUMNS = ("preview", "rgb", "ids", "depth")
DEPTH_COLUMNS = ("depth", "depth_unit_m")


def hf_part(job: ExportJob, unit: Unit, frames: list[Frame]) -> Part:
    """The rows of one panorama in both tables."""
    sample = job.dataset.read(unit.first, ("rgb", "instance", "depth"))
    row = panorama_row(sample)
    pictures = sum(len(row[name]["bytes"]) for name in IMAGE_COLUMNS if row.get(name))
    if pictures > MAX_GROUP_BYTES:
        raise DataError(
            f"{sample.key}: its pictures take {pictures:,} bytes, over the {MAX_GROUP_BYTES:,} of"
            " a row group that the Hub's viewer reads: render it smaller, or export another format"
        )
    extra = (unit.split, row, instance_rows(sample.meta))
    return Part(sample.key, counts={"panoramas": 1, "instances": len(extra[2])}, extra=extra)


def panorama_row(sample: Sample) -> dict[str, Any]:
    """A panorama's row of the default config; without depth where the sample has none."""
    meta, labels = sample.meta, sample.read("instance")
    suffix = sample.suffix("rgb")
    rgb = sample.read("rgb")
    small = overlay_ids(shrink_rgb(rgb, PREVIEW_WIDTH), shrink_ids(labels, PREVIEW_WIDTH))

    def image(name: str, data: bytes) -> dict[str, Any]:
        return {"bytes": data, "path": f"{sample.key}.{name}"}

    row: dict[str, Any] = {
        "key": sample.key,
        "preview": image("preview.jpg", encode_product("rgb.jpg", small, jpeg_quality=85)),
        "rgb": image(suffix, bytes(sample.members[suffix])),
        "ids": image("ids.png", encode_product("instance.png", labels)),
        "source": meta.source,
        "scene": meta.scene,
        "camera": meta.camera,
        "width": meta.width,
        "height": meta.height,
        "n_instances": len(meta.instances),
        "position_m": list(meta.pose.position_m),
        "world_from_pano": [value for line in meta.pose.world_from_pano for value in line],
        "seed": meta.seed,
        "config_sha256": meta.config_sha256,
    }
    if any(name.startswith("depth.") for name in sample.members):
        depth = sample.read("depth")
        unit_m = depth_unit_m(depth)
        row["depth"] = image("depth.png", depth_png(depth, unit_m))
        row["depth_unit_m"] = unit_m
    return row


def depth_unit_m(depth_m: NDArray[np.floating]) -> float:
    """Metres of one step of a 16-bit depth.

    0.001, or the least of 0.002, 0.005, 0.01, … with which the farthest pixel fits.
    """
    near = depth_m[np.isfinite(depth_m)].astype(np.float64)
    farthest = float(near.max(initial=0))
    units = (step * 10.0**power / 1000 for power in range(12) for step in (1, 2, 5))
    return next(unit for unit in units if farthest / unit <= 65535)


def depth_png(depth_m: NDArray[np.floating], unit_m: float) -> bytes:
    """Depth as 16-bit PNG: the nearest multiple of the unit, at least 1; 0 where it is infinite."""
    finite = np.isfinite(depth_m)
    steps = np.rint(np.where(finite, depth_m, 0).astype(np.float64) / unit_m)
    steps = np.where(finite, np.clip(steps, 1, 65535), 0).astype(np.uint16)
    ok, data = cv2.imencode(".png", steps, [cv2.IMWRITE_PNG_COMPRESSION, 6])
    assert ok
    return data.tobytes()


@dataclass
class _ParquetFiles:
    """One split of one config: rows are spooled to files of at most MAX_FILE_BYTES."""

    schema: pa.Schema
    stack: contextlib.ExitStack
    files: list[IO[bytes]] = field(default_factory=list)
    rows: int = 0
    bytes: int = 0  # of pictures and texts, as the card's dataset_info has them
    _writer: pq.ParquetWriter | None = None
    _held: list[dict[str, Any]] = field(default_factory=list)
    _held_bytes: int = 0
    _file_bytes: int = 0

    def add(self, row: dict[str, Any], size: int) -> None:
        if self._held and self._held_bytes + size > MAX_GROUP_BYTES:
            self._flush()
        self._held.append(row)
        self._held_bytes += size
        self.rows += 1
        self.bytes += size

    def _flush(self) -> None:
        """Write what is held as one row group."""
        if self._writer is None or self._file_bytes + self._held_bytes > MAX_FILE_BYTES:
            self.close()
            spool = tempfile.TemporaryFile()  # noqa: SIM115 the stack closes it
            self.files.append(self.stack.enter_context(spool))
            self._writer = pq.ParquetWriter(
                self.files[-1],
                self.schema,
                compression="zstd",
                write_page_index=True,
                use_content_defined_chunking=True,
            )
            self._file_bytes = 0
        table = pa.Table.from_pylist(self._held, self.schema)
        self._writer.write_table(table, row_group_size=len(self._held))
        self._file_bytes += self._held_bytes
        self._held, self._held_bytes = [], 0

    def close(self) -> None:
        """End the file that is being written."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def finish(self) -> None:
        """Write what is left."""
        if self._held:
            self._flush()
        self.close()


def hf_join(job: ExportJob, parts: Iterator[Part]) -> ExportFacts:
    """The Parquet files of both configs, then the card."""
    if job.options.card is None:
        raise UsageError("hf writes a dataset card: give --name and --license (and --repo)")
    facts = facts_of(job.dataset)  # now: it refuses a part of a dataset
    schemas = {"default": _panorama_schema(facts), "instances": INSTANCE_SCHEMA}
    tables: dict[str, dict[str, _ParquetFiles]] = {name: {} for name in schemas}
    with contextlib.ExitStack() as stack, storage_errors(tempfile.gettempdir()):
        for part in parts:
            split, row, instances = part.extra
            for name, rows in (("default", [row]), ("instances", instances)):
                if split not in tables[name]:
                    tables[name][split] = _ParquetFiles(_with_features(schemas[name]), stack)
                for each in rows:
                    tables[name][split].add(each, _size(each))
        configs = tuple(
            HubConfig(
                name,
                FOLDERS[name],
                schemas[name],
                tuple(_finished(job, name, split, found[split]) for split in sorted(found)),
            )
            for name, found in tables.items()
        )
    job.out.put("README.md", hub_readme(facts, job.options.card, configs).encode())
    splits = [split for config in configs for split in config.splits]
    return {
        "panoramas": sum(split.rows for split in configs[0].splits),
        "instances": sum(split.rows for split in configs[1].splits),
        "files": sum(split.files for split in splits),
        "bytes": sum(split.file_bytes for split in splits),
    }


def _panorama_schema(facts: DatasetFacts) -> pa.Schema:
    """The columns of panoramas; those of depth only where there is any."""
    if any(suffix.startswith("depth.") for suffix, _ in facts.products):
        return PANORAMA_SCHEMA
    kept = [column for column in PANORAMA_SCHEMA if column.name not in DEPTH_COLUMNS]
    return pa.schema(kept)


def _finished(job: ExportJob, config: str, split: str, table: "_ParquetFiles") -> HubSplit:
    """Write the files of a split."""
    table.finish()
    total = 0
    for number, spool in enumerate(table.files):
        with job.out.draft(FOLDERS[config]) as draft:
            total += spool.seek(0, io.SEEK_END)
            spool.seek(0)
            shutil.copyfileobj(spool, draft.file, 8 << 20)
            draft.commit(f"{split}-{number:05d}-of-{len(table.files):05d}.parquet")
    return HubSplit(split, table.rows, table.bytes, len(table.files), total)


def _size(row: dict[str, Any]) -> int:
    """Bytes of a row, near enough: its pictures and texts, eight for a number."""
    total = 0
    for value in row.values():
        if isinstance(value, dict):
            total += len(value["bytes"]) + len(value["path"])
        elif isinstance(value, str):
            total += len(value)
        else:
            total += 8 * (len(value) if isinstance(value, list) else 1)
    return total


def _with_features(schema: pa.Schema) -> pa.Schema:
    """The schema with what `datasets` reads of it: which columns are pictures."""
    features = {column.name: _feature(column.type) for column in schema}
    return schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def _feature(kind: pa.DataType) -> dict[str, Any]:
    if kind == IMAGE:
        return {"_type": "Image"}
    if pa.types.is_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "List"}
    return {"dtype": {"double": "float64"}.get(str(kind), str(kind)), "_type": "Value"}
