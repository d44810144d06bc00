"""Configs: load YAML, apply dotted overrides, validate, print. No config is ever a loose dict
behind this line.

A config file is either one verb's (its keys at the top) or a whole chain with a section named after
each verb and `run:` beside them (configs/demo.yaml). `load_config(path, model, overrides,
section="render")` takes the section if the file has it, so `pano render demo.yaml scenes=1` and
`pano render rooms4k.yaml scenes=1` mean the same. YAML is read by OmegaConf's safe loader (no
python tags), values may refer to others (`${run}/dataset`), and the pydantic model refuses unknown
keys and wrong types; the message names the key, the file and the nearest known key.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ValidationError

from panoforge.core.errors import ConfigError, nearest
from panoforge.core.flat import flat_fields, flat_location
from panoforge.core.storage.atomic import storage_errors

MAX_CONFIG_BYTES = 1 << 20
SHARED_KEYS = ("run",)
_MAX_PROBLEMS = 3  # named in one message: a file of another kind would fill the screen

Model = TypeVar("Model", bound=BaseModel)


def load_config(
    path: Path, model: type[Model], overrides: Sequence[str] = (), *, section: str | None = None
) -> Model:
    """Load `path`, take `section` of it if it has one, apply `key=value` overrides, validate as
    `model`. ConfigError (exit code 2) with one clear message for anything that is wrong.
    """
    loaded = _read_yaml(path)
    if section is not None and section in loaded:
        if not isinstance(loaded[section], DictConfig):
            raise ConfigError(
                f"{path}: {section}: expected a section (a mapping of keys), got"
                f" {loaded[section]!r}"
            )
        shared = {
            key: loaded[key] for key in SHARED_KEYS if key in loaded and key in flat_fields(model)
        }
        for key, value in _split(overrides):
            if key in SHARED_KEYS:
                OmegaConf.update(loaded, key, value, force_add=True)
        whole, loaded = loaded, OmegaConf.merge(shared, loaded[section])
        loaded._set_parent(whole)  # so that ${run} still finds the top of the file
    return _resolve(path, loaded, model, overrides)


def _resolve(path: Path, loaded: DictConfig, model: type[Model], overrides: Sequence[str]) -> Model:
    try:
        for key, value in _split(overrides):
            OmegaConf.update(loaded, key, value, force_add=True)
        data = OmegaConf.to_container(loaded, resolve=True)
    except (OmegaConfBaseException, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {str(error).splitlines()[0]}") from None
    return _validate(path, model, data)


def config_from_overrides(model: type[Model], overrides: Sequence[str]) -> Model:
    """A config made of defaults and `key=value` overrides alone. ConfigError as in
    `load_config`."""
    return _resolve(Path("command line"), OmegaConf.create({}), model, overrides)


def top_level(path: Path) -> set[str]:
    """The top-level keys of a config file."""
    return {str(key) for key in _read_yaml(path)}


def _split(overrides: Sequence[str]) -> list[tuple[str, Any]]:
    """`key=value` texts as keys and YAML values. ConfigError for anything else."""
    pairs = []
    for override in overrides:
        key, equals, value = override.partition("=")
        if not key or not equals:
            raise ConfigError(
                f"override {override!r}: expected key=value, e.g. scenes=4 or ray.address=auto"
            )
        try:
            pairs.append((key, yaml.safe_load(value) if value else None))
        except yaml.YAMLError as error:
            raise ConfigError(f"override {override!r}: {' '.join(str(error).split())}") from None
    return pairs


def _read_yaml(path: Path) -> DictConfig:
    with storage_errors(path):
        if not path.exists():
            here = (
                sorted(str(p) for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
            )
            raise ConfigError(f"config file {path} does not exist.{nearest(str(path), here)}")
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise ConfigError(f"{path} is over {MAX_CONFIG_BYTES} bytes: that is not a config file")
        text = path.read_text(encoding="utf-8", errors="replace")
    try:
        loaded = OmegaConf.create(text)
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(loaded, DictConfig):
        raise ConfigError(f"{path}: expected a mapping of config keys, got a list or a plain value")
    return loaded


def _validate(path: Path, model: type[Model], data: Any) -> Model:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problems = list(dict.fromkeys(_explain(problem, model) for problem in error.errors()))
        more = (
            f"; and {len(problems) - _MAX_PROBLEMS} more" if len(problems) > _MAX_PROBLEMS else ""
        )
        raise ConfigError(f"{path}: " + "; ".join(problems[:_MAX_PROBLEMS]) + more) from None


def _explain(problem: Any, model: type[BaseModel]) -> str:
    """One sentence for one of pydantic's findings."""
    where = ".".join(map(str, flat_location(model, problem["loc"]))) or "config"
    if problem["type"] == "extra_forbidden":
        known = dict(_known_keys(model))
        siblings = [key for key in known if key.rpartition(".")[0] == where.rpartition(".")[0]]
        guess = nearest(where, siblings) or nearest(where, known)
        return f"unknown key {where!r}.{guess or f' Known here: {sorted(siblings or known)}'}"
    if problem["type"] == "missing":
        return f"{where}: is required and not set"
    return f"{where}: {problem['msg']}, got {problem['input']!r}"


def _known_keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, field in flat_fields(model).items():
        yield prefix + name, field
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from _known_keys(kind, f"{prefix}{name}.")


def config_yaml(config: BaseModel) -> str:
    """The resolved config as YAML, in the order of the model's fields."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def config_sha256(config: BaseModel) -> str:
    """Digest of the resolved config: same values, same digest, whatever the file looked like."""
    return hashlib.sha256(
        json.dumps(config.model_dump(mode="json"), sort_keys=True).encode()
    ).hexdigest()
