"""Sampling views: against a slow float64 reference, at the seam and the poles, and a yaw of k
columns is a roll by k.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from panoforge.core.geometry.sphere import (
    View,
    direction_to_pixel,
    pixel_to_direction,
    view_pixel_to_direction,
    wrap_pixel,
)
from panoforge.core.geometry.views import prefilter_rows, sample_view, wrap_panorama

W, H = 128, 64
VIEWS = st.builds(
    View,
    st.floats(-180, 179),
    st.sampled_from([-90.0, -60.0, -45.0, 0.0, 30.0, 45.0, 90.0]),
    st.floats(30, 120),
    st.integers(1, 48),
)


def source_indices(view: View, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    index = np.arange(view.size_px)
    return direction_to_pixel(
        view_pixel_to_direction(index[None], index[:, None], view), width, height
    )


def reference_bilinear(image: np.ndarray, view: View) -> np.ndarray:
    """Float64 bilinear sampling, one corner at a time, with explicit seam and pole rules."""
    u, v = source_indices(view, image.shape[1], image.shape[0])
    u_low, v_low = np.floor(u).astype(int), np.floor(v).astype(int)
    out = np.zeros((*u.shape, *image.shape[2:]))
    for du in (0, 1):
        for dv in (0, 1):
            columns, rows = wrap_pixel(u_low + du, v_low + dv, image.shape[1], image.shape[0])
            weight = np.abs(1 - du - (u - u_low)) * np.abs(1 - dv - (v - v_low))
            out += weight[..., None] * image[rows, columns].reshape(*u.shape, -1)
    return out


@settings(deadline=None, max_examples=60)
@given(VIEWS, st.integers(0, 2**32 - 1))
def test_bilinear_equals_the_reference(view, seed):
    image = np.random.default_rng(seed).integers(0, 256, (H, W, 3), dtype=np.uint8)
    ours = sample_view(wrap_panorama(image), view).astype(float)
    # OpenCV interpolates at 1/32 of a pixel: at most 2/64 off in each axis, on steps of up to 255.
    assert np.abs(ours - reference_bilinear(image, view)).max() <= 255 * 2 / 64 * 2 + 1


@pytest.mark.parametrize(
    "view",
    [View(0, 90, 30, 48), View(77, -90, 30, 48), View(180, 0, 60, 48), View(-179, 45, 90, 48)],
)
def test_seam_and_poles_are_like_any_other_place(view):
    """Half a row from a pole a pixel mixes rows from either side of it, half a column from the seam
    columns of both ends.
    """
    image = np.random.default_rng(0).integers(0, 256, (H, W, 3), dtype=np.uint8)
    ours = sample_view(wrap_panorama(image), view).astype(float)
    assert np.abs(ours - reference_bilinear(image, view)).max() <= 255 * 2 / 64 + 2


def test_bilinear_is_unbiased():
    """Half a pixel of shift would move a ramp by half a step; OpenCV's rounding moves it by less
    than a twentieth.
    """
    ramp = np.broadcast_to(np.linspace(0, 255, H)[:, None, None], (H, W, 3)).astype(np.float32)
    view = View(20, 0, 90, 40)
    error = sample_view(wrap_panorama(np.ascontiguousarray(ramp)), view) - reference_bilinear(
        ramp.astype(float), view
    )
    assert np.abs(error.mean()) < 0.05 * 255 / H


@settings(deadline=None, max_examples=60)
@given(VIEWS, st.integers(0, 2**32 - 1))
def test_labels_are_the_nearest_pixel(view, seed):
    labels = np.random.default_rng(seed).integers(0, 65536, (H, W)).astype(np.uint16)
    ours = sample_view(wrap_panorama(labels), view, labels=True)
    u, v = source_indices(view, W, H)
    near_tie = (np.abs(u - np.floor(u) - 0.5) < 0.02) | (np.abs(v - np.floor(v) - 0.5) < 0.02)
    columns, rows = wrap_pixel(np.rint(u).astype(int), np.rint(v).astype(int), W, H)
    assert ((ours == labels[rows, columns]) | near_tie).all()


@given(st.integers(-W, W), st.sampled_from([-45.0, 0.0, 45.0, 90.0]), st.booleans())
def test_a_yaw_by_k_columns_is_a_roll_by_k(k, pitch, as_labels):
    rng = np.random.default_rng(0)
    image = (
        rng.integers(0, 60000, (H, W)).astype(np.uint16)
        if as_labels
        else rng.integers(0, 256, (H, W, 3), dtype=np.uint8)
    )
    turned = sample_view(wrap_panorama(image), View(k * 360 / W, pitch, 90, 32), labels=as_labels)
    rolled = sample_view(
        wrap_panorama(np.roll(image, -k, axis=1)), View(0, pitch, 90, 32), labels=as_labels
    )
    assert np.array_equal(turned, rolled)


def test_erp_to_view_to_erp():
    """A smooth panorama seen in a fine view and looked up again from the panorama's pixels is
    itself.
    """
    directions = pixel_to_direction(np.arange(W)[None], np.arange(H)[:, None], W, H)
    smooth = np.ascontiguousarray((directions + 1) * 100, np.float32)
    from panoforge.core.geometry.sphere import direction_to_view_pixel

    for yaw, pitch in [(180, 0), (0, 90), (-170, -45)]:
        view = View(yaw, pitch, 90, 256)
        image = sample_view(wrap_panorama(smooth), view)
        x, y, inside = direction_to_view_pixel(directions, view)
        at = (
            np.rint(x[inside]).astype(int).clip(0, 255),
            np.rint(y[inside]).astype(int).clip(0, 255),
        )
        assert np.abs(image[at[1], at[0]] - smooth[inside]).max() < 1.5


def test_odd_widths_are_refused():
    with pytest.raises(ValueError, match="even width"):
        wrap_panorama(np.zeros((4, 7), np.uint8))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("channels", [(), (3,)])
def test_the_prefilter_averages_stretched_rows_along_the_circle(dtype, channels):
    """Against a plain loop: row of latitude φ averaged over 0.6/cos φ pixels where that is above 1,
    else untouched.
    """
    image = np.random.default_rng(0).integers(0, 256, (H, W, *channels)).astype(dtype)
    out = prefilter_rows(image)
    assert out.dtype == dtype and out.shape == image.shape
    for row in range(H):
        width = min(0.6 / np.cos((0.5 - (row + 0.5) / H) * np.pi), W // 2)
        if width <= 1:
            assert np.array_equal(out[row], image[row])
            continue
        whole = 2 * max(0, int((width - 1) // 2)) + 1
        weights = np.zeros(W)
        weights[np.arange(-(whole // 2), whole // 2 + 1)] = 1
        weights[[whole // 2 + 1, -(whole // 2) - 1]] += (width - whole) / 2
        for column in (0, 1, W // 2, W - 1):
            expected = np.tensordot(
                np.roll(weights, column) / width, image[row].astype(float), axes=1
            )
            assert np.abs(out[row, column] - expected).max() <= (
                0.501 if dtype == np.uint8 else 1e-3
            )
    assert np.array_equal(prefilter_rows(np.roll(image, 5, axis=1)), np.roll(out, 5, axis=1))
    view = View(20.0, 90.0, 90.0, 32)
    assert np.array_equal(
        sample_view(wrap_panorama(image, prefilter=True), view),
        sample_view(wrap_panorama(out), view),
    )
