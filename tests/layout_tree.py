"""Write the layout in CONTRIBUTING.md, the rooms and what each is for, from the packages' own
first sentences: `python tests/layout_tree.py` (part of `make style`).
"""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
WIDTH = 118
FOLDERS = {
    "configs": (
        "one YAML per runnable thing: demo.yaml (minutes, CPU) … sap.yaml (the paper, a cluster)"
    ),
    "core": "what every stage shares; imports no bpy, no ray, no torch",
    "datagen": "scene → accepted panoramas; the only package that imports bpy and Infinigen",
    "train": "shards → fine-tuned SAM2",
    "eval": "prompts → scan → SAM2 → merged masks → scores",
    "label": "views → teachers → agreement on the sphere: labels for real panoramas and videos",
    "panoforge": "the public face: the command, what composes the stages, and links to them all",
    "cluster": "Ray: which scene runs where, what its end means, and how a run stands",
    "examples": "ten scripts that are notebooks too; each is run by a test",
    "docs": "the site: get started, how-tos, reference, why (make docs)",
    "bench": (
        "one file per benchmark, each against its peer in the same run; RESULTS.md keeps what was"
        " measured"
    ),
    "tests": "mirrors the packages; markers say what a test needs",
}


def phrase(path: Path) -> str:
    """The first sentence of a module's docstring, without the name it may begin with."""
    text = " ".join(
        (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "")
        .split("\n\n")[0]
        .split()
    )
    text = re.sub(r"^`[^`]+`: ", "", text)
    sentence = re.split(r"(?<=[^.])\. |\.$", text)[0]
    return (
        sentence[0].lower() + sentence[1:]
        if sentence[:2].istitle() or sentence[:2] == "A "
        else sentence
    )


def lines(folder: Path, depth: int) -> list[str]:
    found = []
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.is_symlink() and (path / "__init__.py").is_file():
            found.append(entry(path.name + "/", phrase(path / "__init__.py"), depth))
            found += lines(path, depth + 1)
    return found


def entry(name: str, text: str, depth: int) -> str:
    line = f"{'  ' * depth}{name:<{22 - 2 * depth}}  {text}".rstrip()
    return line if len(line) <= WIDTH else line[: WIDTH - 1].rsplit(" ", 1)[0] + " …"


def tree() -> str:
    """The whole layout."""
    found = []
    for name, text in FOLDERS.items():
        found.append(entry(name + "/", text, 0))
        if name not in ("tests", "configs", "docs", "examples"):
            found += lines(ROOT / name, 1)
    return "\n".join(found) + "\n"


def main() -> None:
    page = ROOT / "CONTRIBUTING.md"
    text = page.read_text(encoding="utf-8")
    page.write_text(
        re.sub(r"(## Layout\n.*?```\n).*?(```)", lambda m: m[1] + tree() + m[2], text, flags=re.S),
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
