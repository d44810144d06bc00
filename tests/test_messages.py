"""What is said of files that others wrote says what to do about it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from repository import ROOT

PLACES = ("core/foreign", "train/data/sources", "eval/benchmarks")
OURS = {"UsageError", "ConfigError", "DataError", "StorageError"}
# Parts of a message that another one completes: what is wrong inside a Parquet file, and the like.
PARTS = {"core/foreign/parquet_pages.py", "core/foreign/parquet.py"}
TO_DO = re.compile(
    r"\b(expected|add|annotate|answer|begin|bring|choose|copy|cut|delete|download|draw|export|extract|free|get|give|"
    r"hand|install|keep|leave|look|make|move|name|needs|number|pack|pano|put|raise|read|remove|repair|"
    r"resize|run|save|score|set|shrink|split|take|turn|unpack|use|wait|write)\b",
    re.I,
)
MANY = 4  # words; what has fewer wraps another message


def said(text: str) -> Iterator[tuple[int, str]]:
    """The line and the words of each error of ours that a module raises.

    A variable `way_out` says what to do by cases.
    """
    for node in ast.walk(ast.parse(text)):
        if not (isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args):
            continue
        kind = node.exc.func
        if isinstance(kind, ast.Name) and kind.id in OURS:
            parts = [*ast.walk(node.exc.args[0])]
            texts = [p.value for p in parts if isinstance(p, ast.Constant)]
            texts += ["give" for p in parts if isinstance(p, ast.Name) and p.id == "way_out"]
            yield node.lineno, " ".join(text for text in texts if isinstance(text, str))


def without_a_way_out(path: Path) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{line}: {words}"
        for line, words in said(path.read_text(encoding="utf-8"))
        if len(re.findall(r"[a-z]{2,}", words)) >= MANY and not TO_DO.search(words)
    ]


def test_they_say_what_to_do() -> None:
    paths = [path for place in PLACES for path in sorted((ROOT / place).rglob("*.py"))]
    assert len(paths) > 25
    bare = [
        one
        for path in paths
        if path.relative_to(ROOT).as_posix() not in PARTS
        for one in without_a_way_out(path)
    ]
    assert not bare, "\n".join(bare)


def test_one_that_does_not_is_found(tmp_path: Path) -> None:
    lines = 'raise DataError(f"{path} is one picture too many for us")\n'
    assert [words for _, words in said(lines)] == [" is one picture too many for us"]
    assert not TO_DO.search(next(said(lines))[1])
    assert TO_DO.search(next(said(lines.replace("for us", "here: take it out")))[1])
