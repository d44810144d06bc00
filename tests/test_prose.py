"""Docstrings are short plain sentences of thirty words at most, and one scene is not "1 scenes"."""

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from repository import ROOT

ROOMS = ("core", "datagen", "train", "eval", "cluster", "panoforge", "bench")
MAX_WORDS = 30
# A sentence ends at a full stop before a capital, at a colon that opens a block, and with its
# paragraph. Tables, code and lists are no prose.
END = re.compile(r"(?<=[.!?])\s+(?=[A-Z`\[(])|:\s*$")
NO_PROSE = re.compile(r"^\s*(>>>|\.\.\.|\||[-*] )|^ {4,}|\S {2,}\S")


def sentences(docstring: str) -> Iterator[str]:
    """The sentences of a docstring's prose."""
    for paragraph in re.split(r"\n\s*\n", docstring):
        lines = paragraph.splitlines()
        prose = " ".join(line.strip() for line in lines if not NO_PROSE.search(line))
        yield from (part for part in END.split(prose) if part)


def words(sentence: str) -> int:
    """Words; what stands in backticks is one, a sign without a letter is none."""
    return len(re.findall(r"\S*\w\S*", re.sub(r"`[^`]*`", "x", sentence)))


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of every docstring in a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield getattr(node, "lineno", 1), text


def too_long(path: Path) -> list[str]:
    """Where a file has sentences of over thirty words."""
    return [
        f"{path}:{line}: {words(sentence)} words: {sentence[:60]}…"
        for line, text in docstrings(path)
        for sentence in sentences(text)
        if words(sentence) > MAX_WORDS
    ]


@pytest.mark.parametrize("room", ROOMS)
def test_no_sentence_has_over_thirty_words(room: str) -> None:
    found = [line for path in sorted((ROOT / room).rglob("*.py")) for line in too_long(path)]
    assert not found, "\n".join(found)


def test_a_long_sentence_is_found(tmp_path: Path) -> None:
    file = tmp_path / "long.py"
    file.write_text(f'"""Short. {" ".join(["Word"] * 31)}. Short again."""\n')
    assert len(too_long(file)) == 1
    file.write_text(f'"""Short. {" ".join(["Word"] * 30)}. Short again."""\n')
    assert not too_long(file)


# What is counted in what people read. A constant of many (`MAX_IDS`) is no count.
COUNTED = re.compile(
    r" (attempt|checkpoint|clip|file|frame|fault|image|instance|key|mask|object|panorama|picture"
    r"|point|rank|ray|row|sample|scene|shard|step|tensor|thing|video|view)s\b(?!/)"
)
CONSTANT = re.compile(r"[A-Z0-9_ +]+")


def plurals(path: Path) -> list[str]:
    """Where an f-string puts a plural behind a bare number: `counted` knows what to say of one."""
    return [
        f"{path}:{node.lineno}: {{{ast.unparse(number.value)}}}{word.value[:20]}"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.JoinedStr)
        for number, word in pairwise(node.values)
        if isinstance(number, ast.FormattedValue)
        and number.format_spec is None
        and isinstance(word, ast.Constant)
        and COUNTED.match(word.value)
        and not CONSTANT.fullmatch(ast.unparse(number.value))
    ]


@pytest.mark.parametrize("room", [room for room in ROOMS if room != "bench"])
def test_counts_and_their_words_go_through_one_helper(room: str) -> None:
    found = [line for path in sorted((ROOT / room).rglob("*.py")) for line in plurals(path)]
    assert not found, "\n".join(found)


def test_a_bare_plural_is_found(tmp_path: Path) -> None:
    file = tmp_path / "many.py"
    file.write_text('f"{len(x)} scenes"; f"{MAX_SCENES} scenes"; f"{counted(2, \'scene\')} of 3"\n')
    assert len(plurals(file)) == 1
