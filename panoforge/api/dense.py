"""Dense tasks of one panorama, for a notebook."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from panoforge.core.errors import DataError
from panoforge.core.foreign.pictures import read_placed
from panoforge.core.geometry.views import check_panorama_size
from panoforge.core.types import Rgb

if TYPE_CHECKING:
    from panoforge.eval.maps import DenseMaps


def predict(
    picture: str | Path | Rgb,
    model: str | Path,
    *,
    device: Literal["auto", "cpu", "cuda"] = "auto",
) -> "DenseMaps":
    """Predict the class, the depth and the normal of every pixel of a panorama.

    The checkpoint is read at each call. `pano predict` writes files of the same maps.

    Args:
        picture: A picture file, or a panorama uint8 H×W×3 in RGB order, W = 2·H.
        model: A model.pt that `pano train` wrote from a config with a dense section.
        device: Where the model runs.

    Returns:
        The maps, all H×W. `semantic` has numbers of the model's classes, 255 where none is,
        `depth_m` metres along the ray, `normal` unit vectors H×W×3: x right, y forward, z up.
        What the model was not trained on is None.

    Raises:
        DataError: The picture or the checkpoint is damaged, or of another kind.

    Example:
        >>> import panoforge
        >>> maps = panoforge.predict("room.jpg", "dense.pt")
        >>> maps.depth_m.shape, maps.normal.shape, maps.semantic.dtype
        ((128, 256), (128, 256, 3), dtype('uint8'))
    """
    from panoforge.eval.dense.model import DenseModel
    from panoforge.eval.dense.predict import unseen_is_none

    if isinstance(picture, str | Path):
        rgb, seen = read_placed(Path(picture))
        return unseen_is_none(DenseModel.load(Path(model), device).maps(rgb), seen)
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype.name != "uint8":
        raise DataError(
            f"expected a panorama uint8 H×W×3, got {picture.dtype}"
            f" {'×'.join(map(str, picture.shape))}"
        )
    check_panorama_size(picture.shape[1], picture.shape[0], "the picture")
    return DenseModel.load(Path(model), device).maps(picture)
