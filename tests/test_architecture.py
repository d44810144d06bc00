"""The shape of the code, enforced: layers and circles, light imports, nothing unpickled, and the
layout in CONTRIBUTING.md.

Which package may import which is import-linter's business (`[tool.importlinter]` in
pyproject.toml); here it is run on copies of the code with a fault planted in each. What it cannot
say is tested here.
"""

import ast
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import late_imports
import layout_tree
import pytest
from repository import ROOT

ROOMS = ("core", "datagen", "train", "eval", "label", "cluster", "panoforge")
# Modules that load without the heavy packages, because verbs without need of those start at once.
LIGHT = {
    "panoforge": ("numpy", "cv2", "torch", "ray", "pydantic"),
    "panoforge.cli": ("torch", "ray", "bpy", "matplotlib", "sam2"),
    "panoforge.stages": ("torch", "ray", "bpy", "matplotlib", "sam2"),
    "panoforge.core.shards.read": ("torch", "ray", "bpy", "matplotlib"),
    "panoforge.train.run": ("torch", "ray", "bpy"),
    "panoforge.eval.config": ("torch", "ray", "bpy"),
    "panoforge.eval.scoring.compare": ("torch", "ray", "bpy"),
    "panoforge.label.teachers.base": ("torch", "ray", "bpy", "transformers"),
    "panoforge.datagen.worker": ("bpy", "infinigen2", "torch", "ray"),
}


def sources(*rooms: str) -> list[Path]:
    """The Python files of some rooms; the links in panoforge/ are not followed."""
    return [path for room in rooms for path in sorted((ROOT / room).rglob("*.py"))]


