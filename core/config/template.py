"""A config with every key, its default and what it means: what `pano init` writes."""

import textwrap
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from panoforge.core.config.explain import allowed, has_keys, plain
from panoforge.core.config.flat import flat_fields
from panoforge.core.config.keys import alternatives, is_model
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
    fields: Mapping[str, FieldInfo], values: Mapping[str, Any], prefix: str
) -> Iterator[str]:
    indent = "  " * prefix.count(".")
    ordered = sorted(fields.items(), key=lambda item: not item[1].is_required())
    for name, field in ordered:
        value = values.get(name, field.get_default(call_default_factory=True))
        inner = next((kind for kind in alternatives(field.annotation) if is_model(kind)), None)
        expanded = inner is not None and isinstance(value, inner)
        further = f"Keys: pano config --explain {prefix}{name}." if has_keys(field) else ""
        about = " ".join(
            part
            for part in (field.description or "", allowed(field), "" if expanded else further)
            if part
        )
        yield from textwrap.wrap(
            about, _WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# "
        )
        if inner is not None and expanded:
            yield f"{indent}{name}:"
            yield from _lines(flat_fields(inner), dict(value), f"{prefix}{name}.")
        else:
            yield f"{indent}{name}: {flow_yaml(plain(value))}"
