"""Read a dataset, by position or key: samples checked against their digest, nothing unpickled.

`Dataset.open(location)`, a path or an fsspec URL, checks the manifest and the digests of the index.
`dataset[i]` reads one sample by byte range, compares its bytes with the digest of the index, and
decodes members on demand. Members of types that the sample format does not list are never decoded.
What fails a check is a DataError that names the sample.
"""

import hashlib
import zlib
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from panoforge.core.errors import DataError, UsageError, UserError, nearest
from panoforge.core.names import frame_key
from panoforge.core.sample.flow import Flow
from panoforge.core.sample.metadata import META_SUFFIX, VIDEO_SUFFIX, SampleMeta, decode_meta
from panoforge.core.sample.products import PRODUCT_OF_SUFFIX, PRODUCTS, decode_product, product_size
from panoforge.core.shards.index import read_index, read_instances, read_videos
from panoforge.core.shards.layout import (
    SAMPLE_SCHEMA,
    Manifest,
    read_manifest,
)
from panoforge.core.shards.videos import StoredVideo, video_of_sample
from panoforge.core.storage.staged import MAX_SAMPLE_BYTES
from panoforge.core.storage.store import Store, StoreLike

MAX_GAP_BYTES = 256 << 10  # unwanted bytes that are read from a bucket rather than asking twice


@dataclass(frozen=True)
class Sample:
    """One panorama, its bytes already checked.

    Attributes:
        key: Its name in the dataset.
        members: Suffix → bytes: all of them, or those that were asked for.

    Example:
        >>> import panoforge
        >>> sample = panoforge.open_dataset("runs/demo/dataset")[0]
        >>> sample.read("instance").dtype, sample.read("depth").dtype
        (dtype('uint16'), dtype('float32'))
        >>> sample.meta.instances[0].id
        1
    """

    key: str
    members: dict[str, bytes] = field(repr=False)

    @cached_property
    def meta(self) -> SampleMeta:
        """Pose, source, versions and the instance table, decoded when first asked for.

        Positions are in metres, angles in degrees, areas in pixels and steradians.

        Raises:
            DataError: They do not belong to this sample.
        """
        try:
            meta = decode_meta(self.members[META_SUFFIX])
        except DataError as error:
            raise DataError(f"{self.key}: {error}") from None
        if meta.key != self.key or not set(self.members) <= meta.members:
            raise DataError(
                f"{self.key}: its metadata are those of {meta.key} with {sorted(meta.products)},"
                f" its members are {sorted(self.members)}"
            )
        return meta

    def suffix(self, product: str) -> str:
        """The suffix under which this sample holds a product.

        Args:
            product: `rgb`, `instance`, ….

        Returns:
            A key of `members`, such as `instance.zst`.

        Raises:
            DataError: It holds none.
        """
        for suffix in self.members:
            if PRODUCT_OF_SUFFIX.get(suffix) == product:
                return suffix
        raise DataError(f"{self.key}: has no {product}, only {sorted(self.members)}")

    def flow(self, way: Literal["forward", "backward"]) -> Flow:
        """Where each pixel of a frame of a video lies in the next frame, or in the one before.

        Args:
            way: `forward` to the next frame, `backward` to the one before.

        Returns:
            Displacements in pixels, float32 H×W×2, and what is known of each pixel, uint8 H×W.

        Raises:
            DataError: The sample has no such flow, or its bytes are damaged.
        """
        return Flow.of_codes(self.read(f"flow_{way}"))

    def read(self, product: str, rows: tuple[int, int] | None = None) -> NDArray:
        """Decode a product, or some of its rows.

        Args:
            product: `rgb` uint8 H×W×3, `instance` uint16 H×W (0 is nothing), `depth` float32 H×W
                in metres along the ray (+inf is sky), `normal` float32 H×W×3 (float16 where it is
                stored so), ….
            rows: First row and the row after the last; all without.

        Returns:
            The array, H×W or H×W×3 as above; H is the number of rows asked for.

        Raises:
            DataError: The sample has no such product, or its bytes are damaged.
        """
        suffix = self.suffix(product)
        try:
            if META_SUFFIX in self.members:  # what is of another size is not even decoded
                width, height = product_size(suffix, self.members[suffix])
                if (width, height) != (self.meta.width, self.meta.height):
                    said = f"{self.meta.width}×{self.meta.height}"
                    raise DataError(f"{width}×{height}, the metadata say {said}")
            array = decode_product(suffix, self.members[suffix], rows)
        except DataError as error:
            raise DataError(f"{self.key}.{suffix}: {error}") from None
        if array.dtype.name not in PRODUCTS[product].dtypes:
            raise DataError(
                f"{self.key}.{suffix}: expected {' or '.join(PRODUCTS[product].dtypes)}, it holds"
                f" {array.dtype}"
            )
        return array


