"""Docstrings are short plain sentences of thirty words at most, and one scene is not "1 scenes"."""

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from repository import ROOT

ROOMS = ("core", "datagen", "train", "eval", "label", "cluster", "panoforge", "bench")
MAX_WORDS = 30
# A sentence ends at a full stop before a capital, at a colon that opens a block, and with its
# paragraph. What is said of an argument, and an item of a list, is prose; code and tables are not.
END = re.compile(r"(?<=[.!?])\s+(?=[A-Z`\[(])|:\s*$")
SECTION = re.compile(r"(Args|Attributes|Example|Examples|Raises|Returns|Yields):$")
ITEM = re.compile(r"(?:[-*]|\d+\.) +(?=\S)")
NAMED = re.compile(r"\*{0,2}[\w.]+(?: \([^)]*\))?: ")  # of an argument or an error
NO_PROSE = re.compile(r" {4,}\S|\s*(>>>|\.\.\.|\|)|.*\S {2,}\S")


def paragraphs(docstring: str) -> Iterator[str]:
    """The prose of a docstring: paragraphs, items of lists, what sections say of each name."""
    said: list[str] = []
    section = ""
    for line in [*docstring.splitlines(), ""]:
        if SECTION.match(line):
            section, line = line, ""
        elif line and not line.startswith(" "):
            section = ""
        text = line.removeprefix("    ") if section else line
        begins = bool(ITEM.match(text.lstrip()) or (section and NAMED.match(text)))
        text = text if not begins else NAMED.sub("", ITEM.sub("", text.lstrip()), count=1)
        if section and not begins:  # its second line stands four further in
            text = text.removeprefix("    ")
        ends = not text.strip() or begins or NO_PROSE.match(text) or section.startswith("Example")
        if ends and said:
            yield " ".join(said)
            said = []
        if begins or not ends:
            said.append(text.strip())


def sentences(docstring: str) -> Iterator[str]:
    """The sentences of a docstring's prose."""
    for paragraph in paragraphs(docstring):
        yield from (part for part in END.split(paragraph) if part)


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


PLACES = {
    "a paragraph": "Short. Word\n{}. Short again.",
    "an argument": "Args:\n    name: {}.\n    other: Short.",
    "an argument's second line": "Args:\n    name: Short. Word\n        {}.",
    "what is returned": "Returns:\n    {}.",
    "an error": "Raises:\n    KeyError: {}.",
    "an item": "- Short.\n- {}.\n- Short.",
    "an item's second line": "- Short. Word\n  {}.",
    "after a section": "Args:\n    name: Short.\n\n{}.",
}


@pytest.mark.parametrize("place", PLACES)
def test_a_long_sentence_is_found(tmp_path: Path, place: str) -> None:
    file = tmp_path / "long.py"
    begun = "Word\n" in PLACES[place]  # a sentence of two lines has a word on the first
    for count, found in ((MAX_WORDS + 1, 1), (MAX_WORDS, 0)):
        text = PLACES[place].format(" ".join(["word"] * (count - begun)))
        file.write_text(f'"""Summary.\n\n{text}\n"""\n')
        assert len(too_long(file)) == found


def test_code_is_no_prose(tmp_path: Path) -> None:
    file = tmp_path / "code.py"
    for mark in ("    ", "Example:\n    >>> ", "| "):
        file.write_text(f'"""Summary.\n\nShort.\n\n{mark}{" ".join(["word"] * 40)}\n"""\n')
        assert not too_long(file), mark


# What is counted in what people read. A constant of many (`MAX_IDS`) is no count.
COUNTED = re.compile(
    r" (Infinigen |bad |forward |more |primitive |small |such |synthetic 360° )?"
    r"(GPU|attempt|block|categorie|checkpoint|clip|core|file|forward passe|frame|fault|image"
    r"|instance|key|mask|name|node|object|other|panorama|passe|picture|point|primitive bodie|rank"
    r"|ray|row|sample|scene|shard|step|tensor|thing|video|view)s\b(?!/)"
)
IN_SCRIPTS = re.compile(r"\$\{(?!counted)[^{}]*\}(?P<words> [a-z]+s\b)")
CONSTANT = re.compile(r"[A-Z0-9_ +]+")


def plurals(path: Path) -> list[str]:
    """Where an f-string puts a plural behind a bare number: `counted` knows what to say of one."""
    return [
        f"{path}:{node.lineno}: {{{ast.unparse(number.value)}}}{word.value[:20]}"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.JoinedStr)
        for number, word in pairwise(node.values)
        if isinstance(number, ast.FormattedValue)
        and (number.format_spec is None or ast.unparse(number.format_spec) == "f','")
        and isinstance(word, ast.Constant)
        and COUNTED.match(word.value)
        and not CONSTANT.fullmatch(ast.unparse(number.value))
    ]


@pytest.mark.parametrize("room", [room for room in ROOMS if room != "bench"])
def test_counts_and_their_words_go_through_one_helper(room: str) -> None:
    found = [line for path in sorted((ROOT / room).rglob("*.py")) for line in plurals(path)]
    assert not found, "\n".join(found)


def test_counts_and_their_words_in_scripts_too() -> None:
    """The page's own `counted` says them; "(3 changes wait)" is of several only."""
    for path in sorted((ROOT / "eval" / "interactive" / "serve" / "static").glob("*.js")):
        text = path.read_text(encoding="utf-8")
        bare = [found[0] for found in IN_SCRIPTS.finditer(text) if COUNTED.match(found["words"])]
        several = text.count("chosen.length > 1 ? `${chosen.length} objects`")
        assert len(bare) == several, f"{path}: {bare}"


def test_a_bare_plural_is_found(tmp_path: Path) -> None:
    file = tmp_path / "many.py"
    file.write_text('f"{len(x)} scenes"; f"{MAX_SCENES} scenes"; f"{counted(2, \'scene\')} of 3"\n')
    assert len(plurals(file)) == 1
    file.write_text('f"{n:,} scenes"; f"{n} primitive bodies"; f"{n} GPUs"; f"{x:.1f} scenes"\n')
    assert len(plurals(file)) == 3
    file.write_text('f"{n} Infinigen scenes"\n')
    assert len(plurals(file)) == 1
    assert COUNTED.match(IN_SCRIPTS.search("`over ${answer.frames_done} frames`")["words"])
