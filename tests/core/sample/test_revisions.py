"""`revise.json`: it comes back as it was written, and hostile files are refused."""

import pytest

from panoforge.core.errors import DataError
from panoforge.core.sample.revisions import Revision, decode_revisions, encode_revisions


def test_a_revise_list_comes_back_and_hostile_ones_are_refused() -> None:
    mild = Revision(item="a.mp4", frame=3, kind="label", id=2, severity=0.4, why="x")
    bad = Revision(item="a.mp4", frame=9, kind="uncovered", severity=0.9, area_sr=1.0, why="y")
    data = encode_revisions([mild, bad])
    assert [one.frame for one in decode_revisions(data).entries] == [9, 3]
    for wrong in (
        data.replace(b"0.9", b"9.0"),
        data.replace(b'"uncovered"', b'"odd"'),
        data.replace(b'"frame": 3', b'"frame": -3'),
        data.replace(b'"frame": 3', b'"frame": 3, "run": "x"'),
        data.replace(b'"id": 2', b'"id": 70000'),
        data.replace(b'"why": "x"', b'"why": "x", "lat_deg": 90.5'),
        b"{",
        b"[]",
    ):
        with pytest.raises(DataError, match=r"^revise.json does not fit"):
            decode_revisions(wrong)