@dataclass(frozen=True)
class Dataset:
    """A published dataset: samples by position or key, each read by byte range and checked.

    Attributes:
        folder: Where it lies, a path or a URL.
        manifest: What was published: shards, index, splits, counts.
        samples: The sample index as an Arrow table, restricted to the split asked for.

    Example:
        >>> import panoforge
        >>> dataset = panoforge.open_dataset("runs/demo/dataset")
        >>> dataset[0].key == dataset.keys[0] == dataset.by_key(dataset.keys[0]).key
        True
        >>> sum(sample.meta.width for sample in dataset)
        2048
    """

    folder: Path | str
    manifest: Manifest
    samples: pa.Table = field(repr=False)

    @classmethod
    def open(cls, location: StoreLike, split: str | None = None) -> Self:
        """As `panoforge.open_dataset`.

        Args:
            location: A folder, or a URL such as `s3://bucket/dataset`.
            split: `train`, `val`, …; all samples without.

        Returns:
            The dataset. Its manifest and index are checked; samples are read when asked for.

        Raises:
            StorageError: No dataset is there.
            DataError: Its manifest or index is damaged.
            UsageError: It has no such split; the message names those it has.
        """
        store = Store.at(location)
        folder = store.url if store.local is None else store.local
        manifest, samples = _opened(store)
        if split is not None:
            if split not in manifest.splits:
                known = sorted(manifest.splits)
                raise UsageError(
                    f"{folder} has no split {split!r}, only {known}.{nearest(split, known)}"
                )
            samples = samples.filter(pc.equal(samples["split"], split))
        return cls(folder, manifest, samples)

    @cached_property
    def store(self) -> Store:
        """The folder or bucket that it is read from."""
        return Store.at(self.folder)

    @cached_property
    def _places(self) -> pa.Table:
        """What reading a sample takes: Arrow makes a row of few columns faster."""
        return self.samples.select(("key", "shard", "offset", "length", "sha256", "members"))

    def _place(self, index: int) -> dict:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        return self._places.slice(index, 1).to_pylist()[0]

    @property
    def keys(self) -> list[str]:
        """The keys of all samples, in order."""
        return self.samples["key"].to_pylist()

    def key(self, index: int) -> str:
        """The key of one sample, without reading it.

        Args:
            index: Its position, from 0.

        Returns:
            Its name in the dataset.

        Raises:
            IndexError: There is no such position.
        """
        return self.samples["key"][index].as_py()

    def split(self, index: int) -> str:
        """The split of one sample, without reading it.

        Args:
            index: Its position, from 0.

        Returns:
            `train`, `val`, ….

        Raises:
            IndexError: There is no such position.
        """
        return self.samples["split"][index].as_py()

    def instances(self) -> pa.Table:
        """The instance index: one row per instance of every sample, of all splits.

        Returns:
            An Arrow table. `key` is the sample's, `id` the value in its label map. `pixels` and
            `area_sr` (steradians) say how large it is, `visibility` which share of it is seen.
            `u0`, `v0`, `width` and `height` are its box in pixels, which may go on over the seam.

        Raises:
            DataError: It is damaged, or not that of the manifest.

        Example:
            >>> import panoforge
            >>> dataset = panoforge.open_dataset("runs/demo/dataset")
            >>> dataset.instances().num_rows == dataset.manifest.instances
            True
        """
        return read_instances(self.store, self.manifest)

    @cached_property
    def videos(self) -> pa.Table:
        """The index's table of videos, of the split asked for; without rows where there are none.

        Columns: `video` (its key), `split`, `shard`, `scene`, `source`, `frames`, `fps`, `width`
        and `height` in pixels, `n_instances`, `n_moving`.

        Raises:
            DataError: It is damaged, or not that of the manifest.
        """
        table = read_videos(self.store, self.manifest)
        return table.filter(pc.is_in(table["split"], value_set=pc.unique(self.samples["split"])))

    def video(self, key: str) -> StoredVideo:
        """A video's metadata and the keys of its frames, which `by_key` reads.

        Args:
            key: Its name, as `videos` lists it.

        Returns:
            The video: frames, frames a second, poses, and what becomes of each instance.

        Raises:
            UsageError: There is none of that key; the message names the nearest.
            DataError: The bytes are damaged.
        """
        index = pc.index(self.samples["key"], frame_key(key, 0)).as_py()
        if index < 0:
            known = self.videos["video"].to_pylist()
            raise UsageError(f"{self.folder} has no video {key!r}.{nearest(key, known)}")
        first = read_members(self.store, self._place(index), (), video=True)
        return video_of_sample(first.key, first.members)

    def __len__(self) -> int:
        return self.samples.num_rows

    def __getitem__(self, index: int) -> Sample:
        return read_sample(self.store, self._place(index))

    def read(self, index: int, products: Collection[str] | None = None) -> Sample:
        """Read a sample, or some of its products.

        A whole sample is checked against its SHA-256, a member on its own against its CRC-32.

        Args:
            index: Its position, from 0.
            products: `rgb`, `instance`, …; all without. The metadata always come along.

        Returns:
            The sample; what of it was not asked for is not among its members.

        Raises:
            IndexError: There is no such position.
            UsageError: There is no such product.
            DataError: The bytes are damaged.
        """
        if products is None:
            return self[index]
        return read_members(self.store, self._place(index), products)

    def by_key(self, key: str, products: Collection[str] | None = None) -> Sample:
        """Read the sample of a key, or some of its products.

        Args:
            key: Its name in the dataset.
            products: As `read` takes them.

        Returns:
            The sample, as `read` gives it.

        Raises:
            UsageError: There is none of that key, and the message names the nearest; or there is no
                such product.
            DataError: The bytes are damaged.

        Example:
            >>> import panoforge
            >>> dataset = panoforge.open_dataset("runs/demo/dataset")
            >>> sample = dataset.by_key(dataset.keys[0], ["instance"])
            >>> sorted(sample.members)
            ['instance.zst', 'meta.json']
        """
        index = pc.index(self.samples["key"], key).as_py()
        if index < 0:
            raise UsageError(f"{self.folder} has no sample {key!r}.{nearest(key, self.keys)}")
        return self.read(index, products)


