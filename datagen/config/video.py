"""Videos of a render config: how the camera goes, and what moves. Imports no bpy.

`video:` turns each panorama of a scene into a clip. `cameras_per_scene` is then the number of
videos of a scene, and `camera` says how high and how far from surfaces the camera stays.
"""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from panoforge.core.categories.table import Categories
from panoforge.core.errors import nearest
from panoforge.core.models import FrozenModel
from panoforge.core.names import MAX_FRAMES
from panoforge.core.sample.metadata import Fps
from panoforge.datagen.config.poses import FixedPose, read_poses

ANY = "any"  # of a rule's categories: all of them
Range = tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]]


def _said(settings: FrozenModel, *names: str) -> list[str]:
    """Which of these fields have another value than their default."""
    fields = type(settings).model_fields
    return [name for name in names if getattr(settings, name) != fields[name].default]


class VideoCamera(FrozenModel):
    """How the camera goes. Metres, degrees, seconds."""

    speed_m_s: Annotated[
        Range, Field(description="Least and greatest speed of a walk, metres a second.")
    ] = (0.05, 0.8)
    turn_deg_s: Annotated[
        float, Field(ge=0, le=360, description="Greatest rate at which the heading turns.")
    ] = 30.0
    steady: Annotated[
        Literal["stabilised", "shaken"],
        Field(description="Turning about the vertical only, or with roll and pitch as if carried."),
    ] = "stabilised"
    shake_deg: Annotated[
        float, Field(gt=0, le=45, description="Largest roll and pitch of a shaken camera.")
    ] = 4.0
    poses: Annotated[
        tuple[FixedPose, ...],
        BeforeValidator(read_poses),
        Field(description="One pose a frame instead of a walk, or the .json or .csv file of them."),
    ] = ()

    @model_validator(mode="after")
    def _ordered(self) -> "VideoCamera":
        if self.speed_m_s[0] > self.speed_m_s[1] or self.speed_m_s[1] == 0:
            raise ValueError(
                f"video.camera.speed_m_s is (least, greatest) and lets it move, got"
                f" {self.speed_m_s}"
            )
        if _said(self, "shake_deg") and self.steady == "stabilised":
            raise ValueError(
                "video.camera.shake_deg means something for a shaken camera only: set"
                " video.camera.steady=shaken"
            )
        given = _said(self, "speed_m_s", "turn_deg_s", "steady", "shake_deg")
        if self.poses and given:
            raise ValueError(
                f"video.camera.poses says where the camera is in each frame, so"
                f" {', '.join(given)} would be ignored: take one of the two away"
            )
        return self


class MovingThings(FrozenModel):
    """Things that move: which, how many, and how. Metres, degrees, seconds."""

    categories: Annotated[
        tuple[str, ...],
        Field(min_length=1, description="Categories that may move; 'any' stands for all things."),
    ]
    how: Annotated[
        Literal["floor", "fly", "fall", "swing", "slide"],
        Field(
            description="Over the floor; through the air, turning; dropped, by Blender's solver; a"
            " door, about its hinge; or a drawer, out and back."
        ),
    ]
    most: Annotated[int, Field(ge=1, le=1000, description="At most so many of them.")] = 3
    speed_m_s: Annotated[
        Range, Field(description="Range of the speed with which it passes the middle of its way.")
    ] = (0.1, 0.6)
    turn_deg_s: Annotated[
        float, Field(ge=0, le=720, description="Greatest rate at which a thing turns.")
    ] = 60.0
    drop_m: Annotated[
        Range, Field(description="Least and greatest height from which a thing falls.")
    ] = (0.3, 1.2)
    swing_deg: Annotated[
        Range, Field(description="Least and greatest angle by which a door swings, degrees.")
    ] = (30.0, 90.0)
    slide_m: Annotated[
        Range, Field(description="Least and greatest length by which a drawer comes out.")
    ] = (0.1, 0.4)

    @model_validator(mode="after")
    def _names_categories(self) -> "MovingThings":
        known = Categories.load().by_name
        for name in self.categories:
            if name not in known and name != ANY and not name.startswith("unknown:"):
                raise ValueError(
                    f"categories: there is no category {name!r}.{nearest(name, known)} Known ones"
                    f" are in configs/categories.yaml; {ANY!r} stands for all, and unknown:NAME for"
                    " what none of them is"
                )
        return self

    @model_validator(mode="after")
    def _means_something(self) -> "MovingThings":
        for name in ("speed_m_s", "drop_m", "swing_deg", "slide_m"):
            low, high = getattr(self, name)
            if low > high or high == 0:
                raise ValueError(f"{name} is (least, greatest), got {(low, high)}")
        if self.swing_deg[1] > 180:
            raise ValueError(f"swing_deg: a door swings by at most 180°, got {self.swing_deg}")
        ignored = {
            "floor": ("drop_m", "swing_deg", "slide_m"),
            "fly": ("drop_m", "swing_deg", "slide_m"),
            "fall": ("speed_m_s", "turn_deg_s", "swing_deg", "slide_m"),
            "swing": ("speed_m_s", "drop_m", "slide_m"),
            "slide": ("turn_deg_s", "drop_m", "swing_deg"),
        }[self.how]
        if given := _said(self, *ignored):
            raise ValueError(
                f"{', '.join(given)} would be ignored for how={self.how}: leave it out"
            )
        return self


class VideoSettings(FrozenModel):
    """Clips instead of panoramas."""

    frames: Annotated[int, Field(ge=1, le=MAX_FRAMES, description="Frames of a video.")]
    fps: Annotated[Fps, Field(description="Frames a second.")]
    camera: Annotated[VideoCamera, Field(description="How the camera goes.")] = VideoCamera()
    objects: Annotated[
        tuple[MovingThings, ...], Field(description="What moves; nothing without.")
    ] = ()
    animation: Annotated[
        bool,
        Field(description="Play a .blend file's animation: armatures, shape keys, keyframes."),
    ] = False
    tracks: Annotated[
        int,
        Field(ge=0, le=10_000, description="Points of each instance that are tracked through it."),
    ] = 0

    @property
    def seconds(self) -> float:
        """From the first frame to the last."""
        return (self.frames - 1) / self.fps
