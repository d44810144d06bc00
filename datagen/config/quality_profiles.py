"""How much a picture's quality is paid for: `pano render --profile preview | draft | final`.

A profile sets samples, noise, bounces and the denoiser, and nothing else. Ids, depth and where the
cameras stand are the same in all three, so a preview shows the labels of the final dataset. Its
values stand before the command line's: `--profile draft samples=32` takes 32. What each costs and
errs is measured by bench/render_profiles.py.
"""

from typing import Any, Literal

QualityProfile = Literal["preview", "draft", "final"]

# `final` is the first that reaches the error of Infinigen's own settings (bench/render_cost.py).
_FIELDS: dict[QualityProfile, dict[str, Any]] = {
    "preview": {
        "samples": 4,
        "adaptive_threshold": 0.1,
        "max_bounces": 2,
        "denoise": True,
        "denoise_quality": "FAST",
    },
    "draft": {
        "samples": 16,
        "adaptive_threshold": 0.03,
        "max_bounces": 4,
        "denoise": True,
        "denoise_quality": "BALANCED",
    },
    "final": {
        "samples": 96,
        "adaptive_threshold": 0.01,
        "max_bounces": 4,
        "denoise": True,
        "denoise_quality": "HIGH",
    },
}


def profile_fields(profile: QualityProfile) -> dict[str, Any]:
    """The fields of `RenderConfig` that a profile sets."""
    return dict(_FIELDS[profile])


def profile_overrides(profile: QualityProfile | None) -> list[str]:
    """The same as overrides of a config; none without a profile."""
    return [f"{key}={value}" for key, value in _FIELDS[profile].items()] if profile else []