def _opened(store: Store) -> tuple[Manifest, pa.Table]:
    """Manifest and sample index of one state: a writer may replace both while we read."""
    manifest = read_manifest(store)
    while True:
        try:
            return manifest, read_index(store, manifest.sample_index, SAMPLE_SCHEMA)
        except UserError:
            if (now := read_manifest(store)) == manifest:
                raise
            manifest = now


def read_sample(dataset: StoreLike, row: dict) -> Sample:
    """Read one sample by its row of the sample index, in one request.

    Raises:
        DataError: Its bytes are not those that were packed.
    """
    if row["length"] > MAX_SAMPLE_BYTES:
        raise DataError(
            f"{row['key']}: {row['length']} bytes is over the cap of {MAX_SAMPLE_BYTES}"
        )
    data = Store.at(dataset).read(row["shard"], row["offset"], row["offset"] + row["length"])
    return checked_sample(row, data)


def checked_sample(row: dict, data: bytes) -> Sample:
    """The sample of which `data` are all bytes in its shard.

    Raises:
        DataError: They are not those that were packed.
    """
    if len(data) != row["length"]:
        raise DataError(
            f"{row['key']}: shard {row['shard']} is truncated: {len(data)} of {row['length']} bytes"
            " are left; pano repair sets damaged samples aside"
        )
    if hashlib.sha256(data).hexdigest() != row["sha256"]:
        raise DataError(
            f"{row['key']}: bytes in shard {row['shard']} do not have the digest of the index"
            " (damaged); pano repair sets damaged samples aside"
        )
    suffixes = [m["suffix"] for m in row["members"]]
    if suffixes != sorted(set(suffixes)):
        raise DataError(f"{row['key']}: its members come twice or out of order: {suffixes}")
    at = row["offset"]
    members = {
        m["suffix"]: data[m["offset"] - at : m["offset"] - at + m["length"]] for m in row["members"]
    }
    if META_SUFFIX not in members:
        raise DataError(f"{row['key']}: has no {META_SUFFIX}")
    return Sample(row["key"], members)


