r"""References in configs: `${run}` is the value of the key `run`, counted from the top of the file.

A text may be one reference, whose value may be of any kind, or hold several. `${oc.env:NAME}` is an
environment variable, but only one that names a place or a job: configs are printed and recorded,
and a secret must not be. `\${` is the two characters themselves.
"""

import os
import re
from dataclasses import dataclass, field
from typing import Any

from panoforge.core.errors import nearest

ENVIRONMENT = ("HOME", "USER", "SCRATCH", "WORK", "TMPDIR", "SLURM_JOB_ID", "SLURM_TMPDIR")
MAX_DEPTH = 64  # levels of mappings, lists and references, one in another
MAX_SIZE = 4 << 20  # characters of all texts, and some for every value

_REFERENCE = re.compile(r"(?P<escaped>\\)?\$\{(?P<inside>[^${}]*)\}?")
_KEY = re.compile(r"\w+(?:\.\w+)*")
_PER_VALUE = 16


def resolve(tree: Any, root: Any) -> Any:
    """`tree`, a part of `root`, with its references replaced.

    ValueError, in one line, for one that leads nowhere, in a circle, or to more than a config can
    be.
    """
    return _Resolver(root).value(tree, ())


def escape(text: str) -> str:
    """`text` such that `resolve` gives it back unchanged."""
    return text.replace("${", "\\${")


@dataclass
class _Resolver:
    root: Any
    size: int = field(default=0)

    def value(self, node: Any, path: tuple[str, ...], depth: int = 0) -> Any:
        """`path`: the references that led here."""
        if depth > MAX_DEPTH:
            raise ValueError(f"references lead more than {MAX_DEPTH} levels deep")
        self._count(_PER_VALUE)
        if isinstance(node, dict):
            return {key: self.value(item, path, depth + 1) for key, item in node.items()}
        if isinstance(node, list):
            return [self.value(item, path, depth + 1) for item in node]
        return self._text(node, path, depth) if isinstance(node, str) else node

    def _text(self, text: str, path: tuple[str, ...], depth: int) -> Any:
        self._count(len(text))
        whole = _REFERENCE.fullmatch(text)
        if whole and not whole["escaped"]:
            return self._referred(whole, path, depth)
        return _REFERENCE.sub(lambda found: self._part(found, path, depth), text)

    def _part(self, found: re.Match[str], path: tuple[str, ...], depth: int) -> str:
        if found["escaped"]:
            return found[0][1:]
        value = self._referred(found, path, depth)
        if isinstance(value, (dict, list)) or value is None:
            raise ValueError(f"{found[0]} is no text or number, and cannot be part of a text")
        self._count(len(str(value)))
        return str(value)

    def _referred(self, found: re.Match[str], path: tuple[str, ...], depth: int) -> Any:
        name = found["inside"]
        if name.startswith("oc.env:"):
            return _variable(name.removeprefix("oc.env:"))
        if not found[0].endswith("}") or not _KEY.fullmatch(name):
            raise ValueError(
                f"{found[0]!r}: expected a key of this file, such as ${{run}}; write \\${{ for the"
                " characters themselves"
            )
        if name in path:
            raise ValueError(f"${{{name}}} refers to itself, by {' → '.join((*path, name))}")
        return self.value(self._at(name), (*path, name), depth + 1)

    def _at(self, name: str) -> Any:
        node = self.root
        for part in name.split("."):
            if isinstance(node, list) and part.isdigit() and int(part) < len(node):
                node = node[int(part)]
            elif isinstance(node, dict) and part in node:
                node = node[part]
            else:
                known = [str(key) for key in node] if isinstance(node, dict) else []
                raise ValueError(f"${{{name}}}: there is no key {part!r}.{nearest(part, known)}")
        return node

    def _count(self, size: int) -> None:
        self.size += size
        if self.size > MAX_SIZE:
            raise ValueError(f"its references stand for more than {MAX_SIZE} characters")


def _variable(name: str) -> str:
    if name not in ENVIRONMENT:
        raise ValueError(
            f"${{oc.env:{name}}}: configs are printed and recorded, so only"
            f" {', '.join(ENVIRONMENT)} are read from the environment. What is no secret can be"
            " given on the command line; credentials are read by the storage libraries themselves"
        )
    if name not in os.environ:
        raise ValueError(f"${{oc.env:{name}}}: the variable is not set")
    return os.environ[name]
