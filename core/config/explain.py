"""Every key of a config by its dotted name: kind, bounds, default, unit and meaning.

The models are the only source. `pano config --explain`, `pano init` and the page of all keys
(docs/reference/config.md) say what stands here. In a list or a mapping of sections, `N` is a
position and `NAME` a name of the user's.
"""

import re
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MultipleOf
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from panoforge.core.config.flat import flat_fields
from panoforge.core.config.keys import alternatives, is_model
from panoforge.core.config.messages import shown
from panoforge.core.config.references import escape
from panoforge.core.config.yaml_text import flow_yaml
from panoforge.core.errors import ConfigError, nearest

ASKED_FOR = "(asked for)"
SECTION = "section"
# What the end of a key's name says of its unit; the longest that fits counts.
UNITS = {
    "_m": "m",
    "_m_s": "m/s",
    "_deg": "°",
    "_deg_s": "°/s",
    "_s": "s",
    "_px": "px",
    "_sr": "sr",
    "_gb": "GB",
    "_mb": "MB",
    "_bytes": "bytes",
    "_hz": "Hz",
    "_ev": "EV",
    "fps": "frames/s",
    "usd_per_cpu_hour": "USD/h",
    "usd_per_gpu_hour": "USD/h",
}
_WORDS = {int: "whole number", float: "number", bool: "true or false", str: "text", Path: "path"}


@dataclass(frozen=True)
class ExplainedKey:
    """One key: what may stand there, and what it means.

    Attributes:
        key: Its dotted name, as overrides have it.
        kind: What may stand there, with its choices or bounds.
        default: As it is written in YAML; `ASKED_FOR` where there is none, empty for a section.
        unit: Of its number, where its name says one.
        about: What it means.
        only: Of a list of sections of several kinds: the kinds that have it; empty: all.
    """

    key: str
    kind: str
    default: str
    unit: str
    about: str
    only: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """Two lines for a terminal: name, kind and default; meaning."""
        default = f", default {self.default}" if self.default not in ("", ASKED_FOR) else ""
        asked = ", asked for" if self.default == ASKED_FOR else ""
        unit = f" [{self.unit}]" if self.unit else ""
        only = f" ({', '.join(self.only)})" if self.only else ""
        return f"{self.key}{only}: {self.kind}{unit}{default}{asked}\n    {self.about}"


def explained(model: type[BaseModel], *, once: bool = False) -> list[ExplainedKey]:
    """The keys of a model in the order of its fields, those inside lists and mappings too.

    With `once` the keys of a section that came before are not said again: its line names the place.
    """
    return list(_keys(model, "", {} if once else None))


def matching(keys: Mapping[str, Sequence[ExplainedKey]], word: str) -> list[ExplainedKey]:
    """The keys that a word means.

    Args:
        keys: By verb.
        word: A verb (`train`), a key with or without its verb (`train.optim.lr`, `optim.lr`), or
            the end of one (`fov_deg`); a section stands for all that is in it.

    Raises:
        ConfigError: It means none.
    """
    every = [
        replace(line, key=f"{verb}.{line.key}") for verb, found in keys.items() for line in found
    ]
    if word in keys:
        return [line for line in every if line.key.startswith(f"{word}.")]
    wanted = re.sub(r"\.\d+(?=\.|$)", ".N", word)
    found = [line for line in every if f".{wanted}." in f".{line.key}."]
    if not found:
        known = [
            *keys,
            *(line.key for line in every),
            *(line.key.rpartition(".")[2] for line in every),
        ]
        raise ConfigError(
            f"{shown(word)}: expected a verb ({', '.join(keys)}) or a key of one."
            f"{nearest(word, known)}"
        )
    return found


def _keys(
    model: type[BaseModel], prefix: str, seen: dict[type[BaseModel], str] | None
) -> Iterator[ExplainedKey]:
    for name, field in flat_fields(model).items():
        key = prefix + name
        inner, below = _sections(field.annotation)
        before = [seen[kind] for kind in inner if seen is not None and kind in seen]
        line = ExplainedKey(
            key,
            _kind(field.annotation, field.metadata),
            _default(field),
            unit_of(name),
            field.description or "",
        )
        if inner and before and len(before) == len(inner):
            yield replace(line, about=f"{line.about} Its keys are those of {before[0]}.")
            continue
        yield line
        if seen is not None:
            seen |= {kind: key + below.rstrip(".") for kind in inner}
        yield from _of_several({kind: list(_keys(kind, key + below, seen)) for kind in inner})


