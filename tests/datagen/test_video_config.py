"""`video:` of a render config: what is refused, and the keys of what it makes. Renders nothing."""

import pytest
from pydantic import ValidationError
from repository import ROOT

from panoforge.cluster.render.images import image_config_sha256
from panoforge.core.config import load_config
from panoforge.datagen.config.render import RenderConfig, plan_scenes
from panoforge.datagen.config.video import MovingThings, VideoCamera, VideoSettings

BLEND = ({"source": "blend", "paths": ("a.blend",)},)
FLOWS = ("rgb", "instance", "depth", "flow_forward", "flow_backward")


def config(**changes) -> RenderConfig:
    video = {"frames": 4, "fps": 2, **changes.pop("video", {})}
    return RenderConfig(width=128, height=64, video=video, **changes)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"video": {"fps": 0}}, "greater than 0"),
        ({"video": {"frames": 0}}, "greater than or equal to 1"),
        ({"glass": "see-through"}, "glass=see-through is not there for videos yet"),
        ({"camera": {"tilt_deg": 3}}, "camera.tilt_deg would be ignored"),
        (
            {"camera": {"poses": ({"x_m": 0, "y_m": 0, "z_m": 1},)}},
            "camera.poses would be ignored",
        ),
        (
            {"video": {"camera": {"poses": ({"x_m": 0, "y_m": 0, "z_m": 1},) * 5}}},
            "needs 8 rows .2 videos of 4 frames., it has 5",
        ),
        (
            {
                "video": {
                    "camera": {"steady": "shaken", "poses": ({"x_m": 0, "y_m": 0, "z_m": 1},) * 8}
                }
            },
            "so steady would be ignored",
        ),
        ({"video": {"camera": {"shake_deg": 9}}}, "for a shaken camera only"),
        ({"video": {"camera": {"speed_m_s": (0.9, 0.2)}}}, "least, greatest"),
        ({"video": {"animation": True}}, "plays .blend files"),
        (
            {
                "sources": BLEND,
                "video": {"animation": True, "objects": ({"categories": ["chair"], "how": "fly"},)},
            },
            "take one of the two away",
        ),
        (
            {"video": {"objects": ({"categories": ["chiar"], "how": "floor"},)}},
            "no category 'chiar'. Did you mean 'chair'",
        ),
        (
            {"video": {"objects": ({"categories": ["any"], "how": "fly", "drop_m": (1, 2)},)}},
            "drop_m would be ignored for how=fly",
        ),
        (
            {"video": {"objects": ({"categories": ["door"], "how": "swing", "drop_m": (1, 2)},)}},
            "drop_m would be ignored for how=swing",
        ),
        (
            {"video": {"objects": ({"categories": ["any"], "how": "fall", "slide_m": (1, 2)},)}},
            "slide_m would be ignored for how=fall",
        ),
        (
            {"video": {"objects": ({"categories": ["any"], "how": "slide", "turn_deg_s": 9},)}},
            "turn_deg_s would be ignored for how=slide",
        ),
        (
            {"video": {"objects": ({"categories": ["any"], "how": "slide", "slide_m": (2, 1)},)}},
            "slide_m is .least, greatest.",
        ),
        (
            {"video": {"objects": ({"categories": ["any"], "how": "fly", "swing_deg": (1, 2)},)}},
            "swing_deg would be ignored for how=fly",
        ),
        (
            {
                "video": {
                    "objects": ({"categories": ["door"], "how": "swing", "swing_deg": (9, 200)},)
                }
            },
            "a door swings by at most 180°",
        ),
        (
            {"video": {"objects": ({"categories": ["any"], "how": "fall", "turn_deg_s": 1},)}},
            "turn_deg_s would be ignored for how=fall",
        ),
        ({"products": FLOWS, "displacement": "true"}, "displacement=true moves surfaces"),
    ],
)
def test_what_cannot_be_or_would_be_ignored_is_refused(changes, why) -> None:
    with pytest.raises(ValidationError, match=why):
        config(**changes)


def test_flow_is_of_videos() -> None:
    with pytest.raises(ValidationError, match="leads from frame to frame: set video"):
        RenderConfig(products=FLOWS)


def test_a_config_reads_what_it_wrote() -> None:
    video = {
        "camera": {"steady": "shaken", "shake_deg": 2},
        "objects": ({"categories": ["chair", "unknown:ball"], "how": "fall", "drop_m": (1, 2)},),
    }
    made = config(video=video, products=FLOWS)
    assert RenderConfig.model_validate_json(made.model_dump_json()) == made


def test_keys_are_those_of_frames() -> None:
    job = plan_scenes(config(cameras_per_scene=2))[0]
    assert job.sample_keys[:2] == [f"{job.key}-v0-f00000", f"{job.key}-v0-f00001"]
    assert job.sample_keys[-1] == f"{job.key}-v1-f00003" and len(job.sample_keys) == 8
    stills = plan_scenes(RenderConfig(width=128, height=64, cameras_per_scene=2))[0]
    assert stills.sample_keys == [f"{stills.key}-c0", f"{stills.key}-c1"]


def test_the_ends_of_a_video_lead_nowhere() -> None:
    made = config(products=FLOWS)
    assert made.frame_suffixes(0) == (
        "depth.delta.zst",
        "flow_forward.delta.zst",
        "instance.zst",
        "rgb.jpg",
    )
    assert "flow_forward.delta.zst" not in made.frame_suffixes(3)
    assert len(made.frame_suffixes(1)) == 5


def test_other_motion_is_another_dataset() -> None:
    digests = {
        image_config_sha256(config(video=change))
        for change in ({}, {"fps": 3}, {"camera": {"turn_deg_s": 5}}, {"frames": 5})
    }
    assert len(digests) == 4


@pytest.mark.parametrize(
    ("model", "prefix"),
    [
        (VideoSettings, "video."),
        (VideoCamera, "video.camera."),
        (MovingThings, "video.objects[]."),
    ],
)
def test_every_key_is_documented_as_it_describes_itself(model, prefix) -> None:
    page = (ROOT / "docs" / "howto" / "videos.md").read_text(encoding="utf-8")
    for name, field in model.model_fields.items():
        if name not in ("camera", "objects"):  # which have tables of their own
            row = next(line for line in page.splitlines() if f"`{prefix}{name}`" in line)
            assert field.description in row


def test_the_shipped_config_is_one() -> None:
    from panoforge.cluster.config.jobs import RenderJobConfig

    render = load_config(
        ROOT / "configs" / "video.yaml",
        RenderJobConfig,
        section="render",
        chain=("pack", "train", "eval"),
    ).render
    assert render.video is not None and (render.scenes, render.video.frames) == (3, 24)
    assert (render.width, render.height, render.panoramas_per_scene) == (512, 256, 24)
