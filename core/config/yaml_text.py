"""YAML as configs use it: YAML 1.2's plain scalars, and no file that costs more than it says.

Only `true` and `false` are booleans (`displacement: off` is a text), `010` is no octal number,
`1:30` no number at all, `1e-4` a number. A key that stands twice is refused. Aliases are counted as
what they stand for, before anything is built, so that a short text cannot become a large config.
"""

import re
from collections.abc import Hashable, Iterable
from typing import Any

import yaml

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_VALUES = 50_000  # keys and values, aliases followed
MAX_CHARACTERS = 4 << 20  # of all texts, aliases followed

_BOOL = re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$")
_INT = re.compile(r"^[-+]?(?:0|[1-9][0-9]*(?:_[0-9]+)*|0x[0-9a-fA-F]+)$")
_FLOAT = re.compile(
    r"^(?:[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)
_PLAIN = (
    ("bool", _BOOL, "tTfF"),
    ("int", _INT, "-+0123456789"),
    ("float", _FLOAT, "-+0123456789."),
)
_TAG = "tag:yaml.org,2002:"
_OURS = {_TAG + name for name in ("bool", "int", "float", "timestamp")}


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """PyYAML's safe loader with the scalars above."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set[str]()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != _TAG + "merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r} stands twice", key.start_mark
                    )
                seen.add(key.value)
        found: dict[Hashable, Any] = super().construct_mapping(node, deep=deep)
        return found


class _Dumper(yaml.SafeDumper):
    """PyYAML's safe dumper, which also quotes texts that `_Loader` would take for numbers."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _OURS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _name, _pattern, _first in _PLAIN:
    _Loader.add_implicit_resolver(_TAG + _name, _pattern, list(_first))
    _Dumper.add_implicit_resolver(_TAG + _name, _pattern, list(_first))


def parse_yaml(text: str) -> Any:
    """The value that `text` says. ValueError, in one line, if it is no YAML or too much of it."""
    try:
        _check_size(yaml.parse(text, Loader=_Loader))
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, RecursionError, OverflowError) as error:
        raise ValueError(" ".join(str(error).split())) from None
    except (AttributeError, LookupError, TypeError):  # how PyYAML fails on `!!bool maybe`
        raise ValueError("a value is not of the kind that its tag says (!!bool, !!int)") from None


def dump_yaml(data: Any) -> str:
    """`data` as YAML that `parse_yaml` reads as the same value, keys in their order."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def flow_yaml(data: Any) -> str:
    """`data` as YAML in one line, as people write it behind a key."""
    text = yaml.dump(
        data,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=True,
        width=9999,
    )
    return text.removesuffix("...\n").strip()


def _check_size(events: Iterable[yaml.Event]) -> None:
    """ValueError if the document is deeper or larger than a config can be, or contains itself."""
    anchors: dict[str, tuple[int, int]] = {}  # what each stands for: values, characters
    open_: list[tuple[str | None, int, int]] = [(None, 0, 0)]
    for event in events:
        values = characters = 0
        if isinstance(event, yaml.CollectionStartEvent):
            open_.append((event.anchor, 1, 0))
            if len(open_) > MAX_DEPTH:
                raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")
            continue
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in anchors:
                raise ValueError(f"*{event.anchor} stands inside itself, or for nothing")
            values, characters = anchors[event.anchor]
        elif isinstance(event, yaml.ScalarEvent):
            values, characters = 1, len(event.value)
            if event.anchor:
                anchors[event.anchor] = values, characters
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, values, characters = open_.pop()
            if anchor:
                anchors[anchor] = values, characters
        anchor, before, length = open_[-1]
        open_[-1] = anchor, before + values, length + characters
        if before + values > MAX_VALUES or length + characters > MAX_CHARACTERS:
            raise ValueError(f"it has more than {MAX_VALUES} values or {MAX_CHARACTERS} characters")
