"""Shared fixtures. `tests/` itself is on the import path (pyproject.toml), so tests write `import
synthetic`.
"""

from pathlib import Path

import pytest
import synthetic


@pytest.fixture(scope="session")
def caps_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small published dataset: 4 scenes × 2 cameras of 256×128 caps, with RLEs. Read-only: copy
    it to damage it.
    """
    return synthetic.dataset(tmp_path_factory.mktemp("caps"), rle=True)
