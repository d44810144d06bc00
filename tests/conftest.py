"""Shared fixtures, and which tests may run beside each other.

`tests/` itself is on the import path (pyproject.toml), so tests write `import synthetic`.
"""

from pathlib import Path

import pytest
import synthetic


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """On several workers (`-n 2 --dist loadgroup`) a file stays whole, and so do all tests of Ray.

    A file's module fixtures are then made once. Two Rays at once would fight for two cores.
    """
    for item in items:
        group = "ray" if item.get_closest_marker("ray") else item.nodeid.split("::")[0]
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="session")
def caps_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small published dataset: 4 scenes × 2 cameras of 256×128 caps, with RLEs.

    Read-only: copy it to damage it.
    """
    return synthetic.dataset(tmp_path_factory.mktemp("caps"), rle=True)