def _of_several(found: Mapping[type[BaseModel], list[ExplainedKey]]) -> Iterator[ExplainedKey]:
    """Keys of one or several kinds of section; what not all of them have says whose it is."""
    having: dict[ExplainedKey, list[str]] = {}
    for model, lines in found.items():
        for line in lines:
            if len(found) > 1 and line.kind == _tag(model):
                line = replace(line, kind=" or ".join(_tag(kind) for kind in found))
            having.setdefault(line, []).append(_tag(model))
    for line, tags in having.items():
        yield line if len(tags) == len(found) else replace(line, only=tuple(tags))


def _tag(model: type[BaseModel]) -> str:
    """The word that says which of several kinds of section a mapping is."""
    words = [get_args(field.annotation) for field in model.model_fields.values() if _is_tag(field)]
    return str(words[0][0]) if words else model.__name__


def _is_tag(field: FieldInfo) -> bool:
    return get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1


def _sections(annotation: Any) -> tuple[list[type[BaseModel]], str]:
    """The models that may stand at a key, and what goes between its name and theirs."""
    for kind in alternatives(annotation):
        if get_origin(kind) in (tuple, list, dict):
            items = [item for item in get_args(kind) if item is not ...]
            inner = [one for item in items for one in alternatives(item) if is_model(one)]
            if inner:
                return inner, ".NAME." if get_origin(kind) is dict else ".N."
    return [kind for kind in alternatives(annotation) if is_model(kind)], "."


def has_keys(field: FieldInfo) -> bool:
    """Whether a section may stand there, itself or in a list or a mapping."""
    return bool(_sections(field.annotation)[0])


def unit_of(name: str) -> str:
    """The unit that the name of a key says; empty where it says none."""
    ends = [end for end in UNITS if name.endswith(end)]
    return UNITS[max(ends, key=len)] if ends else ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return ASKED_FOR
    value = field.get_default(call_default_factory=True)
    return "" if isinstance(value, BaseModel) else flow_yaml(plain(value))


def plain(value: Any) -> Any:
    """A value of a model as YAML has it: what was set of a section, texts with `${` escaped."""
    if isinstance(value, BaseModel):
        return {name: plain(getattr(value, name)) for name in value.model_fields_set}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return escape(str(value)) if not isinstance(value, int | float | None) else value


def allowed(field: FieldInfo) -> str:
    """The choices or the bounds of a key, as a sentence; empty where there are none."""
    words = _choices(field.annotation)
    if words:
        return f"One of {', '.join(words)}."
    text = _bounds(field.annotation, field.metadata)
    return f"{text.capitalize()}." if text else ""


def _kind(annotation: Any, metadata: Any = ()) -> str:
    """What may stand at a key, in words."""
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        return _kind(inner, [*more, *metadata])
    if get_origin(annotation) in (Union, types.UnionType):
        return _one_of(annotation, metadata)
    if get_origin(annotation) is Literal:
        words = [flow_yaml(word) for word in get_args(annotation)]
        return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
    if is_model(annotation):
        return SECTION
    if get_origin(annotation) in (tuple, list):
        return _list(annotation)
    if get_origin(annotation) is dict:
        return f"mapping, each value: {_kind(get_args(annotation)[1])}"
    bounds = _bounds(annotation, metadata)
    return _WORDS.get(annotation, "text") + (f" {bounds}" if bounds else "")


def _one_of(annotation: Any, metadata: Any) -> str:
    kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
    words = dict.fromkeys(_kind(kind, metadata if len(kinds) == 1 else ()) for kind in kinds)
    if set(kinds) == {Path, str}:
        words = {"path or URL": None}
    null = " or null" if type(None) in get_args(annotation) else ""
    return " or ".join(words) + null


def _list(annotation: Any) -> str:
    items = get_args(annotation)
    kind = _kind(items[0])
    if get_origin(annotation) is tuple and items[-1] is not ...:
        return f"list of {len(items)}, each: {kind}"
    return f"list, each: {kind}"


def _choices(annotation: Any) -> list[str]:
    kinds = alternatives(annotation)
    return [str(word) for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]


def _bounds(annotation: Any, metadata: Any) -> str:
    """The bounds of a number or a text, whose type may be one of several."""
    found = [text for constraint in metadata if (text := _bound(constraint))]
    if get_origin(annotation) in (Union, types.UnionType):
        for kind in get_args(annotation):
            if get_origin(kind) is Annotated:
                found += filter(None, [_bounds(None, get_args(kind)[1:])])
    return ", ".join(dict.fromkeys(found))


def _bound(constraint: Any) -> str:
    match constraint:
        case FieldInfo(metadata=inner):
            return _bounds(None, inner)
        case Ge(ge=value):
            return f"at least {value}"
        case Gt(gt=value):
            return f"over {value}"
        case Le(le=value):
            return f"at most {value}"
        case Lt(lt=value):
            return f"below {value}"
        case MultipleOf(multiple_of=value):
            return f"a multiple of {value}"
    return ""
