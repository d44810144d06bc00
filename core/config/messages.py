"""What is wrong with a config, in one line that names the key as it is written."""

from typing import Any

from pydantic import BaseModel, ValidationError

from panoforge.core.config.flat import flat_fields, flat_location
from panoforge.core.config.keys import is_model, known_keys, written
from panoforge.core.config.yaml_text import flow_yaml
from panoforge.core.errors import nearest

_MAX_PROBLEMS = 3  # named in one message: a file of another kind would fill the screen
_MAX_SHOWN = 120  # characters of a value

# pydantic's words for these name Python's types: what is meant, and an example
_EXPECTED = {
    "tuple_type": ("a list", "[a, b]"),
    "list_type": ("a list", "[a, b]"),
    "dict_type": ("a mapping", "{key: value}"),
    "model_type": ("a mapping", "{key: value}"),
    "model_attributes_type": ("a mapping", "{key: value}"),
}


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """Pydantic's findings in one line."""
    found = error.errors(include_url=False)
    inner = {problem["loc"][:at] for problem in found for at in range(len(problem["loc"]))}
    own = [p for p in found if not (p["type"] == "too_short" and p["loc"] in inner)]
    problems = list(dict.fromkeys(_explain(problem, model) for problem in own))
    more = len(problems) - _MAX_PROBLEMS
    return "; ".join(problems[:_MAX_PROBLEMS]) + (f"; and {more} more" if more > 0 else "")


def shown(value: Any) -> str:
    """A value, in one short line."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits
        text = f"a very long {type(value).__name__}"
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def _explain(problem: Any, model: type[BaseModel]) -> str:
    parts, parents = written(model, flat_location(model, problem["loc"]))
    where = ".".join(str(part) for part in parts)
    if problem["type"] == "extra_forbidden":
        before = where.removesuffix(str(parts[-1]))
        siblings = [before + key for kind in parents if is_model(kind) for key in flat_fields(kind)]
        guess = nearest(where, siblings) or nearest(where, dict(known_keys(model)))
        return f"unknown key {shown(where)}.{guess or f' Known here: {sorted(siblings)}'}"
    if problem["type"] == "missing":
        return f"{where}: is required and not set"
    said = problem["msg"].removeprefix("Value error, ")
    if problem["type"] in _EXPECTED:
        what, example = _EXPECTED[problem["type"]]
        said = f"expected {what}, such as {_default(model, parts) or example}"
    prefix = f"{where}: " if where else ""
    at = "" if not where else f", got {shown(problem['input'])}"
    return " ".join(f"{prefix}{said}{at}".split())


def _default(model: type[BaseModel], parts: tuple[int | str, ...]) -> str:
    """The default of a key as short YAML, as an example of what may stand there. Empty for none."""
    field = flat_fields(model).get(str(parts[0])) if parts else None
    value = field.default if field else None
    for part in parts[1:]:
        if isinstance(value, tuple) and isinstance(part, int) and part < len(value):
            value = value[part]
        else:
            value = getattr(value, str(part), None)
    plain = _plain(value)
    return flow_yaml(plain) if plain else ""


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_unset=True)
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
