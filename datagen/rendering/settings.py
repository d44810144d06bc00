"""What one render is asked for: the figures of the final render, and of a probe. Imports no bpy."""

from dataclasses import dataclass, replace

from panoforge.datagen.config.render import RenderConfig

SEAM_FRACTION = 64  # the denoiser sees this part of the width beyond either end


@dataclass(frozen=True)
class RenderSettings:
    """What one render needs to know.

    A probe is the same with other figures. `alpha_threshold`: a surface less opaque than this
    leaves the data passes to what is behind it.
    """

    width: int
    height: int
    samples: int
    adaptive_threshold: float
    max_bounces: int
    denoise: bool
    denoise_quality: str
    albedo: bool
    material_index: bool
    seed: int
    alpha_threshold: float = 0.0
    diffuse: bool = False

    @property
    def seam_px(self) -> int:
        """Extra columns on either side, for the denoiser."""
        return self.width // SEAM_FRACTION if self.denoise else 0

    @staticmethod
    def of(config: RenderConfig, seed: int) -> "RenderSettings":
        """The settings of the final render."""
        return RenderSettings(
            config.width,
            config.height,
            config.samples,
            config.adaptive_threshold,
            config.max_bounces,
            config.denoise,
            config.denoise_quality,
            "albedo" in config.products,
            config.glass == "see-through",
            seed % 2**31,
        )

    def for_labels(self) -> "RenderSettings":
        """The same view for its data passes alone: the same columns, no light."""
        return replace(
            self,
            samples=1,
            adaptive_threshold=0.0,
            max_bounces=0,
            denoise_quality="FAST",
            albedo=False,
            diffuse=False,
        )

    @staticmethod
    def probe(width: int, seed: int) -> "RenderSettings":
        """One sample, no bounce: what a material's colour is, and what is seen from a place."""
        return RenderSettings(
            width, width // 2, 1, 0.0, 0, False, "FAST", True, True, seed % 2**31, diffuse=True
        )
