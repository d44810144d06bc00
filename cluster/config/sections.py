"""The config of one verb from its own file, or from its section of a chain's file."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from panoforge.cluster.config.jobs import EvalJobConfig, RenderJobConfig, TrainJobConfig
from panoforge.cluster.config.labelling import AnnotateJobConfig, PseudolabelJobConfig
from panoforge.cluster.config.packing import PackConfig
from panoforge.cluster.config.submission import SubmitConfig
from panoforge.core.config import load_config, top_level
from panoforge.core.config.flat import flat_fields
from panoforge.core.config.load import SHARED_KEYS
from panoforge.core.config.messages import shown
from panoforge.core.config.overrides import split
from panoforge.core.errors import ConfigError, nearest
from panoforge.core.models import FrozenModel

Model = TypeVar("Model", bound=FrozenModel)

VERBS: dict[str, type[FrozenModel]] = {
    "render": RenderJobConfig,
    "pack": PackConfig,
    "train": TrainJobConfig,
    "eval": EvalJobConfig,
}
# What a file of a whole chain may hold.
SECTIONS: dict[str, type[FrozenModel]] = {
    **VERBS,
    "submit": SubmitConfig,
    "annotate": AnnotateJobConfig,
    "pseudolabel": PseudolabelJobConfig,
}
# Whose keys a file may hold without a section.
ALONE = {name: model for name, model in SECTIONS.items() if name != "submit"}


def load_section(path: Path, model: type[Model], overrides: Sequence[str] = ()) -> Model:
    """The config of one verb (or of `submit`) from its own file, or from its section of a chain.

    ConfigError for whatever is wrong.
    """
    section = next(name for name, known in SECTIONS.items() if known is model)
    for key, text in split(overrides):
        if key.startswith(f"{section}."):
            own = key.removeprefix(f"{section}.")
            raise ConfigError(
                f"override {shown(f'{key}={text}')}: here the keys are those of {section}, so its"
                f" name is left out: {own}={text}"
            )
    return load_config(path, model, overrides, section=section, chain=SECTIONS)


def sections_of(path: Path, overrides: Sequence[str]) -> list[tuple[str, BaseModel]]:
    """The resolved configs that a file holds, by section.

    All its sections, or the one verb whose keys it has. Overrides of a file with sections begin
    with the section's name (`render.scenes=1`), or are `run=FOLDER`. ConfigError for whatever is
    wrong.
    """
    keys = top_level(path)
    present = [name for name in SECTIONS if name in keys]
    if not present:
        keys |= {key.partition(".")[0] for key, _ in split(overrides)}
        verb = max(ALONE, key=lambda verb: len(keys & set(flat_fields(ALONE[verb]))))
        return [(verb, load_section(path, ALONE[verb], overrides))]
    for key, _ in split(overrides):
        _check_prefix(path, key, present)
    return [
        (name, load_section(path, SECTIONS[name], _for_section(name, overrides)))
        for name in present
    ]


def _check_prefix(path: Path, key: str, present: Sequence[str]) -> None:
    """ConfigError unless an override says which section it is for."""
    head = key.partition(".")[0]
    if key in SHARED_KEYS or (head in present and head != key):
        return
    having = [name for name in present if head in flat_fields(SECTIONS[name])]
    guess = (
        f" Write {' or '.join(f'{name}.{key}' for name in having)}"
        if having
        else nearest(head, present)
    )
    raise ConfigError(
        f"override {shown(key)}: {path} has the sections {', '.join(present)}: begin with the name"
        f" of one.{guess}"
    )


def _for_section(name: str, overrides: Sequence[str]) -> list[str]:
    shared = [key for key in SHARED_KEYS if key in flat_fields(SECTIONS[name])]
    return [text.removeprefix(f"{name}.") for text in overrides if text.startswith(f"{name}.")] + [
        text for text in overrides if text.partition("=")[0] in shared
    ]