def read_members(
    dataset: StoreLike, row: dict, products: Collection[str], *, video: bool = False
) -> Sample:
    """Read the metadata and some products of a sample, and nothing else, or its video's too.

    A bucket is asked as few times as their places allow.

    Raises:
        DataError: Their bytes are not those that were packed.
    """
    check_products(products)
    wanted = [
        m
        for m in row["members"]
        if m["suffix"] == META_SUFFIX
        or (video and m["suffix"] == VIDEO_SUFFIX)
        or PRODUCT_OF_SUFFIX.get(m["suffix"]) in products
    ]
    store = Store.at(dataset)
    if sum(m["length"] for m in wanted) > MAX_SAMPLE_BYTES:
        raise DataError(f"{row['key']}: members are over the cap of {MAX_SAMPLE_BYTES} bytes")
    members = {}
    for run in _runs(wanted, 0 if store.local is not None else MAX_GAP_BYTES):
        begin = run[0]["offset"]
        data = store.read(row["shard"], begin, run[-1]["offset"] + run[-1]["length"])
        for m in run:
            part = (
                data
                if len(run) == 1
                else data[m["offset"] - begin : m["offset"] - begin + m["length"]]
            )
            if len(part) != m["length"]:
                raise DataError(
                    f"{row['key']}.{m['suffix']}: shard {row['shard']} is truncated: {len(part)} of"
                    f" {m['length']} bytes are left; pano repair sets damaged samples aside"
                )
            if zlib.crc32(part) != m["crc32"]:
                raise DataError(
                    f"{row['key']}.{m['suffix']}: bytes in shard {row['shard']} do not have the"
                    " checksum of the index (damaged); pano repair sets damaged samples aside"
                )
            members[m["suffix"]] = part
    if META_SUFFIX not in members:
        raise DataError(f"{row['key']}: has no {META_SUFFIX}")
    return Sample(row["key"], members)


def check_products(products: Collection[str]) -> None:
    """UsageError unless all are names of products."""
    for product in products:
        if product not in PRODUCTS:
            raise UsageError(
                f"no product {product!r}.{nearest(product, PRODUCTS)} There are:"
                f" {', '.join(PRODUCTS)}"
            )


def _runs(members: list[dict], max_gap: int) -> list[list[dict]]:
    """Members in order of place, those joined that lie at most `max_gap` bytes apart.

    One request is cheaper then.
    """
    runs: list[list[dict]] = []
    for member in sorted(members, key=lambda m: m["offset"]):
        if runs and member["offset"] - runs[-1][-1]["offset"] - runs[-1][-1]["length"] <= max_gap:
            runs[-1].append(member)
        else:
            runs.append([member])
    return runs
