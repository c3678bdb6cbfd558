"""Rows that are kept as they come, because versions make their inputs from them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import msgspec

from loopline.serving.inputs import Inputs


def any_raw(inputs: Iterable[Inputs]) -> bool:
    """Whether rows have to be kept as they come."""
    return any(one.raw for one in inputs)


def never() -> type[msgspec.Struct]:
    """A type that no row decodes to, so that every row is judged."""
    return msgspec.defstruct("Row", [("never", Annotated[int, msgspec.Meta(gt=0, lt=0)])], gc=False)