def module_of(path: Path) -> str:
    """The dotted name that a file is imported by."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    name = ".".join(parts if parts[0] == "panoforge" else ("panoforge", *parts))
    return name.removesuffix(".__init__")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The code alone, to plant faults in."""
    for room in ROOMS:
        shutil.copytree(
            ROOT / room,
            tmp_path / room,
            symlinks=True,
            ignore=lambda folder, names: [
                name
                for name in names
                if (Path(folder) / name).is_file() and not name.endswith(".py")
            ],
        )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lint_imports(folder: Path) -> str:
    """What import-linter says of the code in a folder."""
    command = [Path(sys.executable).parent / "lint-imports", "--no-cache", "--no-logo"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout


PLANTED = {
    "upward": ("core/errors.py", "panoforge.cluster.config.jobs", "Imports point one way"),
    "sideways": ("train/config.py", "panoforge.datagen.config.render", "Imports point one way"),
    "eval to datagen": (
        "eval/config.py",
        "panoforge.datagen.config.render",
        "do not know each other",
    ),
    "label to datagen": (
        "label/teachers/base.py",
        "panoforge.datagen.config.render",
        "labelling do not know each other",
    ),
    "eval to label": ("eval/config.py", "panoforge.label.teachers.base", "Imports point one way"),
    "circle": ("core/sample/metadata.py", "panoforge.core.shards.read", "No circles"),
    "bpy": ("cluster/config/jobs.py", "bpy", "Blender in render processes only"),
    "ray": ("eval/config.py", "ray", "Ray in cluster only"),
    "torch": ("datagen/config/render.py", "torch", "Torch in train, eval and label only"),
    "torch in core": ("core/errors.py", "torch", "Torch in train, eval and label only"),
}


def test_the_layers_hold(copy: Path) -> None:
    said = lint_imports(copy)
    assert " 0 broken" in said, said


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_import_breaks_its_contract(copy: Path, fault: str) -> None:
    """Also where it hides inside a function."""
    file, imported, contract = PLANTED[fault]
    with (copy / file).open("a") as code:
        code.write(f"\n\ndef _planted() -> None:\n    import {imported}\n")
    said = lint_imports(copy)
    assert any(contract in line and "BROKEN" in line for line in said.splitlines()), said


# Who imports the modules of a room by names that it makes up, which no tool can read.
BY_NAME = {
    "panoforge.datagen.sources": "panoforge.datagen.sources.base",
    "panoforge.eval.scoring.metrics": "panoforge.api.metrics",
}
CIRCLES = """
import ast, sys, grimp
graph = grimp.build_graph("panoforge", cache_dir=None)
for room, importer in ast.literal_eval(sys.argv[1]).items():
    for imported in graph.find_children(room) - {importer}:
        graph.add_import(importer=importer, imported=imported)
for importer in sorted(graph.modules):
    for imported in sorted(graph.find_modules_directly_imported_by(importer)):
        if graph.chain_exists(importer=imported, imported=importer):
            print(importer, "->", imported)
"""


def circles(folder: Path) -> list[str]:
    """The imports that lie on a circle of files, wherever in a file they stand."""
    done = subprocess.run(
        [sys.executable, "-c", CIRCLES, repr(BY_NAME)],
        cwd=folder,
        env={"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_no_circle_goes_through_a_package_itself(copy: Path) -> None:
    """import-linter compares siblings: it does not see a file that imports the package it is in."""
    assert circles(copy) == []
    with (copy / "eval/views/methods/base.py").open("a") as code:
        code.write("\n\ndef _planted() -> None:\n    import panoforge.eval.views.methods\n")
    assert "panoforge.eval.views.methods.base -> panoforge.eval.views.methods" in circles(copy)


def test_no_circle_goes_through_a_name_that_is_made_up(copy: Path) -> None:
    with (copy / "datagen/sources/blend.py").open("a") as code:
        code.write("\n\ndef _planted() -> None:\n    import panoforge.datagen.sources.base\n")
    assert "panoforge.datagen.sources.blend -> panoforge.datagen.sources.base" in circles(copy)
    made_up = {
        module_of(path)
        for path in sources(*ROOMS)
        if "import_module(" in path.read_text(encoding="utf-8")
    }
    lazy = {"panoforge", "panoforge.datagen.infinigen1.make_assets"}  # its face; Infinigen's own
    assert made_up - lazy == set(BY_NAME.values())


def late(paths: list[Path]) -> Iterator[tuple[str, int, str]]:
    """Importer, line and imported of every import inside a function."""
    for path in paths:
        yield from ((module_of(path), *found) for found in late_imports.late_imports(path))


def test_imports_inside_functions_have_a_reason() -> None:
    found = list(late(sources(*ROOMS)))
    unlisted = [
        f"{importer}:{line} imports {imported}"
        for importer, line, imported in found
        if late_imports.reason_for(importer, imported) is None
    ]
    assert not unlisted, f"import it at the top, or say why in tests/late_imports.py: {unlisted}"
    used = {late_imports.reason_for(importer, imported) for importer, _, imported in found}
    stale = [row for row in late_imports.REASONS if row not in used]
    assert not stale, f"nothing is imported so any more, take it off tests/late_imports.py: {stale}"


def test_a_late_import_without_a_reason_is_found(tmp_path: Path) -> None:
    file = tmp_path / "errors.py"
    file.write_text("def f():\n    if True:\n        from json import dumps\n")
    assert list(late_imports.late_imports(file)) == [(3, "json")]
    assert late_imports.reason_for("panoforge.core.errors", "json") is None
    assert late_imports.reason_for("panoforge.clip", "panoforge.core") is None


LOADED = """
import importlib, json, sys
importlib.import_module(sys.argv[1])
print(json.dumps([name for name in sys.argv[2:] if name in sys.modules]))
"""


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_stay_light(module: str) -> None:
    """Measured, not read: whatever a module's imports import counts."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED, module, *LIGHT[module]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == []


ALL_LOADED = """
import importlib, json, pkgutil, sys
import panoforge.core
found = list(pkgutil.walk_packages(panoforge.core.__path__, "panoforge.core."))
for module in found:
    importlib.import_module(module.name)
print(json.dumps([len(found), [name for name in sys.argv[1:] if name in sys.modules]]))
"""


def test_all_of_core_loads_no_heavy_package() -> None:
    """import-linter sees what core imports itself, not what a package that it imports loads."""
    heavy = ("torch", "torchvision", "sam2", "ray", "bpy", "infinigen2")
    done = subprocess.run(
        [sys.executable, "-c", ALL_LOADED, *heavy],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    count, loaded = json.loads(done.stdout)
    assert count > 100 and loaded == []


def top_level_names(node: ast.stmt) -> list[str]:
    """Modules that a statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [str(node.module)] if isinstance(node, ast.ImportFrom) else []


def test_nothing_is_unpickled() -> None:
    """pickle, and torch.load without weights_only=True, run whatever a file says."""
    for path in sources(*ROOMS, "bench"):
        text = path.read_text(encoding="utf-8")
        names = [name for node in ast.walk(ast.parse(text)) for name in top_level_names(node)]
        assert "pickle" not in names, path
        for call in re.findall(r"torch\.load\([^\n]*", text):
            assert "weights_only=True" in call, f"{path}: {call}"
        assert "allow_pickle=True" not in text, path


# What opens a stranger's picture or video: each has caps, turns and checks around it in one home.
OPENERS = (
    r"\b(VideoCapture|imread|imreadmulti|imdecode|Image\.open|av\.open|simplejpeg\.decode_jpeg)\("
)
HOMES = {
    "core/foreign/pictures.py": "pictures of others",
    "core/foreign/idmaps.py": "id maps of others",
    "core/foreign/labelme.py": "masks inside annotations, after asking their size",
    "core/foreign/videos.py": "videos of others",
    "core/sample/products.py": "our own pictures and label maps",
    "core/stats/pixels.py": "the luma of our own pictures, shrunk while decoding",
    "datagen/rendering/render.py": "the picture that Blender has just saved",
    "core/export/mp4.py": "nothing: it writes a video",
}


def opens_pictures(path: Path) -> bool:
    return re.search(OPENERS, path.read_text(encoding="utf-8")) is not None


def test_pictures_and_videos_are_opened_in_one_home_each(tmp_path: Path) -> None:
    """Whoever opens them past it reads what it refuses: playlists, claimed sizes, turned pixels."""
    found = {path.relative_to(ROOT).as_posix() for path in sources(*ROOMS) if opens_pictures(path)}
    assert found == set(HOMES)
    planted = tmp_path / "planted.py"
    for code in ("cv2.VideoCapture(name)", "cv2.imread(name)", "Image.open(name)", "av.open(name)"):
        planted.write_text(code)
        assert opens_pictures(planted), code


def bases_of_their_own(paths: list[Path]) -> list[str]:
    """Classes that take pydantic's base and not ours, which is frozen and refuses what is unknown.

    A model that reads what others wrote may override that where it says so.
    """
    return [
        f"{path}: {node.name}"
        for path in paths
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
        and any(ast.unparse(base).split(".")[-1] == "BaseModel" for base in node.bases)
    ]


def test_models_have_one_base(tmp_path: Path) -> None:
    assert bases_of_their_own(sources(*ROOMS)) == [f"{ROOT / 'core/models.py'}: FrozenModel"]
    planted = tmp_path / "planted.py"
    planted.write_text("class _Told(BaseModel):\n    scene: str\n")
    assert bases_of_their_own([planted]) == [f"{planted}: _Told"]


def alias_of_a_type(node: ast.stmt) -> str | None:
    """The name that a statement gives to a type: CamelCase, as no value is called."""
    if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
        return None
    target = node.targets[0] if isinstance(node, ast.Assign) else node.target
    if not isinstance(target, ast.Name) or ast.unparse(node.value).startswith("TypeVar("):
        return None
    return target.id if re.fullmatch(r"_*[A-Z]+[a-z]\w*", target.id) else None


def classes_defined_twice(paths: list[Path]) -> dict[str, list[str]]:
    """Classes and types of one name in several modules: a reader could not tell which is meant.

    A leading underscore tells nobody apart. A TypeVar means nothing beyond its own signature.
    """
    homes: dict[str, list[str]] = {}
    for path in paths:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            name = node.name if isinstance(node, ast.ClassDef) else alias_of_a_type(node)
            if name is not None:
                homes.setdefault(name.lstrip("_"), []).append(path.name)
    return {name: found for name, found in homes.items() if len(found) > 1}


def test_a_class_name_has_one_meaning(tmp_path: Path) -> None:
    assert not classes_defined_twice(sources(*ROOMS))
    planted = tmp_path / "planted.py"
    for code in ("class View: ...", "class _View: ...", "View = tuple[float, float]"):
        planted.write_text(code)
        assert "View" in classes_defined_twice([*sources(*ROOMS), planted]), code


def arrays_named(path: Path) -> list[str]:
    """The aliases of array types that a module makes, `Rgb` and the like."""
    return [
        name
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None
        if (name := alias_of_a_type(node)) is not None
        and re.match(r"(\w+\[)?(np\.ndarray|NDArray|numpy\.ndarray)\b", ast.unparse(node.value))
    ]


def test_array_types_have_one_home(tmp_path: Path) -> None:
    found = {str(path): arrays_named(path) for path in sources(*ROOMS)}
    assert [path for path, names in found.items() if names] == [str(ROOT / "core/types.py")]
    planted = tmp_path / "planted.py"
    planted.write_text('Codes = UInt16[np.ndarray, "height width 2"]\nFlat: TypeAlias = NDArray\n')
    assert arrays_named(planted) == ["Codes", "Flat"]


def test_test_modules_have_names_of_their_own() -> None:
    """pytest refuses two of one name, but only where both are collected: each alone would pass."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert not {name for name in names if names.count(name) > 1}


def test_every_module_says_what_it_is() -> None:
    missing = [
        str(path.relative_to(ROOT))
        for path in sources(*ROOMS, "bench")
        if path.stat().st_size
        and ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) is None
    ]
    assert not missing


def test_the_layout_is_the_tree() -> None:
    """The layout in CONTRIBUTING.md names every room, in the room's own words."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    block = re.search(r"## Layout\n.*?```\n(.*?)```", page, re.S)
    assert block, "CONTRIBUTING.md needs a section '## Layout' with the tree in a code block"
    assert block[1] == layout_tree.tree(), "the layout is out of date: run `make style`"
