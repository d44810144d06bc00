"""The Hugging Face form (huggingface.co/docs/hub/datasets-cards).

A README.md whose YAML front matter the Hub reads.

Three configs: `default`, the shards, which the Hub's WebDataset loader opens per split; `samples`
and `instances`, the two index tables, with their features and sizes.
"""

from typing import Any

import pyarrow as pa
import yaml

from panoforge.core.cards.facts import CardOptions, DatasetFacts
from panoforge.core.sample.products import PRODUCT_OF_SUFFIX, PRODUCTS

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_SHOWN_CATEGORIES = 40


def readme(facts: DatasetFacts, options: CardOptions) -> str:
    """README.md as text."""
    front = yaml.safe_dump(
        front_matter(facts, options), sort_keys=False, allow_unicode=True, width=1000
    )
    return f"---\n{front}---\n\n{_body(facts, options)}"


def summary(facts: DatasetFacts) -> str:
    """One sentence on what it is."""
    return (
        f"{facts.samples:,} synthetic 360° panoramas (equirectangular) of {facts.scenes:,} scenes"
        f" with {facts.instances:,} instances of {len(facts.categories):,} categories: one exact"
        " instance id per pixel, rendered by Blender Cycles through panoforge."
    )


def front_matter(facts: DatasetFacts, options: CardOptions) -> dict[str, Any]:
    """What the Hub reads."""
    shards = [{"split": split.name, "path": f"shards/{split.name}-*.tar"} for split in facts.splits]
    tables = [
        {"config_name": name, "data_files": [{"split": "train", "path": entry.name}]}
        for name, entry, _ in facts.indexes
    ]
    return {
        "license": options.hub_license,
        "pretty_name": options.name,
        "task_categories": ["image-segmentation", "mask-generation", "depth-estimation"],
        "tags": [
            "panorama",
            "360",
            "equirectangular",
            "instance-segmentation",
            "synthetic",
            "webdataset",
            "croissant",
        ],
        "size_categories": [
            next((name for limit, name in _SIZES if facts.samples < limit), "1M<n<10M")
        ],
        "configs": [{"config_name": "default", "default": True, "data_files": shards}, *tables],
        "dataset_info": [
            {
                "config_name": name,
                "features": [_feature(column) for column in schema],
                "splits": [{"name": "train", "num_bytes": entry.bytes, "num_examples": entry.rows}],
                "download_size": entry.bytes,
                "dataset_size": entry.bytes,
            }
            for name, entry, schema in facts.indexes
        ],
    }


def _feature(column: pa.Field) -> dict[str, Any]:
    """A column as the Hub's features have it."""
    if not pa.types.is_list(column.type):
        return {"name": column.name, "dtype": _dtype(column.type)}
    inner = column.type.value_type
    if pa.types.is_struct(inner):
        return {
            "name": column.name,
            "list": [{"name": part.name, "dtype": _dtype(part.type)} for part in inner],
        }
    return {"name": column.name, "sequence": _dtype(inner)}


def _dtype(kind: pa.DataType) -> str:
    return {"double": "float64", "float": "float32"}.get(str(kind), str(kind))


def _body(facts: DatasetFacts, options: CardOptions) -> str:
    least, middle, most = facts.instances_per_sample
    parts = [
        f"# {options.name}",
        summary(facts),
        _table(
            ("split", "panoramas", "shards", "bytes"),
            [(s.name, s.samples, s.shards, s.bytes) for s in facts.splits],
        ),
        (
            f"Splits are by scene: panoramas of one scene are never in two. In all {facts.bytes:,}"
            f" bytes. A panorama has {least:,} to {most:,} instances, {middle:g} in the median."
        ),
        "## What a sample is",
        _table(
            ("member", "what", "unit", "panoramas"),
            [(f"`{suffix}`", *_product(suffix), count) for suffix, count in facts.products],
        ),
        (
            "Longitude grows to the right and is 0 at the image centre; latitude is +90° at the"
            " top; columns wrap. World +Z is up, metres. Ids are dense from 1 in each panorama, 0"
            " is nothing. `*.zst` is zstd over the raw little-endian array."
        ),
        "## How to read it",
        "```python\nfrom datasets import load_dataset\n\n"
        f'rows = load_dataset("{options.url or options.name}", "instances")   # the index alone\n'
        "```\n\n```python\nfrom panoforge.core.shards.read import Dataset\n\n"
        'sample = Dataset.open("PATH OR URL")[0]\nrgb, ids = sample.read("rgb"),'
        ' sample.read("instance")\n```',
        (
            "The shards are plain WebDataset tars; `manifest.json` names every file with its"
            " digest, and `pano verify` checks them all."
        ),
        "## Sources",
        _table(("source", "panoramas"), facts.sources),
        _table(("size", "panoramas"), facts.sizes),
        "## Categories",
        _table(("category", "instances"), facts.categories[:_SHOWN_CATEGORIES]),
    ]
    if len(facts.categories) > _SHOWN_CATEGORIES:
        parts.append(
            f"and {len(facts.categories) - _SHOWN_CATEGORIES:,} more categories with fewer"
            " instances."
        )
    parts.append(f"## Licence\n\n{options.spdx_license}")
    return "\n\n".join(parts) + "\n"


def _product(suffix: str) -> tuple[str, str]:
    if suffix not in PRODUCT_OF_SUFFIX:
        return "camera pose, what made the scene, the instance table", ""
    product = PRODUCTS[PRODUCT_OF_SUFFIX[suffix]]
    shape = f"H×W×{product.channels}" if product.channels else "H×W"
    return f"{product.name}: {' or '.join(product.dtypes)} {shape}", product.unit


def _table(head: tuple[str, ...], rows: Any) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in row) + " |" for row in lines)


def _cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value).replace("|", "\\|")
