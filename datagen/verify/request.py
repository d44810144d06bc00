"""What is asked of a check by rays, and what it reads: staged panoramas, and pixels of them."""

import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from panoforge.core.errors import DataError
from panoforge.core.models import FrozenModel
from panoforge.core.sample.metadata import SampleMeta
from panoforge.core.sample.products import FLOWS, PRODUCT_OF_SUFFIX, decode_product
from panoforge.core.storage.staged import read_staged
from panoforge.datagen.config.render import RenderConfig, SceneJob
from panoforge.datagen.scene.scene import Scene


class VerifyRequest(FrozenModel):
    """Which panoramas of which scene, and how many rays in each."""

    scene: SceneJob
    seed: int
    render: RenderConfig
    staged: Path
    keys: tuple[str, ...]
    rays: int
    result: Path


def read_panorama(staged: Path, key: str) -> tuple[SampleMeta, dict[str, NDArray]]:
    """A staged panorama's metadata, and its ids, depth and flows by the names of products."""
    meta, members = read_staged(staged, key)
    wanted = ("instance", "depth", *FLOWS)
    names = {suffix: PRODUCT_OF_SUFFIX[suffix] for suffix in meta.products}
    return meta, {
        name: decode_product(suffix, members[suffix])
        for suffix, name in names.items()
        if name in wanted
    }


def drawn_pixels(meta: SampleMeta, rays: int) -> NDArray[np.int64]:
    """Flat indices of the pixels that are checked: drawn by the sample's key, sorted."""
    rng = np.random.default_rng([zlib.crc32(meta.key.encode()), rays])
    count = meta.width * meta.height
    return np.sort(rng.choice(count, min(rays, count), replace=False))


def check_identity(meta: SampleMeta, scene: Scene) -> None:
    """DataError if the scene came out otherwise than the one that was rendered.

    Infinigen 1 does not repeat to the last vertex.
    """
    for name, made in scene.versions.items():
        rendered = meta.versions.get(name)
        if name.endswith("_scene") and rendered not in (None, made):
            raise DataError(
                f"{meta.key} shows scene {rendered}, and its seed now makes {made}: rays would be"
                " compared with another scene. Keep generated scenes (cache of the source) to"
                " check them"
            )
