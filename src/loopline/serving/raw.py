"""Rows of raw request columns, for versions that carry their features' expressions.

A request may send what the features are made of instead of the features. The version then computes them
by the very trees that made its training rows, and judges what comes out like any row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec

from loopline.base.errors import Invalid
from loopline.features.row import RowProgram, WrongValue
from loopline.serving.inputs import Inputs, Judged
from loopline.training.bundle import Bundle

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class RawInputs(Inputs):
    """The inputs of a version that computes them itself.

    A row that holds any of the features (and not only columns that they are made
    of) is taken to hold all of them.
    """

    raw = True

    def __init__(self, bundle: Bundle, program: RowProgram) -> None:
        super().__init__(bundle.inputs)
        self._program = program
        self._told = frozenset(program.names) - frozenset(program.columns)

    def judge(self, row: Mapping[str, Any], due_us: int = 0) -> Judged:
        """Read a row of plain JSON values, raw or computed, naming every rule it breaks."""
        if not self._told.isdisjoint(row):
            return super().judge(row)
        try:
            values = self._program(row, _EPOCH + timedelta(microseconds=due_us))
        except WrongValue as wrong:
            return Judged((None,) * len(self.inputs), (f"type:{wrong.column}",), True)
        except Invalid as broken:
            return Judged((None,) * len(self.inputs), (f"type:{broken.what.splitlines()[0]}",), True)
        return super().judge(dict(zip(self._program.names, values, strict=True)))


def inputs_of(bundle: Bundle) -> Inputs:
    """How the rows of a version are read."""
    program = bundle.program
    return Inputs(bundle.inputs) if program is None or program.plain else RawInputs(bundle, program)


def any_raw(inputs: Iterable[Inputs]) -> bool:
    """Whether rows have to be kept as they come."""
    return any(one.raw for one in inputs)


def never() -> type[msgspec.Struct]:
    """A type that no row decodes to, so that every row is judged."""
    return msgspec.defstruct("Row", [("never", Annotated[int, msgspec.Meta(gt=0, lt=0)])], gc=False)
