"""`key=value` from the command line: what the value is, and putting it where the key says.

A shell user means what they type. Where the key is a path, a name or a choice, the value is that
text, with `#`, `[` and `~` in it. A number, a switch, a list or a mapping is YAML.
"""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from panoforge.core.config.keys import is_container, is_text, kinds_at
from panoforge.core.config.messages import shown
from panoforge.core.config.references import escape
from panoforge.core.config.yaml_text import parse_yaml
from panoforge.core.errors import ConfigError


def split(overrides: Sequence[str]) -> list[tuple[str, str]]:
    """Keys and values as they are typed. ConfigError for anything else."""
    pairs = []
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key or not all(key.split(".")):
            raise ConfigError(
                f"override {shown(override)}: expected key=value, e.g. run=runs/x or"
                " ray.address=auto"
            )
        pairs.append((key, value))
    return pairs


def value_of(model: type[BaseModel], key: str, text: str) -> Any:
    """The value that `text` is for `key` of `model`. ConfigError if it is no YAML and should be."""
    kinds = kinds_at(model, key)
    if text in ("", "null") and (type(None) in kinds or not is_text(kinds)):
        return None
    if is_text(kinds) or (is_container(kinds) and text[0] not in "[{"):
        return escape(text)
    try:
        return parse_yaml(text)
    except ValueError as error:
        raise ConfigError(f"override {shown(f'{key}={text}')}: {error}") from None


def put(tree: Any, key: str, value: Any) -> None:
    """Set the value at a dotted key; mappings on the way are made.

    ConfigError if something else stands in the way.
    """
    *parents, last = key.split(".")
    for at, part in enumerate(parents):
        if isinstance(tree, dict) and tree.get(part) is None:
            tree[part] = {}
        tree = _child(tree, part, ".".join(parents[:at]), key)
    if isinstance(tree, dict):
        tree[last] = value
        return
    _child(tree, last, ".".join(parents), key)
    tree[int(last)] = value


def _child(tree: Any, part: str, holder: str, key: str) -> Any:
    if isinstance(tree, dict):
        return tree[part]
    if isinstance(tree, list) and part.isdigit() and int(part) < len(tree):
        return tree[int(part)]
    what = f"is a list of {len(tree)}, counted from 0" if isinstance(tree, list) else "is one value"
    raise ConfigError(f"override {shown(key)}: {holder} {what}, so it has no {shown(part)}")
