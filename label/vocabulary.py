"""The vocabulary of labels: what teachers call things → classes of ours.

`configs/vocabulary.yaml` merges the panoptic classes of COCO, ADE20K and Cityscapes by the three
rules of Leader360V (arXiv 2506.14271, C.2), and says which are things. A class of it is one of
configs/categories.yaml, whose ids the `semantic` product has. A file of the user's may take its
place: any names, and lists of teachers' words under any keys.

Teachers spell classes in their own way: `road, route`, `sky-other-merged`, `Traffic Light`. A word
is found without regard to case, signs and synonyms after commas.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, TypeAdapter, ValidationError

from panoforge.core.categories.table import CATEGORIES_FILE, Categories
from panoforge.core.errors import ConfigError, nearest
from panoforge.core.foreign.files import read_bytes

VOCABULARY_FILE = CATEGORIES_FILE.with_name("vocabulary.yaml")
UNKNOWN = "unknown"
MAX_FILE_BYTES = 1 << 20
MAX_WORDS = 10_000

_Word = Annotated[str, Field(min_length=1, max_length=100)]
_ENTRIES: TypeAdapter[dict[str, dict[str, Any]]] = TypeAdapter(
    dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_ .-]{0,63}$")], dict[str, Any]]
)
_WORDS: TypeAdapter[list[str]] = TypeAdapter(list[_Word])


@dataclass(frozen=True)
class LabelClass:
    """A class of labels.

    Attributes:
        name: What labels say.
        is_thing: Whether its instances are told apart; false is stuff.
        category_id: Its id in configs/categories.yaml; 0 where that has none.
    """

    name: str
    is_thing: bool
    category_id: int


@dataclass(frozen=True)
class Vocabulary:
    """All classes of labels, and what teachers call them."""

    classes: Mapping[str, LabelClass]
    by_word: Mapping[str, str]

    def find(self, word: str) -> LabelClass | None:
        """The class that a teacher's word means; None where no word of it is known."""
        for said in (word, *word.split(",")):
            name = self.by_word.get(spelling(said))
            if name is not None:
                return self.classes[name]
        return None

    def stuff_among(self, words: Mapping[int, str] | tuple[str, ...]) -> frozenset[str]:
        """Those of a teacher's words that are stuff."""
        said = words.values() if isinstance(words, Mapping) else words
        found = {word: self.find(word) for word in said}
        return frozenset(word for word, class_ in found.items() if class_ and not class_.is_thing)

    @property
    def names(self) -> tuple[str, ...]:
        """Of all classes, in the order of the file."""
        return tuple(self.classes)


def spelling(word: str) -> str:
    """A word without case, signs and double blanks: what two spellings of it share."""
    return re.sub(r"[\W_]+", " ", word.casefold()).strip()


@lru_cache(maxsize=1)
def _ours() -> Vocabulary:
    return _read(VOCABULARY_FILE)


def load_vocabulary(file: Path | None = None) -> Vocabulary:
    """Ours, or the user's.

    Args:
        file: YAML of entries such as `sofa: {thing: true, coco: [couch], category: sofa}`.

    Raises:
        ConfigError: It is no such file, names a word twice or a category that there is not.
    """
    return _ours() if file is None else _read(file)


def _read(place: Path) -> Vocabulary:
    data = read_bytes(place, MAX_FILE_BYTES)
    try:
        document = yaml.safe_load(data)
        return parse_vocabulary(document, str(place))
    except yaml.YAMLError as error:
        said = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"{place} is no YAML: {said}. Expected classes as in configs/vocabulary.yaml"
        ) from None
    except RecursionError:
        raise ConfigError(f"{place} is nested too deep for a vocabulary") from None


def parse_vocabulary(document: Any, place: str) -> Vocabulary:
    """`{class: {thing: true, words: [...], category: ...}}` → a vocabulary. ConfigError else."""
    try:
        entries = _ENTRIES.validate_python(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part)[:50] for part in first["loc"]) or "the file"
        raise ConfigError(f"{place}: {where}: {first['msg'][:200]}") from None
    classes: dict[str, LabelClass] = {}
    by_word: dict[str, str] = {}
    for name, entry in entries.items():
        if spelling(name) == UNKNOWN:
            raise ConfigError(f"{place}: {name!r} cannot be a class: it is what nobody could name")
        classes[name] = _class_of(name, entry, place)
        for word in (name, *_words_of(name, entry, place)):
            key = spelling(word)
            if by_word.setdefault(key, name) != name:
                raise ConfigError(
                    f"{place}: the word {word!r} is listed under {by_word[key]!r} and {name!r}:"
                    " a teacher that says it could mean both"
                )
    if not classes or len(by_word) > MAX_WORDS:
        raise ConfigError(f"{place}: expected 1 to {MAX_WORDS} words, found {len(by_word)}")
    return Vocabulary(classes, by_word)


def _class_of(name: str, entry: Mapping[str, Any], place: str) -> LabelClass:
    known = Categories.load().by_name
    thing, category = entry.get("thing"), entry.get("category", name)
    if not isinstance(thing, bool):
        raise ConfigError(f"{place}: {name}: expected thing: true or false, got {str(thing)[:50]}")
    if "category" in entry and category not in known:
        hint = nearest(str(category), known)
        raise ConfigError(f"{place}: {name}: {str(category)[:50]!r} is no category.{hint}")
    return LabelClass(name, thing, known[category].id if category in known else 0)


def _words_of(name: str, entry: Mapping[str, Any], place: str) -> list[str]:
    words: list[str] = []
    for key, said in entry.items():
        if key in ("thing", "category"):
            continue
        try:
            words += _WORDS.validate_python(said)
        except ValidationError:
            raise ConfigError(
                f"{place}: {name}.{str(key)[:50]}: expected a list of words, got {str(said)[:50]!r}"
            ) from None
    return words
