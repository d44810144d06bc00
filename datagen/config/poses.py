"""Poses from a file: where the cameras stand, said by the user instead of chosen.

`camera.poses` names a JSON file (a list of objects) or a CSV file (a header, then rows):

| column | what |
|---|---|
| x_m, y_m, z_m | position in the world of the scene |
| yaw_deg | clockwise seen from above; 0 looks along +Y |
| pitch_deg, roll_deg | up, and right side down; optional |
| scene | key of the scene that the pose is for; optional, without it for every scene |

The file is read when the config is, and its poses become part of the config and of its digest.
Nodes need no file, and a changed file is a changed run.
"""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from panoforge.core.errors import UserError
from panoforge.core.foreign.csv_rows import read_csv
from panoforge.core.foreign.files import read_json
from panoforge.core.models import FrozenModel
from panoforge.core.storage.location import expanded

MAX_BYTES = 64 << 20
Finite = Annotated[float, Field(allow_inf_nan=False)]


class FixedPose(FrozenModel):
    """One pose. Metres and degrees, world frame (+Z up)."""

    x_m: Annotated[Finite, Field(description="Where it stands in the scene's world, along +X.")]
    y_m: Annotated[Finite, Field(description="Where it stands, along +Y.")]
    z_m: Annotated[Finite, Field(description="Its height, along +Z.")]
    yaw_deg: Annotated[
        Finite, Field(description="Clockwise seen from above; 0 looks along +Y.")
    ] = 0.0
    pitch_deg: Annotated[
        float, Field(ge=-90, le=90, description="Upwards; 90 looks at the zenith.")
    ] = 0.0
    roll_deg: Annotated[float, Field(ge=-180, le=180, description="Right side down.")] = 0.0
    scene: Annotated[
        str | None, Field(description="The key of the scene that it is for; null is every scene.")
    ] = None


def read_poses(value: Any) -> Any:
    """The poses in the file that `value` names; anything but a string is left to validation.

    ValueError that says what is wrong with the file.
    """
    if not isinstance(value, str):
        return value
    path = expanded(value)
    if path.suffix not in (".json", ".csv"):
        raise ValueError(f"expected a .json or .csv file, got {value!r}")
    try:
        rows: Any = read_json(path, MAX_BYTES) if path.suffix == ".json" else read_csv(path)
    except UserError as error:  # a validator says what is wrong by ValueError
        raise ValueError(str(error)) from None
    if not isinstance(rows, list) or not rows:
        raise ValueError(
            f"{path} holds no poses: expected a list of objects (.json), or a header and rows"
            " (.csv)"
        )
    return tuple(_without_blanks(row) if isinstance(row, dict) else row for row in rows)


def _without_blanks(row: dict[str, Any]) -> dict[str, Any]:
    return {name: cell for name, cell in row.items() if cell not in ("", None)}


def poses_of(poses: Sequence[FixedPose], scene: str) -> list[FixedPose]:
    """Those of a scene, in the order of the file."""
    return [pose for pose in poses if pose.scene in (None, scene)]
