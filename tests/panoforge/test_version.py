"""One version, wherever it is written."""

import re
import tomllib

import yaml
from repository import ROOT

from panoforge.core import __version__


def test_the_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    images = re.findall(
        r"image: \S+panoforge:(\S+)", (ROOT / "configs/cluster/rayjob.yaml").read_text()
    )
    released = re.search(
        r"^## (\S+) — (\d{4}-\d\d-\d\d)$", (ROOT / "CHANGELOG.md").read_text(), re.M
    )
    assert released
    assert {project["version"], citation["version"], released[1], *images} == {__version__}
    assert str(citation["date-released"]) == released[2]


def test_every_section_of_the_changelog_has_a_date() -> None:
    titles = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert [title for title in titles if not re.fullmatch(r"\S+ — \d{4}-\d\d-\d\d", title)] == []
