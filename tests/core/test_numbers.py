"""Numbers as reports and the command write them."""

import pytest

from panoforge.core import numbers


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (numbers.count(1234567), "1,234,567"),
        (numbers.count(None), "–"),
        (numbers.count(float("nan")), "–"),
        (numbers.number(0.012345), "0.0123"),
        (numbers.number(12345), "12,300"),
        (numbers.number(7.0), "7"),
        (numbers.number(0), "0"),
        (numbers.number(-0.5), "-0.5"),
        (numbers.number(999.9), "1,000"),
        (numbers.number(1e-7), "1.00e-07"),
        (numbers.number(100), "100"),
        (numbers.percent(0.1234), "12.3 %"),
        (numbers.percent(1), "100.0 %"),
        (numbers.percent(None), "–"),
        (numbers.size(0), "0 B"),
        (numbers.size(999), "999 B"),
        (numbers.size(999_600), "1.0 MB"),
        (numbers.size(1.2e9), "1.2 GB"),
        (numbers.size(2e12), "2.0 TB"),
        (numbers.size(512e6), "512 MB"),
        (numbers.duration(0.0451), "45 ms"),
        (numbers.duration(12.34), "12.3 s"),
        (numbers.duration(59.97), "1 min 00 s"),
        (numbers.duration(75), "1 min 15 s"),
        (numbers.duration(7500), "2 h 05 min"),
        (numbers.duration(273_600), "3 d 4 h"),
        (numbers.money(12.5), "$12.50"),
        (numbers.money(0.04), "$0.04"),
        (numbers.money(0.0123), "$0.0123"),
        (numbers.money(1234), "$1,234.00"),
        (numbers.counted(1, "scene"), "1 scene"),
        (numbers.counted(2000, "scene"), "2,000 scenes"),
        (numbers.counted(0.5, "GPU"), "0.5 GPUs"),
        (numbers.counted(1.0, "GPU"), "1 GPU"),
        (numbers.counted(None, "scene"), "– scenes"),
    ],
)
def test_numbers_read_well(text: str, expected: str) -> None:
    assert text == expected
