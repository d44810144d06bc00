"""Shared fixtures, and which tests may run beside each other.

`tests/` itself is on the import path (pyproject.toml), so tests write `import synthetic`.
"""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import synthetic
from xdist.scheduler import LoadScopeScheduling


class FilesWhole(LoadScopeScheduling):
    """What goes to one worker: a file, so that its module fixtures are made once, and all files
    that start Ray, since two Rays at once would fight for two cores.

    (The marks of `--dist loadgroup` do not reach the scheduler: xdist 3.8 writes them into an
    attribute that pytest 9 no longer reads.)
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::")[0]
        return "ray" if _starts_ray(self.config.rootpath / file) else file


@cache
def _starts_ray(file: Path) -> bool:
    return "pytest.mark.ray" in file.read_text(encoding="utf-8")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FilesWhole:
    """The order in which `pytest -n` hands out tests."""
    return FilesWhole(config, log)


@pytest.fixture(scope="session")
def caps_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small published dataset: 4 scenes × 2 cameras of 256×128 caps, with RLEs.

    Read-only: copy it to damage it.
    """
    return synthetic.dataset(tmp_path_factory.mktemp("caps"), rle=True)
