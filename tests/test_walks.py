"""docs/walks.md against the code: every function is where the page says, each file names the next,
and the page counts right.
"""

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from repository import ROOT

PAGE = ROOT / "docs/walks.md"
LINE = re.compile(r"^    ( *)(\S+\.py) +(\w+) +(.+)$")
SAID = re.compile(r"^`pano .*?`: (\d+) files, (\d+) returns", re.M)
PROCESS = "python -m"


@dataclass(frozen=True)
class Step:
    """One line of a walk: `parent` is the index of the line that hands on to it."""

    file: str
    function: str
    what: str
    parent: int | None


def walks(page: str) -> list[tuple[str, list[Step]]]:
    """Title and steps of every walk on the page."""
    found = []
    for part in page.split("\n## ")[1:]:
        steps: list[Step] = []
        depths: list[int] = []
        for match in filter(None, map(LINE.match, part.splitlines())):
            depth = len(match[1]) // 2
            above = [i for i, other in enumerate(depths) if other == depth - 1]
            steps.append(Step(match[2], match[3], match[4], above[-1] if above else None))
            depths.append(depth)
        if steps:
            found.append((part, steps))
    return found


def defined(file: Path) -> set[str]:
    """Functions, methods and classes of a file."""
    return {
        node.name
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }


def imports(text: str, file: str) -> bool:
    """Whether a module's text imports the module of a file."""
    package, _, name = f"panoforge/{file.removesuffix('.py')}".replace("/", ".").rpartition(".")
    found = re.findall(rf"from {re.escape(package)} import \(?([^()]*?)(?:\)|\n(?!    ))", text)
    return f"{package}.{name} import" in text or any(name in re.findall(r"\w+", f) for f in found)


def faults(steps: Sequence[Step]) -> list[str]:
    """Steps that the code does not have."""
    found = []
    for step in steps:
        file = ROOT / step.file
        if not file.is_file() or step.function not in defined(file):
            found.append(f"{step.file} has no {step.function}")
            continue
        if step.parent is None:
            continue
        parent = steps[step.parent].file
        text = (ROOT / parent).read_text(encoding="utf-8")
        if step.what.startswith(PROCESS):  # named by the config
            parent, text = "cluster/config/jobs.py", (ROOT / "cluster/config/jobs.py").read_text()
            names = [f"panoforge.{step.file.removesuffix('.py').replace('/', '.')}"]
        else:
            names = [step.function]
        named = any(re.search(rf"\b{re.escape(name)}\b", text) for name in names)
        if not named and not imports(text, step.file):
            found.append(f"{parent} does not name {' or '.join(names)}")
    return found


def counts(steps: Sequence[Step]) -> tuple[int, int]:
    """Files, and how often one goes back to a file."""
    returns = sum(step.parent != i - 1 for i, step in enumerate(steps) if i)
    return len({step.file for step in steps}), returns


@pytest.mark.parametrize("walk", [0, 1])
def test_the_walks_are_the_code(walk: int) -> None:
    text, steps = walks(PAGE.read_text(encoding="utf-8"))[walk]
    assert not faults(steps)
    said = SAID.search(text)
    assert said and (int(said[1]), int(said[2])) == counts(steps)
    assert len(steps) == len({step.file for step in steps}), "each file once"


def test_a_wrong_step_is_found() -> None:
    right = Step("panoforge/stages.py", "render_stage", "", None)
    wrong = [
        right,
        Step("cluster/render/runner.py", "rendr", "", 0),
        Step("eval/views/merge.py", "merge_masks", "", 0),
        Step("cluster/render/driver.py", "records", f"{PROCESS}: x", 0),
    ]
    assert len(faults(wrong)) == 3 and not faults([right])
    assert counts([right, right, Step("a.py", "a", "", 0)]) == (2, 2)
