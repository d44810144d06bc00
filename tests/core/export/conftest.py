"""Fixtures that all tests of exports share."""

import pytest
import synthetic
from export_cases import SMALL_SCAN

from panoforge.core.export import ExportOptions
from panoforge.core.shards.read import Dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Two scenes, one camera each, of 192×96."""
    return Dataset.open(
        synthetic.dataset(tmp_path_factory.mktemp("export"), scenes=2, cameras=1, width=192)
    )


@pytest.fixture(params=[ExportOptions(), SMALL_SCAN], ids=["panoramas", "views"])
def options(request: pytest.FixtureRequest) -> ExportOptions:
    return request.param
