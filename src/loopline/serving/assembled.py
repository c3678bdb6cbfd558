"""Inputs made from requests: a request brings columns, and names entities that the online store knows.

The bundle says how (`features.requests`): the same trees that made the training rows, compiled for one row,
over the request's own columns and what the store holds of its entities. The request is a row of the spine: it is
repaired and judged like one first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from loopline.base.errors import Invalid, Unavailable
from loopline.base.log import logger
from loopline.data.contracts.contract import Contract
from loopline.data.intake.row_cleaning import compile_row_intake
from loopline.data.privacy.row_treatments import compile_row_treatment
from loopline.data.spec import CleanSpec
from loopline.features.online import OnlineFeatures
from loopline.features.program import from_doc, portable
from loopline.features.reader import text_of
from loopline.features.reads import NotNow, Read, TooOld, read_together
from loopline.features.requests import FORMATS, keys_read, space_of
from loopline.features.row import WrongValue, compile_row
from loopline.features.views import together
from loopline.serving.inputs import AHEAD, UNAVAILABLE, Inputs, Judged, leading
from loopline.store.online.protocol import Online
from loopline.training.bundle import Bundle

DATATYPES = {"time": "BYTES", "text": "BYTES", "number": "FP64", "truth": "BOOL"}
UNKNOWN = "unknown:"
STALE, ABSENT = "stale:", "absent:"
"""Begins the rule that a row breaks by a column that the spine does not have; a warning."""
TOLD = 5
"""Unknown columns of one request that are named."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_log = logger(__name__)


