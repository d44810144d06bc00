"""Shared fixtures, and which tests may run beside each other.

`tests/` itself is on the import path (pyproject.toml), so tests write `import synthetic`.
"""

from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import synthetic
from xdist.scheduler import LoadScopeScheduling

KINDS = ("ray", "render", "browser")


class FilesWhole(LoadScopeScheduling):
    """What goes to one worker: a file, so that its module fixtures are made once, and all files
    that start Ray, since two Rays at once would fight for two cores.

    The longest come first (`_rank`): a long file that is handed out last is waited for by the other
    worker, and xdist's own order, by number of tests, would have Ray's few begin late.

    (The marks of `--dist loadgroup` do not reach the scheduler: xdist 3.8 writes them into an
    attribute that pytest 9 no longer reads.)
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::")[0]
        return "ray" if _rank(self.config.rootpath / file) == 0 else file


@cache
def _rank(file: Path) -> int:
    """0 for a file that starts Ray, then those that render, that drive a browser, and the rest."""
    text = file.read_text(encoding="utf-8")
    marks = [f"pytest.mark.{mark}" in text for mark in KINDS]
    return [*marks, True].index(True)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FilesWhole:
    """The order in which `pytest -n` hands out tests: that of the collection, see below."""
    config.option.loadscopereorder = False
    return FilesWhole(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In a worker of xdist the longest files first, and among their kind those of most tests."""
    if hasattr(config, "workerinput"):
        tests = Counter(item.path for item in items)
        items.sort(key=lambda item: (_rank(item.path), -tests[item.path], item.path))


@pytest.fixture(scope="module", autouse=True)
def one_browser(request: pytest.FixtureRequest) -> Iterator[None]:
    """In a file of tests that drive a browser, they share it."""
    if _rank(request.path) != KINDS.index("browser"):
        yield
        return
    from browser import shared_browsers

    with shared_browsers():
        yield


@pytest.fixture(scope="session")
def caps_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small published dataset: 4 scenes × 2 cameras of 256×128 caps, with RLEs.

    Read-only: copy it to damage it.
    """
    return synthetic.dataset(tmp_path_factory.mktemp("caps"), rle=True)
