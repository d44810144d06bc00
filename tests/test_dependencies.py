"""What the packages import is declared: in an environment of one extra nothing else is there.

`.ci/wheel` sees that for the demo's path; here it is read of every import, inside functions too.
"""

import ast
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from repository import ROOT

# The extra that a package may count on, beside what every installation has.
EXTRA = {
    "core": "",
    "datagen": "datagen",
    "train": "train",
    "eval": "train",
    "label": "train",
    "cluster": "",
    "panoforge": "",
}
# A module that comes with something declared → with what.
COMES_WITH = {
    "OpenEXR": "openexr",
    "addon_utils": "bpy",
    "annotated_types": "pydantic",
    "bmesh": "bpy",
    "cycler": "matplotlib",
    "hydra": "sam2",
    "markupsafe": "jinja2",
    "mathutils": "bpy",
    "procfunc": "infinigen",
    "pydantic_core": "pydantic",
}
OPTIONAL = {  # importer → what it does without
    "core/foreign/planes.py": ("OpenEXR",),  # of `datagen`; else .exr is refused by name
    "label/teachers/transformers_folder.py": ("transformers",),  # the extra `label`
    "label/teachers/moge.py": ("moge",),  # on no package index
    "panoforge/doctor.py": ("torch", "torchvision"),  # says whether they are there
    "train/log.py": ("wandb",),
    "train/model/mtpano/backbone.py": ("transformers",),
}


def declared(extra: str) -> set[str]:
    """The distributions that an installation with an extra has asked for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [*project["dependencies"], *project["optional-dependencies"].get(extra, ())]
    return {canonicalize_name(Requirement(text).name) for text in asked}


def imported(path: Path) -> Iterator[str]:
    """The top-level modules that a file imports of others, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [str(node.module)]
        for name in names:
            root = name.partition(".")[0]
            if root not in sys.stdlib_module_names and root != "panoforge":
                yield root


distributions = cache(packages_distributions)  # reads every package's list of files


def undeclared(path: Path, known: set[str]) -> list[str]:
    """What a file imports that no distribution of `known` brings."""
    return sorted(
        {
            module
            for module in imported(path)
            if not {
                canonicalize_name(name)
                for name in [*distributions().get(module, ()), COMES_WITH.get(module, module)]
            }
            & known
        }
    )


@pytest.mark.parametrize("room", EXTRA)
def test_what_is_imported_is_declared(room: str) -> None:
    known = declared(EXTRA[room])
    found = {
        name: lacking
        for path in sorted((ROOT / room).rglob("*.py"))  # links are not followed
        if (name := str(path.relative_to(ROOT)))
        and (lacking := set(undeclared(path, known)) - set(OPTIONAL.get(name, ())))
    }
    assert not found, "declare it in pyproject.toml, with its reason"


def test_an_undeclared_import_is_found(tmp_path: Path) -> None:
    file = tmp_path / "planted.py"
    file.write_text(
        "import numpy.linalg\ndef f():\n    from shapely import affinity\n    import torch\n"
    )
    assert undeclared(file, declared("")) == ["shapely", "torch"]
    assert undeclared(file, declared("train")) == ["shapely"]
