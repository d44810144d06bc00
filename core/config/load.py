"""Load a config: file, section, overrides, references, validation.

A config file is either one verb's, its keys at the top, or a whole chain: a section named after
each verb, and `run:` beside them (configs/demo.yaml). `load_config(path, model, overrides,
section="render")` takes the section if the file has sections. So `pano render demo.yaml scenes=1`
and `pano render rooms4k.yaml scenes=1` mean the same.
"""

import hashlib
import json
import stat
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from panoforge.core.config.flat import flat_fields
from panoforge.core.config.messages import explain, shown
from panoforge.core.config.overrides import put, split, value_of
from panoforge.core.config.references import escape, resolve
from panoforge.core.config.yaml_text import MAX_BYTES, dump_yaml, parse_yaml
from panoforge.core.errors import ConfigError, StorageError, nearest
from panoforge.core.storage.atomic import storage_errors

SHARED_KEYS = ("run",)  # may stand beside the sections and hold for each of them

Model = TypeVar("Model", bound=BaseModel)


def load_config(
    path: Path,
    model: type[Model],
    overrides: Sequence[str] = (),
    *,
    section: str | None = None,
    chain: Collection[str] = (),
) -> Model:
    """A validated config from a file and `key=value` overrides.

    Args:
        path: The YAML file.
        model: What it must be.
        overrides: As typed: `ray.address=auto`.
        section: The section to take, where the file has sections.
        chain: All names that sections can have.

    Raises:
        ConfigError: With one line that names the key, for anything that is wrong.
    """
    root = _read(path)
    names = {*chain, *([section] if section else [])}
    if section is None or not names & root.keys():
        return _finish(path, model, overrides, root, root)
    _check_sections(path, root, section, names)
    for key, text in split(overrides):
        if key in SHARED_KEYS:
            put(root, key, value_of(model, key, text))
    own = root[section] = root[section] or {}
    for key in SHARED_KEYS:
        if key in root and key in flat_fields(model):
            own.setdefault(key, root[key])
    return _finish(path, model, overrides, own, root)


def config_from_overrides(model: type[Model], overrides: Sequence[str]) -> Model:
    """A config of defaults and `key=value` overrides alone. ConfigError as in `load_config`."""
    own: dict[Any, Any] = {}
    return _finish(Path("command line"), model, overrides, own, own)


def top_level(path: Path) -> set[str]:
    """The top-level keys of a config file."""
    return {str(key) for key in _read(path)}


def config_yaml(config: BaseModel) -> str:
    """The resolved config as YAML that loads as the same config, in the order of its fields."""
    return yaml_of(config.model_dump(mode="json"))


def yaml_of(data: Any) -> str:
    """Plain data as a config file in which no text is taken for a reference."""
    return dump_yaml(_escaped(data))


def config_sha256(config: BaseModel) -> str:
    """Digest of the resolved config: same values, same digest, whatever the file looked like."""
    return hashlib.sha256(
        json.dumps(config.model_dump(mode="json"), sort_keys=True).encode()
    ).hexdigest()


def _finish(
    path: Path, model: type[Model], overrides: Sequence[str], own: dict[Any, Any], root: Any
) -> Model:
    """`own`, a part of `root`, with overrides, references followed, validated."""
    for key, text in split(overrides):
        put(own, key, value_of(model, key, text))
    try:
        return model.model_validate(resolve(own, root))
    except ValidationError as error:
        raise ConfigError(f"{path}: {explain(error, model)}") from None
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None


def _check_sections(path: Path, root: dict[Any, Any], section: str, names: set[str]) -> None:
    known = [*sorted(names), *SHARED_KEYS]
    for key in root:
        if key not in known:
            raise ConfigError(
                f"{path}: unknown key {shown(key)} beside the sections."
                f"{nearest(str(key), known) or f' Known here: {known}'}"
            )
    if section not in root:
        there = sorted(names & root.keys())
        raise ConfigError(f"{path}: has no section {section!r}, only {', '.join(there)}")
    if not isinstance(root[section], dict | None):
        raise ConfigError(
            f"{path}: {section}: expected a section (a mapping of keys), got {shown(root[section])}"
        )


def _read(path: Path) -> dict[Any, Any]:
    """The mapping in a config file."""
    text = _read_text(path)
    try:
        loaded = parse_yaml(text)
    except ValueError as error:
        raise ConfigError(f"{path} is not valid YAML for a config: {error}") from None
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path}: expected a mapping of config keys, got a list or a plain value")
    return loaded


def _read_text(path: Path) -> str:
    try:
        data = _read_bytes(path)
    except StorageError as error:
        raise ConfigError(f"config file {error}") from None
    if len(data) > MAX_BYTES:
        raise ConfigError(
            f"{path} is over {MAX_BYTES} bytes: that is not a config file,"
            " name a YAML of keys (pano init writes one)"
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: expected UTF-8 text, byte {error.start} is {data[error.start]:#04x}: save it"
            " as UTF-8"
        ) from None


def _read_bytes(path: Path) -> bytes:
    """At most one byte more than a config file can have."""
    with storage_errors(path):
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            raise ConfigError(f"config file {path} does not exist.{_nearest_file(path)}") from None
        if not stat.S_ISREG(mode):
            kind = "a folder" if stat.S_ISDIR(mode) else "no regular file"
            raise ConfigError(f"{path}: expected a YAML file, this is {kind}")
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)


def _nearest_file(path: Path) -> str:
    here = sorted(str(p) for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
    return nearest(str(path), here)


def _escaped(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _escaped(item) for key, item in data.items()}
    if isinstance(data, list):
        return [_escaped(item) for item in data]
    return escape(data) if isinstance(data, str) else data
