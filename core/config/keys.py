"""What may stand at a dotted key of a config: which fields, of which kinds, by which names."""

import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from panoforge.core.config.flat import flat_fields


def alternatives(annotation: Any) -> list[Any]:
    """The kinds of a union, without what validators add to them."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return alternatives(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return [kind for part in get_args(annotation) for kind in alternatives(part)]
    return [annotation]


def below(kinds: Sequence[Any], part: int | str) -> list[Any]:
    """The kinds of what stands at `part` (a key or a position) of a value of one of `kinds`."""
    found: list[Any] = []
    for kind in kinds:
        arguments = get_args(kind)
        if is_model(kind):
            field = flat_fields(kind).get(str(part))
            found += alternatives(field.annotation) if field else []
        elif get_origin(kind) is dict:
            found += alternatives(arguments[1])
        elif get_origin(kind) in (tuple, list) and str(part).isdigit():
            found += [kind for item in arguments if item is not ... for kind in alternatives(item)]
    return found


def kinds_at(model: type[BaseModel], key: str) -> list[Any]:
    """What `key` may be. Empty where the model has no such key."""
    kinds: list[Any] = [model]
    for part in key.split("."):
        kinds = below(kinds, part)
    return kinds


def is_model(kind: Any) -> bool:
    """Whether a type is a pydantic model."""
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def is_text(kinds: Sequence[Any]) -> bool:
    """Whether one of the kinds is a text: a name, a path, a URL, a choice of words."""
    return any(
        kind in (str, Path)
        or (get_origin(kind) is Literal and any(isinstance(v, str) for v in get_args(kind)))
        for kind in kinds
    )


def is_container(kinds: Sequence[Any]) -> bool:
    """Whether one of the kinds is a mapping or a list."""
    return any(is_model(kind) or get_origin(kind) in (dict, tuple, list) for kind in kinds)


def known_keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every dotted key of a model that has a name, with its field."""
    for name, field in flat_fields(model).items():
        yield prefix + name, field
        for kind in alternatives(field.annotation):
            if is_model(kind):
                yield from known_keys(kind, f"{prefix}{name}.")


def written(
    model: type[BaseModel], location: Sequence[int | str]
) -> tuple[tuple[int | str, ...], list[Any]]:
    """A place of pydantic's as people write it, and the kinds of what holds its last part.

    Pydantic also names which member of a union it tried. That is no key, and is left out.
    """
    kinds: list[Any] = [model]
    parent, parts = kinds, list[int | str]()
    for at, part in enumerate(location):
        inner = below(kinds, part)
        tried = [kind for kind in kinds if part in _tags(kind)]
        if not inner and tried and at < len(location) - 1:
            kinds = tried
            continue
        parent, kinds = kinds, inner
        parts.append(part)
    return tuple(parts), parent


def _tags(kind: Any) -> set[Any]:
    """The words that say which of several models a mapping is."""
    if not is_model(kind):
        return set()
    fields = [field.annotation for field in kind.model_fields.values()]
    return {value for field in fields if get_origin(field) is Literal for value in get_args(field)}
