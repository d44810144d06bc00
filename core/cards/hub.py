"""The card of a dataset exported for the Hub (`pano export --to hf`).

It names the configs and the features of their columns, and its examples run as they stand. A
repository has one reader for all its configs. So the shards and the tables are two repositories,
or two folders of one: what is exported here is Parquet alone.
"""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import yaml

from panoforge.core.cards.facts import CardOptions, DatasetFacts
from panoforge.core.cards.huggingface import feature, head, summary, table

_LEGEND = (
    ("`preview`", "a small picture with the ids laid over it, to look through"),
    ("`rgb`", "the panorama, the file as rendered"),
    ("`ids`", "16-bit PNG: the instance of each pixel, 0 is nothing"),
    ("`depth`", "16-bit PNG: distance along the ray in `depth_unit_m`, 0 is sky"),
    ("`position_m`, `world_from_pano`", "where the camera stood; world +Z is up, rows first"),
)


@dataclass(frozen=True)
class HubSplit:
    """One split of a config: its rows, what they take in memory, its files and their bytes."""

    name: str
    rows: int
    bytes: int
    files: int
    file_bytes: int


@dataclass(frozen=True)
class HubConfig:
    """One table of the repository: its folder, columns and splits."""

    name: str
    folder: str
    schema: pa.Schema
    splits: tuple[HubSplit, ...]

    def entry(self) -> dict[str, Any]:
        """As `configs` of the front matter has it."""
        files = [
            {"split": split.name, "path": f"{self.folder}/{split.name}-*.parquet"}
            for split in self.splits
        ]
        default = {"default": True} if self.name == "default" else {}
        return {"config_name": self.name, **default, "data_files": files}

    def info(self) -> dict[str, Any]:
        """As `dataset_info` has it."""
        return {
            "config_name": self.name,
            "features": [feature(column) for column in self.schema],
            "splits": [
                {"name": split.name, "num_bytes": split.bytes, "num_examples": split.rows}
                for split in self.splits
            ],
            "download_size": sum(split.file_bytes for split in self.splits),
            "dataset_size": sum(split.bytes for split in self.splits),
        }


def hub_readme(facts: DatasetFacts, options: CardOptions, configs: tuple[HubConfig, ...]) -> str:
    """README.md as text."""
    matter = {
        **head(facts, options, "parquet"),
        "configs": [config.entry() for config in configs],
        "dataset_info": [config.info() for config in configs],
    }
    front = yaml.safe_dump(matter, sort_keys=False, allow_unicode=True, width=1000)
    return f"---\n{front}---\n\n{_body(facts, options, configs)}"


def _body(facts: DatasetFacts, options: CardOptions, configs: tuple[HubConfig, ...]) -> str:
    columns = set(configs[0].schema.names)
    legend = [row for row in _LEGEND if row[0].split("`")[1] in columns]
    first = configs[0].splits[0].name
    depth = (
        'steps = np.array(row["depth"])  # uint16 H×W\n'
        'depth_m = np.where(steps > 0, steps * row["depth_unit_m"], np.inf)\n'
        if "depth" in columns
        else ""
    )
    parts = [
        f"# {options.name}",
        summary(facts),
        table(
            ("config", "split", "rows", "bytes"),
            [(c.name, s.name, s.rows, s.file_bytes) for c in configs for s in c.splits],
        ),
        "Splits are by scene: panoramas of one scene are never in two.",
        "## How to read it",
        "```python\nimport numpy as np\nfrom datasets import load_dataset\n\n"
        f'panoramas = load_dataset("{options.repository}", split="{first}", streaming=True)\n'
        "row = next(iter(panoramas))\n"
        'rgb = np.array(row["rgb"])  # uint8 H×W×3\n'
        'ids = np.array(row["ids"])  # uint16 H×W, 0 is nothing\n'
        f"{depth}"
        f'instances = load_dataset("{options.repository}", "instances", split="{first}")\n'
        'mine = instances.filter(lambda one: one["key"] == row["key"])  # id, category, box, …\n'
        "```",
        "## What a row is",
        table(("column", "what"), legend),
        (
            "Longitude grows to the right and is 0 at the image centre; latitude is +90° at the"
            " top; columns wrap. Boxes (`u0`, `v0`, `width`, `height`) may cross the seam."
        ),
        "## Sources",
        table(("source", "panoramas"), facts.sources),
        table(("size", "panoramas"), facts.sizes),
        "## Categories",
        table(("category", "instances"), facts.categories[:40]),
        f"## Licence\n\n{options.spdx_license}",
    ]
    return "\n\n".join(parts) + "\n"
