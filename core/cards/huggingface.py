"""The Hugging Face form (huggingface.co/docs/hub/datasets-cards).

A README.md whose YAML front matter the Hub reads.

One config, the shards, which the Hub's WebDataset loader opens per split. A repository has one
loader for all its configs, so the two index tables are none of them: the card says how to open them
as Parquet. What the Hub's viewer is to show is exported (`pano export --to hf`).
"""

from typing import Any

import pyarrow as pa
import yaml

from panoforge.core.cards.facts import CardOptions, DatasetFacts
from panoforge.core.numbers import counted
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
        f"{counted(facts.samples, 'synthetic 360° panorama')} (equirectangular) of"
        f" {counted(facts.scenes, 'scene')} with {counted(facts.instances, 'instance')} of"
        f" {counted(len(facts.categories), 'category', 'categories')}: one exact instance id per"
        " pixel, rendered by Blender Cycles through panoforge."
    )


def front_matter(facts: DatasetFacts, options: CardOptions) -> dict[str, Any]:
    """What the Hub reads."""
    shards = [{"split": split.name, "path": f"shards/{split.name}-*.tar"} for split in facts.splits]
    return {
        **head(facts, options, "webdataset"),
        "configs": [{"config_name": "default", "default": True, "data_files": shards}],
    }


def head(facts: DatasetFacts, options: CardOptions, form: str) -> dict[str, Any]:
    """The front matter of every card: licence, tasks, tags, size; `form` is the files' format."""
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
            form,
            "croissant",
        ],
        "size_categories": [
            next((name for limit, name in _SIZES if facts.samples < limit), "1M<n<10M")
        ],
    }


def feature(column: pa.Field) -> dict[str, Any]:
    """A column as the Hub's features have it; a structure of bytes and a path is a picture."""
    if pa.types.is_struct(column.type):
        return {"name": column.name, "dtype": "image"}
    if not pa.types.is_list(column.type):
        return {"name": column.name, "dtype": _dtype(column.type)}
    return {"name": column.name, "list": _dtype(column.type.value_type)}


def _dtype(kind: pa.DataType) -> str:
    return {"double": "float64", "float": "float32"}.get(str(kind), str(kind))


def _body(facts: DatasetFacts, options: CardOptions) -> str:
    least, middle, most = facts.instances_per_sample
    parts = [
        f"# {options.name}",
        summary(facts),
        table(
            ("split", "panoramas", "shards", "bytes"),
            [(s.name, s.samples, s.shards, s.bytes) for s in facts.splits],
        ),
        (
            f"Splits are by scene: panoramas of one scene are never in two. In all {facts.bytes:,}"
            f" bytes. A panorama has {least:,} to {counted(most, 'instance')}, {middle:g} in the"
            " median."
        ),
        "## What a sample is",
        table(
            ("member", "what", "unit", "panoramas"),
            [(f"`{suffix}`", *_product(suffix), count) for suffix, count in facts.products],
        ),
        (
            "Longitude grows to the right and is 0 at the image centre; latitude is +90° at the"
            " top; columns wrap. World +Z is up, metres. Ids are dense from 1 in each panorama, 0"
            " is nothing. panoforge's README reads each kind of `*.zst` in a dozen lines of numpy."
        ),
        "## How to read it",
        "```python\nimport numpy as np\nfrom datasets import load_dataset\n\n"
        f'samples = load_dataset("{options.repository}", split="{facts.splits[0].name}",'
        " streaming=True)\n"
        "row = next(iter(samples))  # rgb.jpg as a picture, meta.json as a dict\n"
        'meta = row["meta.json"]\n'
        "# `datasets` unpacks zstd itself. Depth and normals need their headers: see below.\n"
        'ids = np.frombuffer(row["instance.zst"], "<u2").reshape(meta["height"], meta["width"])\n\n'
        "# The index alone: what each instance is, where, and how large.\n"
        'instances = load_dataset("parquet",'
        f' data_files="hf://datasets/{options.repository}/{facts.manifest.instance_index.name}")\n'
        "```\n\n```python\nimport panoforge\n\n"
        'sample = panoforge.open_dataset("PATH OR URL")[0]\nrgb, ids = sample.read("rgb"),'
        ' sample.read("instance")\n```',
        (
            "The shards are plain WebDataset tars; `manifest.json` names every file with its"
            " digest, and `pano verify` checks them all."
        ),
        "## Sources",
        table(("source", "panoramas"), facts.sources),
        table(("size", "panoramas"), facts.sizes),
        "## Categories",
        table(("category", "instances"), facts.categories[:_SHOWN_CATEGORIES]),
    ]
    if len(facts.categories) > _SHOWN_CATEGORIES:
        parts.append(
            f"and {counted(len(facts.categories) - _SHOWN_CATEGORIES, 'category', 'categories')}"
            " more, with fewer instances."
        )
    parts.append(f"## Licence\n\n{options.spdx_license}")
    return "\n\n".join(parts) + "\n"


def _product(suffix: str) -> tuple[str, str]:
    if suffix not in PRODUCT_OF_SUFFIX:
        return "camera pose, what made the scene, the instance table", ""
    product = PRODUCTS[PRODUCT_OF_SUFFIX[suffix]]
    shape = f"H×W×{product.channels}" if product.channels else "H×W"
    return f"{product.name}: {' or '.join(product.dtypes)} {shape}", product.unit


def table(head: tuple[str, ...], rows: Any) -> str:
    """A table of Markdown."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in row) + " |" for row in lines)


def _cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value).replace("|", "\\|")