class AssembledInputs(Inputs):
    """The inputs of a version that makes them from requests.

    Parameters
    ----------
    bundle : Bundle
        Its manifest says how, under `request`.
    store : Online, optional
        What is known of entities. Without one the features need the request alone, and a row that holds any of
        them (and not only columns that they are made of) is taken to hold all of them.

    Raises
    ------
    Invalid
        If the bundle does not say how, or in a way that this version does not know, or its features need a store
        and there is none.
    """

    raw = True
    _away = False
    """Whether the last look found the store out of reach, or empty."""

    def __init__(self, bundle: Bundle, store: Online | None = None) -> None:
        super().__init__(bundle.inputs)
        doc = bundle.request
        if doc is None or doc.get("format") not in FORMATS:
            raise Invalid(
                "the bundle does not say how to make its inputs from a request",
                why="a view calls a function of the project, or the model was trained by another version of Loopline",
                fix="train it again, or write `serving: {features: request}` and send the inputs themselves",
            )
        groups = [from_doc(one) for one in doc["groups"]]
        views = together(view for group in groups for view in group.views)
        if store is None and not portable(views):
            raise Invalid(
                "the features of this model need the online store",
                why="they read tables besides the request",
                fix="write `serving: {features: online}`",
            )
        self._program = compile_row(views)
        self._store = store
        self._parts = [
            OnlineFeatures(store, group, space=space_of(group)).reads
            for group in groups
            if store is not None and any(view.leaves() for view in group.views)
        ]
        self.columns: dict[str, str] = dict(doc["columns"])
        moments = doc.get("moments", {n: ["timestamp", None] for n, kind in self.columns.items() if kind == "time"})
        self._whole = Contract.from_doc(doc["contract"]) if doc["contract"] else None
        unnamed = doc.get("unnamed")
        if unnamed is None:
            unnamed = [one.name for one in self._whole.columns if not one.required] if self._whole is not None else []
        self._keys = tuple(n for n in keys_read(views) if n not in unnamed) if self._parts else ()
        self._others: dict[str, Any] | None = doc.get("others")
        self._moments, self._clean = moments, list(doc.get("clean", ()))
        self._names = frozenset(self.columns)
        declared = {column.name for column in self._whole.columns} if self._whole is not None else set[str]()
        self._beside = (declared | set(self._others["columns"] if self._others else ())) - self._names
        self._beside -= {doc.get("unit")}  # written as text or number, and read where the entity is
        self._tells = self._others is not None
        contract, self._intake = self._as_brought(frozenset())
        clean = tuple(self._clean)
        self._contract = contract if contract is not None and contract.rules else None
        self._made = {frozenset[str](): (self._contract, self._intake)}
        self._grave = (
            {rule.id for rule in self._whole.rules if rule.severity == "error"} if self._whole is not None else set()
        )
        self.unit = doc.get("unit")
        self.brought = tuple(self.columns) if store is not None else ()
        self._quick = self.quick(self._program.names)
        told = frozenset(self._program.names) - frozenset(self._program.columns)
        self._told = told if store is None else frozenset[str]()
        treated = compile_row_treatment(self._whole, self.columns, moments) is not None
        self.plain = self._program.plain and self._contract is None and not clean and not treated
        """Whether the inputs are the columns of a request as they are, and nothing else is asked of them."""

    def _as_brought(self, more: frozenset[str]) -> tuple[Contract | None, Callable[[Mapping[str, Any]], Any]]:
        """The contract and the intake of a request that brings `more` of the spine than is read of it."""
        others = self._others or {"moments": {}, "clean": []}
        contract = self._whole.select((*self.columns, *sorted(more))) if self._whole is not None else None
        moments = {**self._moments, **{name: how for name, how in others["moments"].items() if name in more}}
        clean = list(self._clean)
        for rule in others["clean"]:
            mine = [name for name in rule["column"] if name in more]
            clean += [{**rule, "column": mine}] if mine else []
        intake = compile_row_intake([CleanSpec.model_validate(one) for one in clean], moments, contract)
        treat = compile_row_treatment(self._whole, {*self.columns, *more}, moments)
        return contract, intake if treat is None else lambda row: intake(treat(row))

    def _beyond(self, row: Mapping[str, Any]) -> tuple[Contract | None, Callable[[Any], Any], tuple[str, ...]]:
        """How a request is read and judged that brings other columns than those read, and the unknown ones."""
        beyond = row.keys() - self._names
        more = frozenset(beyond & self._beside)
        made = self._made.get(more)
        if made is None:
            if len(self._made) >= 64:
                self._made.clear()
            contract, intake = self._as_brought(more)
            made = self._made[more] = contract if contract is not None and contract.rules else None, intake
        unknown = sorted(beyond - more - {self.unit, "decision_time"}) if self._tells else []
        rules = tuple(f"{UNKNOWN}{ascii(name)[1:-1][:60]}" for name in unknown[:TOLD])
        return *made, (*rules, f"{UNKNOWN}and more") if len(unknown) > TOLD else rules

    @property
    def asked(self) -> dict[str, str]:
        """Name and datatype of what a request brings: its own columns, moments as RFC 3339 text; or the inputs."""
        if self._store is None:
            return super().asked
        return {name: DATATYPES[kind] for name, kind in self.columns.items()}

    def judge(self, row: Mapping[str, Any], due_us: int = 0) -> Judged:
        """The inputs of a request that is due at `due_us` (since 1970), with every rule it breaks.

        Besides the rules of the inputs: those of the spine's contract, by their ids there, about every column that
        the request brings; `unknown:<column>`, recorded, for one that the spine does not have; `stale:<view>`,
        recorded; `ahead:<view>`, recorded with null for its lookups and windows (which refuses a row where one of its
        features was never null in training), where the store stands after the decision time; `unavailable:features`,
        when the online store cannot answer, which keeps the row from being answered. So do `null:<column>` and
        `missing:<column>` of a column that names an entity and was never null in training, and, where the view says
        `refuse`, `stale:<view>` of an entity without an event that is young enough and `absent:<view>` of one that the
        store holds nothing of (recorded where the view says otherwise).
        """
        return self.judge_many([row], [due_us])[0]

    def judge_many(self, rows: Sequence[Mapping[str, Any]], due_us: Sequence[int]) -> list[Judged]:
        """As `judge`, for all requests of one turn, with one look into the store."""
        made: list[Judged | None] = [None] * len(rows)
        asked: list[tuple[int, Mapping[str, Any], tuple[str, ...]]] = []
        for n, row in enumerate(rows):
            if self._told and not self._told.isdisjoint(row):
                made[n] = super().judge(row)
                continue
            broken: tuple[str, ...] = ()
            unknown: tuple[str, ...] = ()
            contract, intake = self._contract, self._intake
            if not row.keys() <= self._names:
                contract, intake, unknown = self._beyond(row)
            given, row, broken = row, intake(row), unknown
            if contract is not None:
                verdict = contract.judge_row(row)
                row, broken = verdict.row, (*verdict.broken, *unknown)
                if verdict.refused:
                    made[n] = Judged(self.nothing, leading(broken, self._grave), True, row)
                    continue
            lacks = tuple(
                f"{'null' if name in given else 'missing'}:{name}"
                for name in self._keys
                if text_of(row.get(name)) is None
            )
            if lacks:
                made[n] = Judged(self.nothing, leading((*lacks, *broken)), True, row)
                continue
            asked.append((n, row, broken))
        if self._parts and self._store is not None:
            times = [due_us[n] for n, _, _ in asked]
            found = read_together(self._store, self._parts, [row for _, row, _ in asked], times)
            if found:
                self._tell(found[0])
            for (n, row, broken), reads in zip(asked, found, strict=True):
                made[n] = self._judged(row, broken, due_us[n], reads)
        else:
            for n, row, broken in asked:
                made[n] = self._judged(row, broken, due_us[n], [])
        return made  # type: ignore[return-value]

    def _tell(self, reads: list[Read] | Unavailable) -> None:
        """Log that the store cannot answer, once, and that it does again."""
        away = isinstance(reads, Unavailable) and not isinstance(reads, NotNow)
        if away != self._away:
            self._away = away
            if isinstance(reads, Unavailable) and away:
                _log.error("features cannot be read: %s; %s (%s)", reads.what, reads.why, reads.fix)
            else:
                _log.warning("features can be read again")

    def _judged(
        self, row: Mapping[str, Any], broken: tuple[str, ...], due_us: int, reads: list[Read] | Unavailable
    ) -> Judged:
        if isinstance(reads, TooOld):
            rule = f"{ABSENT if reads.absent else STALE}{reads.view}"
            return Judged(self.nothing, leading((*broken, rule), (rule,)), True, row)
        if isinstance(reads, Unavailable):
            return Judged(self.nothing, leading((*broken, UNAVAILABLE + "features")), True, row)
        leaves: list[Any] = []
        for read in reads:
            leaves += read.leaves
            if read.stale:
                broken += tuple(f"{STALE}{view}" for view in read.stale)
            if read.absent:
                broken += tuple(f"{ABSENT}{view}" for view in read.absent)
            if read.ahead:
                broken += tuple(f"{AHEAD}{view}" for view in read.ahead)
        try:
            values = self._program(row, EPOCH + timedelta(microseconds=due_us), leaves)
        except WrongValue as wrong_value:
            return Judged(self.nothing, leading((*broken, f"type:{wrong_value.column}")), True, row)
        except Invalid as error:
            return Judged(self.nothing, leading((*broken, f"type:{error.what.splitlines()[0]}")), True, row)
        quick = self._quick(values)
        if quick is not None:
            return Judged(quick[0], leading((*broken, *quick[1])) if quick[1] else broken, False, row)
        judged = super().judge(dict(zip(self._program.names, values, strict=True)))
        return Judged(judged.values, leading((*broken, *judged.broken)), judged.hard, row)


def inputs_of(bundle: Bundle, store: Online | None = None) -> Inputs:
    """How the rows of a version are read: made from requests where the bundle says how, else as they come."""
    if store is not None:
        return AssembledInputs(bundle, store)
    if not makes_its_inputs(bundle):
        return Inputs(bundle.inputs)
    made = AssembledInputs(bundle)
    return Inputs(bundle.inputs) if made.plain else made


def makes_its_inputs(bundle: Bundle) -> bool:
    """Whether the inputs of a version can be made from the request alone."""
    if bundle.request is None or bundle.request.get("format") not in FORMATS:
        return False
    views = together(view for doc in bundle.request["groups"] for view in from_doc(doc).views)
    return portable(views) and {one.name for one in bundle.inputs} <= set(views.names)
