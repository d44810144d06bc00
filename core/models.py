"""The one base of everything that crosses a boundary: configs, records, messages, tables."""

from pydantic import BaseModel, ConfigDict


class FrozenModel(BaseModel):
    """A pydantic model that refuses unknown fields and non-finite numbers, and does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
