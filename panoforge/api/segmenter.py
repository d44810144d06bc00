"""Segmenter: one panorama, a SAM2 model, clicks → masks."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from panoforge.api.pictures import load_panorama
from panoforge.core.config.messages import explain
from panoforge.core.errors import ConfigError
from panoforge.core.types import Bools, Rgb
from panoforge.eval.config import EvalConfig

if TYPE_CHECKING:
    from panoforge.eval.predictors import Predictor

LonLatDeg = tuple[float, float]
OfficialSize = Literal["tiny", "small", "base_plus", "large"]


class Segmenter:
    """A panorama, ready to be asked for the mask of what is clicked.

    It goes the very path that scores go through: frames of a scan, SAM2's video predictor, logits
    merged on the panorama. Frames are encoded once, here; a mask then takes the decoder only.

    Args:
        picture: A picture file, or a panorama uint8 H×W×3 in RGB order, W = 2·H.
        model: A checkpoint (an official sam2.1_hiera_*.pt, or one that `pano train` wrote), or a
            SAM2VideoPredictor in eval mode.
        size: Which SAM2.1 the checkpoint is of.
        method: How the panorama is shown to the model: `scan`, `direct`, `cubemap`, ….
        image_size: Pixels on each side of what the model sees.

    Raises:
        DataError: The picture or the checkpoint is damaged, or of another kind.
        ConfigError: An unknown method or size; the message names those it knows.

    Example:
        >>> import panoforge
        >>> segmenter = panoforge.Segmenter("room.jpg", "sam2.pt", size="tiny", image_size=64)
        >>> mask = segmenter.mask([(30.0, -10.0)])
        >>> mask.shape, mask.dtype
        ((128, 256), dtype('bool'))
    """

    def __init__(
        self,
        picture: str | Path | Rgb,
        model: Any,
        *,
        size: OfficialSize = "large",
        method: str = "scan",
        image_size: int = 1024,
    ) -> None:
        from panoforge.eval.interactive import segmenter

        checkpoint = Path(model) if isinstance(model, str | Path) else None
        settings = {"size": size, "image_size": image_size, "checkpoint": checkpoint}
        try:
            config = EvalConfig.model_validate({"methods": [method], "model": settings})
        except ValidationError as error:
            raise ConfigError(explain(error, EvalConfig)) from None
        rgb = load_panorama(picture) if isinstance(picture, str | Path) else picture
        self._segmenter = segmenter.PanoramaSegmenter(rgb, config, _predictor(model, config))

    def mask(self, clicks: Sequence[LonLatDeg], negative: Sequence[LonLatDeg] = ()) -> Bools:
        """The mask of one object.

        Args:
            clicks: Places on the object, (longitude, latitude) in degrees.
            negative: Places beside it, likewise.

        Returns:
            The mask, bool H×W; empty if nothing is clicked.

        Raises:
            UsageError: A longitude beyond ±180° or a latitude beyond ±90°.

        Example:
            >>> import panoforge
            >>> segmenter = panoforge.Segmenter("room.jpg", "sam2.pt", size="tiny", image_size=64)
            >>> segmenter.mask([]).any()
            False
        """
        from panoforge.eval.interactive.clicks import SphereClick

        return self._segmenter.mask(
            [SphereClick(*click) for click in clicks]
            + [SphereClick(*click, positive=False) for click in negative]
        )


def _predictor(model: Any, config: EvalConfig) -> "Predictor":
    """SAM2 that keeps the features of its frames."""
    from panoforge.eval.interactive.segmenter import KeptFeatures

    if not isinstance(model, str | Path):
        return KeptFeatures(model)
    from panoforge.eval.predictors.load import load_model

    return KeptFeatures(load_model(config).model)
