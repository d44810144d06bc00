"""A config with every key, its default and what it means: what `pano init` writes."""

import textwrap
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MultipleOf
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from panoforge.core.config.flat import flat_fields
from panoforge.core.config.keys import alternatives, is_model
from panoforge.core.config.references import escape
from panoforge.core.config.yaml_text import flow_yaml

_WIDTH = 98


def commented(
    model: type[BaseModel], values: Mapping[str, Any], without: Collection[str] = ()
) -> str:
    """YAML that loads as `model` with `values` at its top and defaults for the rest.

    Each key stands under a comment that says what it is. What must be given comes first. Keys of
    `without` are said elsewhere.
    """
    fields = {name: field for name, field in flat_fields(model).items() if name not in without}
    return "\n".join(_lines(fields, values, "")) + "\n"


def _lines(
    fields: Mapping[str, FieldInfo], values: Mapping[str, Any], indent: str
) -> Iterator[str]:
    ordered = sorted(fields.items(), key=lambda item: not item[1].is_required())
    for name, field in ordered:
        value = values.get(name, field.get_default(call_default_factory=True))
        inner = next((kind for kind in alternatives(field.annotation) if is_model(kind)), None)
        about = " ".join(part for part in (field.description or "", _allowed(field)) if part)
        yield from textwrap.wrap(
            about, _WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# "
        )
        if inner is not None and isinstance(value, inner):
            yield f"{indent}{name}:"
            yield from _lines(flat_fields(inner), dict(value), indent + "  ")
        else:
            yield f"{indent}{name}: {flow_yaml(_plain(value))}"


def _allowed(field: FieldInfo) -> str:
    """The choices or the bounds of a key, as a sentence."""
    kinds = alternatives(field.annotation)
    words = [word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]
    if words:
        return f"One of {', '.join(map(str, words))}."
    bounds = [text for constraint in field.metadata if (text := _bound(constraint))]
    return f"{', '.join(bounds).capitalize()}." if bounds else ""


def _bound(constraint: Any) -> str:
    match constraint:
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


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return {name: _plain(getattr(value, name)) for name in value.model_fields_set}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return escape(str(value)) if not isinstance(value, int | float | None) else value
