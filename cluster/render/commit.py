"""From a worker's private folder to the run.

Check what it left, then move each panorama to `staged` by one rename.

Every attempt stages into a folder of its own, so an attempt that dies leaves nothing in the run.
What it made is believed after its digests are checked, and committed once. A scene may be made
twice, say after a lost node came back. If a panorama of the same labels and config is there
already, the first one stays. One of another content was left by an attempt that never reached the
ledger, and is replaced.
"""

import errno
import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from panoforge.core.errors import DataError
from panoforge.core.foreign.files import read_json
from panoforge.core.sample.metadata import META_SUFFIX
from panoforge.core.sample.products import PRODUCT_OF_SUFFIX, decode_product
from panoforge.core.storage.atomic import fsync_folder, storage_errors, temporary_beside
from panoforge.datagen.messages import SceneResult
from panoforge.datagen.rendering.quality import luminance


@dataclass(frozen=True)
class Checked:
    """A panorama that is whole: the SHA-256 of its label map is what identifies its content."""

    key: str
    label_sha256: str
    bytes: int


def check_output(
    staged: Path, result: SceneResult, sample_keys: set[str], min_spread: float
) -> list[Checked] | str:
    """Compare what lies in `staged` with what the worker says, byte by byte; see the picture, too.

    Args:
        staged: The attempt's own folder of panoramas.
        result: What the worker says.
        sample_keys: The panoramas that the scene may have.
        min_spread: A device that gave up leaves an 8-bit luma that varies by less.

    Returns:
        The panoramas, or what is wrong.
    """
    if not result.panoramas:
        return "the result says done and names no panorama"
    checked = []
    for panorama in result.panoramas:
        folder = staged / panorama.key
        if panorama.key not in sample_keys:
            return f"{panorama.key} is not a panorama of this scene"
        members = (
            {path.name: path.read_bytes() for path in folder.iterdir()} if folder.is_dir() else {}
        )
        expected = {*panorama.sha256, META_SUFFIX}
        if set(members) != expected:
            return (
                f"{panorama.key}: expected members {sorted(expected)}, found"
                f" {sorted(members) or 'nothing'}"
            )
        for suffix, digest in panorama.sha256.items():
            if hashlib.sha256(members[suffix]).hexdigest() != digest:
                return f"{panorama.key}: {suffix} does not have the digest that the worker reported"
        if fault := _picture_fault(members, min_spread):
            return f"{panorama.key}: {fault}"
        labels = next(
            (members[suffix] for suffix in sorted(members) if suffix.startswith("instance.")), None
        )
        if labels is None:
            return f"{panorama.key} has no label map"
        checked.append(
            Checked(
                panorama.key, hashlib.sha256(labels).hexdigest(), sum(map(len, members.values()))
            )
        )
    return checked


def _picture_fault(members: dict[str, bytes], min_spread: float) -> str:
    """What is wrong with the picture; "" if nothing is. Every fourth pixel tells."""
    for suffix in members:
        if PRODUCT_OF_SUFFIX.get(suffix) == "rgb":
            try:
                rgb = decode_product(suffix, members[suffix])
            except DataError as error:
                return f"{suffix} cannot be decoded: {error}"
            spread = float(luminance(rgb[::4, ::4].astype(np.float32)).std())
            if spread < min_spread:
                return f"the picture is black or blank: its luma varies by {spread:.2f}"
    return ""


def commit(source: Path, target: Path) -> bool:
    """Move a whole panorama folder to its place; says whether it was needed.

    Safe against others doing the same.
    """
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(10):
            try:
                os.rename(source, target)
                fsync_folder(target.parent)
                return True
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            if _identity(target) == _identity(source):
                return False
            _set_aside(target)
        raise OSError(errno.EBUSY, "others keep writing the same panorama")


def _set_aside(target: Path) -> None:
    aside = temporary_beside(target)
    try:
        os.rename(target, aside)
    except FileNotFoundError:  # somebody else did
        return
    shutil.rmtree(aside, ignore_errors=True)


def _identity(folder: Path) -> tuple[str, str] | None:
    """What makes two panoramas the same one: config and labels.

    Their metadata differ in timings. None if unreadable.
    """
    try:
        config = read_json(folder / META_SUFFIX)["config_sha256"]
        (labels,) = (path for path in folder.iterdir() if path.name.startswith("instance."))
        return config, hashlib.sha256(labels.read_bytes()).hexdigest()
    except (DataError, OSError, ValueError, KeyError, TypeError):
        return None
