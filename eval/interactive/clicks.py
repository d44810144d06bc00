"""A click on the sphere, in degrees."""

from dataclasses import dataclass

from panoforge.core.errors import UsageError


@dataclass(frozen=True)
class SphereClick:
    """A click on the sphere, in degrees.

    Longitude in [−180°, 180°] (0 is the image centre, right is +), latitude in [−90°, 90°] (up is
    +).
    """

    lon_deg: float
    lat_deg: float
    positive: bool = True

    def __post_init__(self) -> None:
        if not (abs(self.lon_deg) <= 180 and abs(self.lat_deg) <= 90):  # false for NaN too
            raise UsageError(
                f"a click at longitude {self.lon_deg:g}°, latitude {self.lat_deg:g}°: expected a"
                " longitude of −180 to 180 (0 is the middle of the picture, right is positive) and"
                " a latitude of −90 to 90 (up is positive)"
            )


def parse_click(text: str, *, positive: bool = True) -> SphereClick:
    """'LON,LAT' in degrees."""
    try:
        lon, lat = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(
            f"{text!r} is no click: expected LON,LAT in degrees, e.g. --click 30,-12.5 (0,0 is the"
            " middle of the picture, right and up are positive)"
        ) from None
    return SphereClick(lon, lat, positive)
