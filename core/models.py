"""The one base of everything that crosses a boundary, and the bounded numbers of its fields."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(ge=0)]


class FrozenModel(BaseModel):
    """A pydantic model that refuses unknown fields and non-finite numbers, and does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
