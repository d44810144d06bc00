"""Write the pages of docs/reference that the code itself says: every config key, every verb.

`python tests/reference_pages.py` (part of `make style`); tests/test_docs.py holds the pages to it.
"""

import re
import sys
from pathlib import Path
from typing import Any

import typer.main

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import panoforge.cli  # noqa: E402, F401  registers the verbs
from panoforge.cli.app import app  # noqa: E402
from panoforge.cluster.config.sections import SECTIONS  # noqa: E402
from panoforge.core.config.explain import ExplainedKey, explained  # noqa: E402

REFERENCE = ROOT / "docs" / "reference"
NOTE = "<!-- Written by tests/reference_pages.py (make style): do not edit. -->"


def cell(text: str) -> str:
    """A text as a cell of a table, on one line."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def row(*cells: str) -> str:
    """A row of a table."""
    return f"| {' | '.join(cells)} |"


def table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table; columns without any text are left out."""
    kept = [at for at in range(len(heads)) if any(cells[at] for cells in rows)]
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "\n".join(row(*(cells[at] for at in kept)) for cells in lines)


def summary(text: str | None) -> str:
    """The first sentence of a docstring, without what it calls itself by."""
    first = (text or "").split("\n\n")[0]
    return " ".join(first.split())


def key_row(line: ExplainedKey) -> tuple[str, ...]:
    """A config key as a row."""
    only = f" Of {', '.join(line.only)}." if line.only else ""
    default = line.default if line.default.startswith("(") else f"`{line.default}`"
    return (
        f"`{line.key}`",
        cell(line.kind),
        cell(default) if line.default else "",
        line.unit,
        cell(line.about + only),
    )


def config_page() -> str:
    """docs/reference/config.md."""
    parts = [
        NOTE,
        "# Config keys",
        "What `pano config --explain` prints. A key may be given on the command line by its dotted"
        " name: `pano render render.yaml camera.tilt_deg=5 sources.0.plants=80`. `N` is a position,"
        " from 0; `NAME` is a name of yours. `pano init VERB` writes a config with all of them.",
        "Since: all keys stand here as version 0.2.0 has them. A key that comes later will say so.",
    ]
    for verb, model in SECTIONS.items():
        rows = [key_row(line) for line in explained(model, once=True)]
        heads = ("key", "what may stand there", "default", "unit", "meaning")
        parts += [f"## {verb}", summary(model.__doc__), table(heads, rows)]
    return "\n\n".join(parts) + "\n"


def verbs() -> dict[str, Any]:
    """The verbs by name, in the order of `pano --help`."""
    return dict(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


TYPE = re.compile(r" <list\[\w+\]>$")  # what the command line's library says of Python's types


def verbs_page() -> str:
    """docs/reference/verbs.md."""
    parts = [
        NOTE,
        "# Verbs",
        "`pano VERB --help` says the same. Every verb that takes a config takes `key=value` words"
        " ([keys](config.md)). `-q` shows no progress, `-v` the traceback of an unexpected error."
        " Exit codes: 0 done, 1 it could not be done, 2 the command or config is wrong,"
        " 130 stopped.",
    ]
    for name, verb in verbs().items():
        parts += [f"## pano {name}", cell(verb.help or "").replace("&lt;", "<")]
        context = verb.context_class(verb)
        records = [one.get_help_record(context) for one in verb.params if one.name != "help"]
        rows = [
            (f"`{cell(TYPE.sub('', usage))}`".replace("&lt;", "<"), cell(text))
            for usage, text in filter(None, records)
        ]
        if rows:
            parts.append(table(("word or option", "what"), rows))
        parts.append(f"    {(verb.epilog or '').removeprefix('Example: ')}")
    return "\n\n".join(parts) + "\n"


PAGES = {"config.md": config_page, "verbs.md": verbs_page}


if __name__ == "__main__":
    REFERENCE.mkdir(parents=True, exist_ok=True)
    for file, page in PAGES.items():
        (REFERENCE / file).write_text(page(), encoding="utf-8")
