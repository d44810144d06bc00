"""A config made of another one and of keys beside it, which people write as one flat mapping.

A job is a stage's config plus where and how it runs. In Python it holds the stage's config whole
(`job.render.scenes`). In YAML, on the command line and in records its keys and the stage's stand
side by side (`scenes: 3`), and messages name them so.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, SerializerFunctionWrapHandler, model_serializer, model_validator
from pydantic.fields import FieldInfo

from panoforge.core.models import FrozenModel


class FlatModel(FrozenModel):
    """A model that holds another one, and reads and writes both as one mapping.

    The field named by `inner` holds it. Keys that are not the outer model's own are the inner
    model's.
    """

    inner: ClassVar[str]

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        both = cls.model_fields.keys() & inner_model(cls).model_fields.keys()
        if both:
            raise TypeError(f"{cls.__name__}: {sorted(both)} would mean two things in one mapping")

    @model_validator(mode="before")
    @classmethod
    def _fold(cls, data: Any) -> Any:
        if not isinstance(data, Mapping) or isinstance(data.get(cls.inner), BaseModel):
            return data
        own = {key: value for key, value in data.items() if _is_own(cls, key)}
        rest = {key: value for key, value in data.items() if not _is_own(cls, key)}
        return {**own, cls.inner: rest}

    @model_serializer(mode="wrap")
    def _unfold(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = dump(self)
        return {**fields.pop(self.inner, {}), **fields}


def inner_model(model: type[FlatModel]) -> type[BaseModel]:
    """The model whose keys stand beside `model`'s own."""
    found = model.model_fields[model.inner].annotation
    if not (isinstance(found, type) and issubclass(found, BaseModel)):
        raise TypeError(f"{model.__name__}.{model.inner}: expected a model, got {found}")
    return found


def flat_fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The top-level keys that people write for `model`, with their fields."""
    if not issubclass(model, FlatModel):
        return dict(model.model_fields)
    own = {name: field for name, field in model.model_fields.items() if name != model.inner}
    return {**inner_model(model).model_fields, **own}


def flat_location(model: type[BaseModel], location: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """Where a finding of pydantic lies, in the keys that people write."""
    if issubclass(model, FlatModel) and location[:1] == (model.inner,):
        return location[1:]
    return location


def _is_own(model: type[FlatModel], key: object) -> bool:
    return key in model.model_fields and key != model.inner
