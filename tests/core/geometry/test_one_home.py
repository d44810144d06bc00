"""The pixel convention has one home: half-pixel arithmetic elsewhere is found here.

Every line of the packages that adds or takes away 0.5 is either in core/geometry or in the list
below with its reason. A line that derives the convention anew belongs into
`panoforge.core.geometry.pixels`; another 0.5 joins the list.
"""

import io
import re
import tokenize
from pathlib import Path

import numpy as np
import pytest
from repository import ROOT

from panoforge.core.geometry.pixels import (
    column_lon,
    edge_lat,
    edge_to_index,
    index_to_edge,
    index_to_place,
    lat_edge,
    lon_edge,
    middle_index,
    pixel_at,
    pixel_places,
    place_to_edge,
    place_to_index,
    resize_index,
    row_lat,
    whole_columns,
)
from panoforge.core.geometry.sphere import lonlat_to_pixel, pixel_to_lonlat

PACKAGES = ("core", "datagen", "train", "eval", "label", "cluster", "panoforge")
HALF = re.compile(
    r"(?<![\w.])0?\.5\s*[-+]"  # 0.5 -, 0.5 +
    r"|[-+]\s*(np\.float(32|64)\()?0?\.5(?![\w.])"  # + 0.5, - np.float32(0.5)
    r"|/ ?360(\.0)? ?\* ?width"  # degrees to columns
)
ELSEWHERE = {  # a part of the line → why it is no copy
    "* step + 0.5, 1).T": "the start of a low-discrepancy sequence of colours",
    "0.5 + 0.35 * lightness": "a range of lightness",
    "row.instances - 0.5 for row": "the ends of bars in a chart",
    "step + 1, step) - 0.5": "bins of whole numbers in a histogram",
    "-0.5 <= x <= limit + 0.5": "whether a place is on the picture",
    "for x in (-0.5, 0.5) for y": "the corners of a box around its middle",
    "rays**0.5 - self._best": "a square root",
    "cut.astype(np.float32) - np.float32(0.5)": "a mask as logits, half below 0",
    "0.5 * object_ + 0.5 * _region": "the S-measure's mean of two terms",
}


def code_lines(path: Path) -> list[tuple[int, str]]:
    """The lines of a file outside of docstrings and comments."""
    text = path.read_text()
    lines = text.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.STRING, tokenize.COMMENT):
            (first, start), (last, stop) = token.start, token.end
            for row in range(first, last + 1):
                low = start if row == first else 0
                high = stop if row == last else len(lines[row - 1])
                line = lines[row - 1]
                lines[row - 1] = line[:low] + " " * (high - low) + line[high:]
    return list(enumerate(lines, start=1))


def copies(files: list[Path]) -> list[str]:
    return [
        f"{path}:{number}: {line.strip()}"
        for path in files
        for number, line in code_lines(path)
        if HALF.search(line) and not any(known in line for known in ELSEWHERE)
    ]


def sources() -> list[Path]:
    found = [p for package in PACKAGES for p in (ROOT / package).rglob("*.py")]
    real = {p.resolve() for p in found} - set((ROOT / "core/geometry").resolve().rglob("*.py"))
    return sorted(real)


def test_the_pixel_convention_is_derived_nowhere_else() -> None:
    found = copies(sources())
    assert not found, "half-pixel arithmetic outside core/geometry:\n" + "\n".join(found)


def test_every_exception_is_still_there() -> None:
    text = "\n".join(path.read_text() for path in sources())
    gone = [known for known in ELSEWHERE if known not in text]
    assert not gone, f"no such line any more: {gone}"


@pytest.mark.parametrize(
    "line",
    [
        "lon = ((u + 0.5) / width - 0.5) * 2 * np.pi",
        "lat = (0.5 - row / height) * np.pi",
        "x = (x + 1) / 2 * w - 0.5",
        "offset = (np.arange(n) + 0.5 - n / 2) / focal",
        "(x + np.float32(0.5)) * scale - np.float32(0.5),",
        "shift = round(plan.yaw0_deg / 360 * width)",
    ],
)
def test_a_copy_is_found(line: str, tmp_path: Path) -> None:
    (tmp_path / "copy.py").write_text(f'"""λ = (u + 0.5)/W"""\n{line}  # + 0.5\n')
    assert copies([tmp_path / "copy.py"]) == [f"{tmp_path}/copy.py:2: {line}"]


def test_indices_edges_and_places_agree() -> None:
    index = np.linspace(-0.5, 9.5, 41)
    place = index_to_place(index, 10)
    assert place[0] == -1 and place[-1] == 1
    np.testing.assert_allclose(place_to_index(place, 10), index, atol=1e-12)
    np.testing.assert_allclose(place_to_edge(place, 10), index_to_edge(index), atol=1e-12)
    np.testing.assert_array_equal(edge_to_index(index_to_edge(index)), index)
    np.testing.assert_array_equal(pixel_places(10), index_to_place(np.arange(10), 10))
    assert middle_index(10) == 4.5 and index_to_place(middle_index(10), 10) == 0
    np.testing.assert_allclose(resize_index(resize_index(index, 10, 64), 64, 10), index, atol=1e-12)
    assert index_to_place(7, 10, start=7) == index_to_place(0, 10)


def test_rows_columns_and_angles_agree_with_the_sphere() -> None:
    u, v = np.arange(64), np.arange(32)
    lon, lat = pixel_to_lonlat(u, 0, 64, 32)[0], pixel_to_lonlat(0, v, 64, 32)[1]
    np.testing.assert_array_equal(column_lon(u, 64), lon)
    np.testing.assert_array_equal(row_lat(v, 32), lat)
    np.testing.assert_array_equal(edge_lat(v + 0.5, 32), lat)
    np.testing.assert_allclose(lon_edge(lon, 64), u + 0.5, atol=1e-12)
    np.testing.assert_allclose(lat_edge(lat, 32), v + 0.5, atol=1e-12)
    rng = np.random.default_rng(0)
    lon, lat = rng.uniform(-np.pi, np.pi, 500), rng.uniform(-np.pi / 2, np.pi / 2, 500)
    column, row = pixel_at(lon, lat, 64, 32)
    near = lonlat_to_pixel(lon, lat, 64, 32)
    np.testing.assert_array_equal(column, np.floor(near[0] + 0.5).astype(int) % 64)
    np.testing.assert_array_equal(row, np.floor(near[1] + 0.5).astype(int).clip(0, 31))
    assert [int(x) for x in pixel_at(-np.pi, -np.pi / 2, 64, 32)] == [0, 31]


def test_a_yaw_is_whole_columns_and_a_rest() -> None:
    assert whole_columns(90.0, 64) == (16, 0.0) and whole_columns(-360.0, 64) == (-64, 0.0)
    whole, rest = whole_columns(1.0, 64)
    assert (whole, rest) == (0, pytest.approx(64 / 360))
