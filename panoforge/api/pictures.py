"""Pictures: whole panoramas from files, and perspective views of them."""

from pathlib import Path

from numpy.typing import NDArray

from panoforge.core.foreign.pictures import read_panorama
from panoforge.core.geometry import scan, views
from panoforge.core.geometry.sphere import View
from panoforge.core.types import Rgb


def load_panorama(path: str | Path) -> Rgb:
    """Read a whole equirectangular panorama from a picture file.

    EXIF orientation is applied first. A crop is laid onto the sphere by its GPano tags, black
    around it.

    Args:
        path: JPEG, PNG, WebP, AVIF, TIFF or BMP, of 8 or 16 bits.

    Returns:
        The panorama, uint8 H×W×3 in RGB order, W = 2·H.

    Raises:
        DataError: It is not there, no picture, damaged, too large, or no whole panorama.

    Example:
        >>> import panoforge
        >>> rgb = panoforge.load_panorama("room.jpg")
        >>> rgb.shape, rgb.dtype
        ((128, 256, 3), dtype('uint8'))
    """
    return read_panorama(Path(path))


def scan_views(
    fov_deg: float = 90.0,
    overlap: float = 0.5,
    size_px: int = 1024,
    *,
    yaw0_deg: float = 0.0,
    trajectory: scan.Trajectory = "column_first",
) -> tuple[View, ...]:
    """The views of one scan over the sphere, in the order of SAP (§3).

    Every direction is in some view. Consecutive views overlap, and the loop closes.

    Args:
        fov_deg: Full angle of a view, degrees, 20 to 120.
        overlap: Least share of a view that the next one shows too, 0 to 0.9.
        size_px: Pixels on each side of a view.
        yaw0_deg: Yaw of the first column, degrees.
        trajectory: `column_first` (SAP's), `row_first`, `spiral` or `random`.

    Returns:
        The views; with the defaults 24 of them, 8 columns × 3 rows.

    Raises:
        ValueError: An angle, overlap or trajectory that cannot be.

    Example:
        >>> import panoforge
        >>> views = panoforge.scan_views()
        >>> len(views), views[1]
        (24, View(yaw_deg=0.0, pitch_deg=0.0, fov_deg=90.0, size_px=1024))
    """
    return scan.scan_views(scan.ScanSpec(fov_deg, overlap, size_px), yaw0_deg, trajectory)


def sample_view(
    panorama: NDArray | views.WrappedPanorama, view: View, *, labels: bool = False
) -> NDArray:
    """One perspective view of a panorama or a label map.

    Args:
        panorama: H×W or H×W×C of any dtype that OpenCV remaps, W = 2·H. For many views of one
            panorama pass `panoforge.core.geometry.views.wrap_panorama(panorama)`, made once.
        view: Where to look, and how large the picture is.
        labels: Take the nearest pixel, as ids need; otherwise bilinear.

    Returns:
        The view, S×S or S×S×C with S = `view.size_px`, in the panorama's dtype.

    Raises:
        ValueError: The panorama's width is odd, or over 16,379 pixels.

    Example:
        >>> import panoforge
        >>> sample = panoforge.open_dataset("runs/demo/dataset")[0]
        >>> view = panoforge.View(yaw_deg=30, pitch_deg=-10, fov_deg=90, size_px=64)
        >>> panoforge.sample_view(sample.read("rgb"), view).shape
        (64, 64, 3)
        >>> panoforge.sample_view(sample.read("instance"), view, labels=True).dtype
        dtype('uint16')
    """
    if not isinstance(panorama, views.WrappedPanorama):
        panorama = views.wrap_panorama(panorama)
    return views.sample_view(panorama, view, labels=labels)
