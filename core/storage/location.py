"""Places as configs name them: a `Location` is a folder or a URL, a `LocalPath` is never a URL.

`~` is expanded here, once, when the config is read. So no later reader expands it again, or takes
it for the name of a folder.
"""

import os
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypeVar

from pydantic import AfterValidator, BaseModel, PlainValidator
from pydantic_core import PydanticCustomError

_FILE = "file://"
Model = TypeVar("Model", bound=BaseModel)


def expanded(text: str) -> Path:
    """A path with its leading `~` or `~user` expanded. ValueError if there is no such user."""
    path = os.path.expanduser(text)
    if path.startswith("~"):
        raise ValueError(
            f"{text!r}: there is no user {text[1:].partition('/')[0]!r}. For a folder of that name"
            f" write ./{text}"
        )
    found = Path(path)  # drops a leading ./, which is what says that ./~x is no home
    return found.absolute() if str(found).startswith("~") else found


def expanded_text(text: str) -> str:
    """The same for a key that must stay as it is written otherwise. ValueError as above."""
    return str(expanded(text)) if text.startswith("~") else text


class PathWord(str):
    """A text of a config that names a path, or is a word instead of one.

    It is a path where it has a `/` or ends with `.zip`: `installed` and `python3.11` are words.
    """

    def absolute(self) -> "PathWord":
        """The path as another process finds it; a word stays."""
        is_path = "/" in self or self.endswith(".zip")
        return type(self)(os.path.abspath(self)) if is_path and "://" not in self else self


class FileText(PathWord):
    """A text of a config that names a file or a folder, whatever it looks like."""

    def absolute(self) -> "FileText":
        """The path as another process finds it."""
        return type(self)(os.path.abspath(self))


def location(text: str) -> Path | str:
    """`text` as a folder, `~` expanded, or as the URL that it is."""
    if text.startswith(_FILE):
        return Path(text.removeprefix(_FILE))
    return text.rstrip("/") if "://" in text else expanded(text)


def absolute(place: Path | str) -> Path | str:
    """The place as another process finds it, whatever its working folder."""
    return place.absolute() if isinstance(place, Path) else place


def with_absolute_paths(config: Model) -> Model:
    """A config as another process finds its files, whatever its working folder.

    Args:
        config: A validated model; paths may stand in models, dicts and tuples inside it.

    Returns:
        A copy in which every `Path` is absolute, and every path that is kept as text. It is not
        validated again: nothing else changes.
    """
    changed = {name: far for name, value in config if (far := _far(value)) is not value}
    return config.model_copy(update=changed) if changed else config


def _far(value: Any) -> Any:
    """The same for any value of a field; the very value where nothing in it is relative."""
    if isinstance(value, BaseModel):
        return with_absolute_paths(value)
    if isinstance(value, dict):
        items = {key: _far(item) for key, item in value.items()}
        return items if any(items[key] is not value[key] for key in value) else value
    if isinstance(value, tuple):
        far = tuple(_far(item) for item in value)
        return far if any(a is not b for a, b in zip(far, value, strict=True)) else value
    if isinstance(value, PathWord):
        there = value.absolute()
        return there if there != value else value
    return value if isinstance(value, Path) and value.is_absolute() else absolute(value)


def _location(value: Any) -> Path | str:
    return value if isinstance(value, Path) else location(_text(value))


def _local(value: Any) -> Path:
    if isinstance(value, Path):
        return value
    if "://" in _text(value):
        raise PydanticCustomError("path", "expected a path on this machine, not a URL")
    return expanded(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise PydanticCustomError(
            "path", "expected a path: text without NUL, one character or more"
        )
    return value


# A folder, as a Path, or the URL of one in a bucket, as text: what `Store.at` and `Dataset.open`
# take.
Location: TypeAlias = Annotated[Path | str, PlainValidator(_location)]
# A file or a folder of a file system.
LocalPath: TypeAlias = Annotated[Path, PlainValidator(_local)]
# Such a path, or a word instead of one; kept as the text that it is.
PathText: TypeAlias = Annotated[str, AfterValidator(lambda text: PathWord(expanded_text(text)))]
# Such a path, never a word; kept as the text that it is.
FilePathText: TypeAlias = Annotated[str, AfterValidator(lambda text: FileText(expanded_text(text)))]
