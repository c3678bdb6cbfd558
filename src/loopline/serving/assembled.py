"""Inputs that the data plane puts together itself: a request names its entities, the online store knows them.

The bundle says how (`features.requests`): the same trees that made the training rows, compiled for one row,
over the request's own columns and what the store holds of its entities.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from loopline.base.errors import Invalid, Unavailable
from loopline.data.contract import Contract
from loopline.features.online import OnlineFeatures
from loopline.features.program import from_doc
from loopline.features.requests import FORMAT, space_of
from loopline.features.row import WrongValue, compile_row
from loopline.features.views import together
from loopline.serving.inputs import UNAVAILABLE, Inputs, Judged
from loopline.store.online.protocol import Online
from loopline.training.bundle import Bundle

DATATYPES = {"time": "BYTES", "text": "BYTES", "number": "FP64", "truth": "BOOL"}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class AssembledInputs(Inputs):
    """The inputs of a version that makes them from requests and the online store.

    Parameters
    ----------
    bundle : Bundle
        Its manifest says how, under `request`.
    store : Online
        What is known of entities.

    Raises
    ------
    Invalid
        If the bundle does not say how, or in a way that this version does not know.
    """

    raw = True

    def __init__(self, bundle: Bundle, store: Online) -> None:
        super().__init__(bundle.inputs)
        doc = bundle.manifest.get("request")
        if doc is None or doc.get("format") != FORMAT:
            raise Invalid(
                "the bundle does not say how to make its inputs from a request",
                why="a view calls a function of the project, or the model was trained by another version of Loopline",
                fix="train it again, or write `serving: {features: request}` and send the inputs themselves",
            )
        groups = [from_doc(one) for one in doc["groups"]]
        self._program = compile_row(together(view for group in groups for view in group.views))
        self._parts = [
            OnlineFeatures(store, group, space=space_of(group))
            for group in groups
            if any(view.leaves() for view in group.views)
        ]
        self.columns: dict[str, str] = dict(doc["columns"])
        self._times = tuple(name for name, kind in self.columns.items() if kind == "time")
        self._contract = Contract.from_doc(doc["contract"]).select(tuple(self.columns)) if doc["contract"] else None
        self._quick = self.quick(self._program.names)

    @property
    def asked(self) -> dict[str, str]:
        """Name and datatype of the request's own columns; moments are RFC 3339 text."""
        return {name: DATATYPES[kind] for name, kind in self.columns.items()}

    def judge(self, row: Mapping[str, Any], due_us: int = 0) -> Judged:
        """The inputs of a request that is due at `due_us` (since 1970), with every rule it breaks.

        Besides the rules of the inputs: those of the spine's contract, by their ids there; `stale:<view>`,
        recorded; `unavailable:features`, when the online store cannot answer, which keeps the row from being
        answered.
        """
        broken: tuple[str, ...] = ()
        if self._times:
            row = self._with_times(row)
        if self._contract is not None:
            verdict = self._contract.judge_row(row)
            row, broken = verdict.row, verdict.broken
            if verdict.refused:
                return Judged(self.nothing, broken, True)
        at = EPOCH + timedelta(microseconds=due_us)
        try:
            leaves: list[Any] = []
            for part in self._parts:
                read = part.read(row, at)
                leaves += read.leaves
                broken += tuple(f"stale:{view}" for view in read.stale)
            values = self._program(row, at, leaves)
        except Unavailable:
            return Judged(self.nothing, (*broken, UNAVAILABLE + "features"), True)
        except WrongValue as wrong_value:
            return Judged(self.nothing, (*broken, f"type:{wrong_value.column}"), True)
        except Invalid as error:
            return Judged(self.nothing, (*broken, f"type:{error.what.splitlines()[0]}"), True)
        quick = self._quick(values)
        if quick is not None:
            return Judged(quick, broken, False)
        judged = super().judge(dict(zip(self._program.names, values, strict=True)))
        return Judged(judged.values, (*broken, *judged.broken), judged.hard)

    def _with_times(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The row with its moments read; what is none, or carries no zone, is left for the rules to name."""
        made = dict(row)
        for name in self._times:
            value = row.get(name)
            if value.__class__ is str:
                with suppress(ValueError):
                    moment = datetime.fromisoformat(value)
                    if moment.tzinfo is not None:
                        made[name] = moment
        return made
