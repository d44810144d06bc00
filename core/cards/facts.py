"""What a card says of a dataset.

Counts and sizes from the index and the manifest, by Arrow kernels over whole columns.
"""

import re
from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from panoforge.core.errors import UsageError
from panoforge.core.sample.metadata import META_SUFFIX
from panoforge.core.sample.products import PRODUCT_OF_SUFFIX
from panoforge.core.shards.layout import INSTANCE_SCHEMA, SAMPLE_SCHEMA, IndexEntry, Manifest
from panoforge.core.shards.read import Dataset

_PART = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_REPOSITORY = re.compile(f"{_PART}/{_PART}")
_HUB_URL = re.compile(rf"https://(?:www\.)?huggingface\.co/datasets/({_PART}/{_PART})/?$")
NOT_SPDX = ("other", "unknown")  # that Hugging Face lists beside SPDX's


@dataclass(frozen=True)
class CardOptions:
    """What the index cannot know.

    `license` is an SPDX identifier such as cc-by-4.0, or `other`; `published` is a date,
    YYYY-MM-DD; `repo` is the dataset's OWNER/NAME on the Hub.
    """

    name: str
    license: str
    url: str = ""
    creator: str = "panoforge"
    published: str = ""
    repo: str = ""

    def __post_init__(self) -> None:
        if self.repo and not _REPOSITORY.fullmatch(self.repo):
            raise UsageError(f"--repo {self.repo!r}: expected OWNER/NAME, as the Hub has it")
        if not self.name.strip():
            raise UsageError(
                "a card needs the dataset's name: give --name NAME, e.g. --name rooms4k"
            )
        if spdx_identifier(self.license) is None:
            likely = spdx_identifier("-".join(self.license.split()))
            hint = f" Did you mean {likely.lower()}?" if likely else ""
            raise UsageError(
                f"--license {self.license!r}: expected one identifier of SPDX's list, such as"
                f" cc-by-4.0 or apache-2.0, or else `other` (spdx.org/licenses).{hint}"
            )
        if self.published and not _is_date(self.published):
            raise UsageError(f"--published {self.published!r}: expected a date such as 2026-11-21")

    @property
    def hub_license(self) -> str:
        """The licence as Hugging Face writes it: in lower case."""
        return self.license.lower()

    @property
    def repository(self) -> str:
        """OWNER/NAME on the Hub: `repo`, or that of the URL, or these words to be replaced."""
        found = _HUB_URL.match(self.url)
        return self.repo or (found[1] if found else "OWNER/NAME")

    @property
    def spdx_license(self) -> str:
        """The licence as SPDX writes it."""
        return spdx_identifier(self.license) or self.license


def spdx_identifier(text: str) -> str | None:
    """A licence's identifier in SPDX's spelling, whatever the case; None for anything else."""
    if text.lower() in NOT_SPDX:
        return text.lower()
    try:
        found = canonicalize_license_expression(text)
    except InvalidLicenseExpression:
        return None
    return None if " " in found or found.startswith("LicenseRef") else found


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


@dataclass(frozen=True)
class SplitFacts:
    """One split: its panoramas, shards and bytes of shards."""

    name: str
    samples: int
    shards: int
    bytes: int


@dataclass(frozen=True)
class DatasetFacts:
    """Counts of one dataset. Lists of (name, count) have the most frequent first."""

    manifest: Manifest
    splits: tuple[SplitFacts, ...]
    scenes: int
    bytes: int
    sources: tuple[tuple[str, int], ...]
    sizes: tuple[tuple[str, int], ...]  # '4096×2048'
    products: tuple[tuple[str, int], ...]  # member suffixes
    categories: tuple[tuple[str, int], ...]
    instances_per_sample: tuple[int, float, int]  # least, median, most

    @property
    def samples(self) -> int:
        """Panoramas of the dataset."""
        return self.manifest.samples

    @property
    def instances(self) -> int:
        """Instances of all its panoramas."""
        return self.manifest.instances

    @property
    def indexes(self) -> tuple[tuple[str, IndexEntry, pa.Schema], ...]:
        """Name, file and schema of the two index tables."""
        return (
            ("samples", self.manifest.sample_index, SAMPLE_SCHEMA),
            ("instances", self.manifest.instance_index, INSTANCE_SCHEMA),
        )


def facts_of(dataset: Dataset) -> DatasetFacts:
    """Count. UsageError where `dataset` was opened with a split: a card is about all of it."""
    manifest, samples = dataset.manifest, dataset.samples
    if samples.num_rows != manifest.samples:
        raise UsageError("a card describes a whole dataset: open it without a split")
    in_split = {
        name: [entry for entry in manifest.shards if entry.split == name]
        for name in sorted(manifest.splits)
    }
    widths, heights = (pc.cast(samples[name], pa.string()) for name in ("width", "height"))
    suffixes = pc.struct_field(pc.list_flatten(samples["members"]), "suffix")
    per_sample = samples["n_instances"].to_numpy()
    return DatasetFacts(
        manifest=manifest,
        splits=tuple(
            SplitFacts(
                name, manifest.splits[name], len(entries), sum(entry.bytes for entry in entries)
            )
            for name, entries in in_split.items()
        ),
        scenes=pc.count_distinct(samples["scene"]).as_py(),
        bytes=sum(entry.bytes for entry in manifest.shards)
        + manifest.sample_index.bytes
        + manifest.instance_index.bytes,
        sources=_counts(samples["source"]),
        sizes=_counts(pc.binary_join_element_wise(widths, heights, "×")),
        products=tuple(
            pair
            for pair in _counts(suffixes)
            if pair[0] == META_SUFFIX or pair[0] in PRODUCT_OF_SUFFIX
        ),
        categories=_counts(dataset.instances()["category"]),
        instances_per_sample=(
            int(per_sample.min()) if len(per_sample) else 0,
            float(np.median(per_sample)) if len(per_sample) else 0.0,
            int(per_sample.max(initial=0)),
        ),
    )


def _counts(column: pa.ChunkedArray) -> tuple[tuple[str, int], ...]:
    found = {entry["values"]: entry["counts"] for entry in pc.value_counts(column).to_pylist()}
    return tuple(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))
