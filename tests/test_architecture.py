"""The shape of the code, enforced: which package may import what, and why; and that the README's
tree is the tree.
"""

import ast
import re
from pathlib import Path

import pytest
import readme_tree

ROOT = Path(__file__).parents[1]
OURS = ("core", "datagen", "train", "eval", "cluster", "panoforge", "bench")

# (where, what must not be imported, why). `where` is a folder or file below the root; what begins
# with `except_` is free.
RULES: list[tuple[str, tuple[str, ...], tuple[str, ...], str]] = [
    (
        "core",
        ("datagen", "train", "eval", "cluster"),
        (),
        "core is what all stages share: imports point from the stages to it",
    ),
    (
        "core",
        ("bpy", "infinigen", "infinigen2", "ray"),
        (),
        "a training node has no bpy, a render node no need of more than numpy",
    ),
    (
        "datagen",
        ("train", "eval", "cluster", "torch", "sam2", "ray"),
        (),
        "a render node has no torch, and a worker must not know who runs it",
    ),
    (
        "train",
        ("datagen", "eval", "cluster", "bpy", "infinigen2", "ray"),
        (),
        "training reads shards, never a renderer's internals",
    ),
    (
        "eval",
        ("datagen", "cluster", "bpy", "infinigen2", "ray"),
        (),
        "evaluation reads shards, never a renderer's internals",
    ),
    (
        "cluster",
        ("bpy", "infinigen", "infinigen2"),
        (),
        "Blender crashes: it lives in worker processes only",
    ),
]
# Modules that must load without the heavy packages, because verbs that do not need those must start
# at once.
LIGHT = {
    "core": ("torch", "ray"),
    "cluster/config.py": ("torch", "ray"),
    "train/config.py": ("torch",),
    "eval/config.py": ("torch",),
    "datagen/config.py": ("bpy",),
    "datagen/worker.py": ("bpy",),
    "datagen/messages.py": ("bpy",),
    "datagen/timing.py": ("bpy",),
}


def sources(where: str) -> list[Path]:
    path = ROOT / where
    return [path] if path.suffix == ".py" else sorted(path.rglob("*.py"))


def imported(path: Path, *, top_level_only: bool = False) -> dict[str, int]:
    """Top-level package → line of its first import."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = [node for node in (tree.body if top_level_only else ast.walk(tree))]
    found: dict[str, int] = {}
    for node in nodes:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [node.module]
        for name in names:
            found.setdefault(name.removeprefix("panoforge.").split(".")[0], node.lineno)
    return found


@pytest.mark.parametrize(
    ("where", "banned", "except_", "why"), RULES, ids=[f"{r[0]}-without-{r[1][0]}" for r in RULES]
)
def test_imports_point_one_way(where, banned, except_, why):
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in sources(where)
        if not path.relative_to(ROOT).as_posix().startswith(except_ or ("-",))
        for name, line in imported(path).items()
        if name in banned
    ]
    assert not wrong, f"{why}: {wrong}"


@pytest.mark.parametrize("where", LIGHT)
def test_light_modules_stay_light(where):
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name} at the top"
        for path in sources(where)
        for name, line in imported(path, top_level_only=True).items()
        if name in LIGHT[where]
    ]
    assert not wrong, f"import it inside the function that needs it: {wrong}"


def test_nobody_writes_import_eval():
    """`import eval` hides the builtin; `from panoforge.eval.scoring.metrics import …` does not."""
    for where in OURS:
        for path in sources(where):
            assert not re.search(r"^\s*import eval\b", path.read_text(encoding="utf-8"), re.M), path


def test_nothing_is_unpickled():
    """pickle, and torch.load without weights_only=True, run whatever a file says."""
    for where in OURS:
        for path in sources(where):
            text = path.read_text(encoding="utf-8")
            assert "pickle" not in imported(path), path
            for call in re.findall(r"torch\.load\([^\n]*", text):
                assert "weights_only=True" in call, f"{path}: {call}"
            assert "allow_pickle=True" not in text, path


def test_test_modules_have_names_of_their_own():
    """pytest refuses two of one name, but only where both are collected: each alone would pass."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert not {name for name in names if names.count(name) > 1}


def test_every_module_says_what_it_is():
    missing = [
        str(path.relative_to(ROOT))
        for where in OURS
        for path in sources(where)
        if path.stat().st_size
        and ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) is None
    ]
    assert not missing


def test_the_readme_tree_is_the_tree():
    """The layout in the README names every room, in the room's own words."""
    block = re.search(
        r"## Layout\n.*?```\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S
    )
    assert block, "README.md needs a section '## Layout' with the tree in a code block"
    assert block[1] == readme_tree.tree(), "README's layout is out of date: run `make style`"
