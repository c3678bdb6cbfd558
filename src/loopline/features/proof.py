"""Proof that training and serving agree: logged requests go through the batch path again.

The log gives who was asked about, when, and what the request itself brought; everything else is computed anew
from the raw tables as they were known then. A difference is then a difference between the two paths: another
definition, rows that came too late or too early, an online store that stood still.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from loopline.base.errors import NotFound
from loopline.base.ids import content_id
from loopline.base.nouns import to_doc
from loopline.data.spec import TableSpec
from loopline.features.assemble import compute
from loopline.features.beside import as_then
from loopline.features.logged import ROW, logged, served_columns, spine_of, unread
from loopline.features.nouns import Mismatch, ParityReport
from loopline.features.requests import groups_of
from loopline.features.sources import histories
from loopline.features.spec import FeaturesSpec
from loopline.features.verbs import project_views
from loopline.features.views import Views, load_views, together
from loopline.framing.spec import FramingSpec
from loopline.workspace import Workspace, verb

ULPS = 4
"""Units in the last place of a 32-bit float by which values of `INEXACT` operators may differ."""
INEXACT = ("log1p", "call")
EXAMPLES = 20
AHEAD = "the online store stood after their decision time"
ELSEWHERE = "computed elsewhere"
"""Why features of external views are not recomputed."""


@verb("features.parity")
def parity(
    ws: Workspace,
    project: Path,
    *,
    framing: FramingSpec,
    features: FeaturesSpec,
    tables: Mapping[str, TableSpec],
    endpoint: str,
    rows: int = 1000,
    since: datetime | None = None,
    until: datetime | None = None,
    versions: Sequence[str] | None = None,
    views: tuple[str, ...] | None = None,
    training_set: str | None = None,
    training_sets: Mapping[str, str] | None = None,
    reads: Sequence[str] | None = None,
) -> ParityReport:
    """Recompute logged requests by the batch path and compare every value the model read.

    Parameters
    ----------
    endpoint : str
        Whose log, `predictions/<endpoint>`; answers still in journals are not in it (`serving.flush`).
    rows : int
        How many of the newest requests, shadows not counted twice.
    since, until : datetime, optional
        Only decision times from `since` and before `until`.
    versions : sequence of str, optional
        Only what these versions answered.
    views : tuple of str, optional
        Files with views instead of those of `features`.
    training_set : str, optional
        The views that it was made of, as they were then, instead of any file; of functions of the project, those
        whose text is still in its view files.
    training_sets : mapping, optional
        Training set by version: what a version answered is judged by the views that its own was made of. Answers
        of others are judged by `views`, or those of `features`.
    reads : sequence of str, optional
        Features that the versions read. By default all that a version was trained on; of versions whose training set
        is not told, those that the log holds for any of the rows.

    Raises
    ------
    NotFound
        If the log holds no such request.
    """
    log = logged(ws, endpoint, rows, since, until, versions)
    parts = []
    files = views or features.views
    for made_of, part in _by_views(ws, project, files, log, {} if training_set else training_sets or {}):
        found = made_of or _views(ws, project, framing, features, tables, views, training_set)
        parts.append(_compared(ws, framing, features, tables, found, part.drop(ROW).with_row_index(ROW), reads))
    mismatches: dict[str, int] = {}
    unchecked: dict[str, str] = {}
    unproven: dict[str, None] = {}
    examples: list[Mismatch] = []
    for one in parts:
        mismatches |= {name: mismatches.get(name, 0) + n for name, n in one.mismatches.items()}
        unchecked |= one.unchecked
        unproven |= dict.fromkeys(one.open)
        examples += one.examples
    ids = sorted({one.views.id for one in parts})
    times = pl.concat([one.times for one in parts])
    report = ParityReport(
        id="",
        endpoint=endpoint,
        views=ids[0] if len(ids) == 1 else content_id(ids),
        rows=times.len(),
        values=sum(one.values for one in parts),
        mismatches=mismatches,
        examples=tuple(examples[:EXAMPLES]),
        unchecked=unchecked,
        since=times.min(),  # type: ignore[arg-type]
        until=times.max(),  # type: ignore[arg-type]
        created_at=ws.clock(),
        versions=tuple(versions or ()),
        open=tuple(unproven),
    )
    return replace(report, id=content_id({**to_doc(report), "ids": sorted(log["prediction_id"].to_list())}))


@dataclass(frozen=True, slots=True)
class _Compared:
    """Requests that are judged by the same views."""

    views: Views
    times: pl.Series
    """Decision times of those that were recomputed."""
    values: int
    mismatches: dict[str, int]
    unchecked: dict[str, str]
    open: list[str]
    """Features that no request was compared for, though the batch path makes them."""
    examples: list[Mismatch]


class _Then(NamedTuple):
    """The views that answers are judged by."""

    views: Views
    gone: Mapping[str, str] = {}
    """Features that cannot be computed any more, and why."""
    trained: bool = False
    """Whether a model was trained on these: it reads each of their features, and of no other."""


def _views(
    ws: Workspace,
    project: Path,
    framing: FramingSpec,
    features: FeaturesSpec,
    tables: Mapping[str, TableSpec],
    files: tuple[str, ...] | None,
    training_set: str | None,
) -> _Then:
    made = _as_then(ws, project, files or features.views, training_set) if training_set is not None else None
    if made is not None:
        return made
    return _Then(load_views(project, files) if files else project_views(ws, project, framing, features, tables))


def _as_then(ws: Workspace, project: Path, files: Sequence[str], training_set: str) -> _Then | None:
    """What a training set was made of; null where nothing tells it."""
    try:
        groups = groups_of(ws, training_set)
    except NotFound:
        return None
    if groups is not None:
        return _Then(together(view for group in groups for view in group.views), trained=True)
    made = as_then(ws, project, files, training_set)
    return None if made is None else _Then(*made, trained=True)


def _by_views(
    ws: Workspace, project: Path, files: Sequence[str], log: pl.DataFrame, training_sets: Mapping[str, str]
) -> list[tuple[_Then | None, pl.DataFrame]]:
    """The requests by the views that their version was made of; null where nothing tells these."""
    if not training_sets:
        return [(None, log)]
    known: dict[str, _Then] = {}
    of: dict[str, str] = {}
    for version in log["version"].unique().to_list():
        made = _as_then(ws, project, files, training_sets[version]) if version in training_sets else None
        if made is not None:
            known[made.views.id] = made
            of[version] = made.views.id
    mine = log["version"].replace_strict(of, default="", return_dtype=pl.String)
    parts = [(known.get(one), log.filter(mine == one)) for one in mine.unique(maintain_order=True).to_list()]
    return parts


def _compared(
    ws: Workspace,
    framing: FramingSpec,
    features: FeaturesSpec,
    tables: Mapping[str, TableSpec],
    by: _Then,
    log: pl.DataFrame,
    reads: Sequence[str] | None,
) -> _Compared:
    found = by.views
    wanted = reads if reads is not None else [*found.names, *by.gone] if by.trained else None
    served = served_columns(log, found, wanted)
    spine, unknown = spine_of(ws, framing, features, tables, found, log)
    unchecked = {name: ELSEWHERE for one in found.views if one.external for name, _ in one.features}
    unchecked |= unread(log, found, wanted, served, unchecked)
    unchecked |= by.gone
    unproven = [name for name, why in unchecked.items() if why != ELSEWHERE]
    if unknown:
        unchecked[f"{unknown:,} rows"] = f"no row of {features.spine} names their entity"
    names = [name for name in found.names if name in served and name not in unchecked]
    of = {name: one.name for one in found.views for name, _ in one.features}
    mismatches: dict[str, int] = {}
    examples: list[Mismatch] = []
    values = 0
    if spine.height and names:
        low, high = spine["decision_time"].min(), spine["decision_time"].max()
        sources = histories(ws, found, tables, since=low, until=high)  # type: ignore[arg-type]
        made = compute(found, spine, sources, unit=ROW).sort(ROW)
        log = log.join(made.select(ROW), on=ROW, how="semi", maintain_order="left")
        for name in names:
            compared = compare(log[served[name]], made[name], log["broken"], name, tolerance(found, name))
            ahead = log["broken"].list.contains(f"ahead:{of[name]}").fill_null(False)
            if ahead.any():
                unchecked[f"{name} of {ahead.sum():,} rows"] = AHEAD
                compared = compared.zip_with(~ahead, pl.Series([None], dtype=pl.Boolean).new_from_index(0, log.height))
            if not (count := int(compared.is_not_null().sum())):
                unchecked[name] = AHEAD if ahead.all() else "every request broke a rule about it"
                unproven.append(name)
            values += count
            wrong = compared.eq_missing(False).arg_true()
            if wrong.len():
                mismatches[name] = wrong.len()
                room = max(0, EXAMPLES - len(examples))
                examples += [_example(log, made, served[name], name, int(i)) for i in wrong.head(min(3, room))]
    return _Compared(found, spine["decision_time"], values, mismatches, unchecked, unproven, examples)


def parity_gate(report: ParityReport, needed: int = 1000) -> tuple[bool, str]:
    """Whether a report lets a promotion pass, and why (not).

    It passes when at least `needed` requests were recomputed, no value differs, and each feature that the model reads
    was compared, but those of external views, which no batch path makes: what could not be recomputed is named, and
    does not pass for checked.
    """
    if report.mismatches:
        worst = sorted(report.mismatches.items(), key=lambda one: -one[1])
        named = ", ".join(f"{name} ({n:,})" for name, n in worst[:3])
        return False, f"{sum(report.mismatches.values()):,} of {report.values:,} values differ: {named}"
    if report.rows < needed:
        return False, f"{report.rows:,} requests were recomputed, {needed:,} are needed"
    if not report.values:
        return False, "nothing could be compared"
    if report.open:
        return False, f"not compared in any request: {report.left_open}"
    left = f"; not checked: {', '.join(report.unchecked)}" if report.unchecked else ""
    return True, f"{report.values:,} values of {report.rows:,} requests agree{left}"


def tolerance(views: Views, name: str) -> int:
    """By how many units in the last place a feature may differ between the two paths."""
    tree = next(tree for one in views.views for feature, tree in one.features if feature == name)
    return ULPS if any(node.op in INEXACT for node in tree.walk()) else 0


def compare(served: pl.Series, computed: pl.Series, broken: pl.Series, name: str, ulps: int) -> pl.Series:
    """Whether each served value is the computed one; null where the request broke a rule about it.

    Parameters
    ----------
    served, computed : Series, n rows
        Float32 or text; null equals null.
    broken : Series of lists of text
        Rules that each row breaks. A category that training never saw is logged as null, and so is a value of
        a wrong type: there the log does not tell what the feature was.
    ulps : int
        Allowed distance, in units in the last place of a 32-bit float.
    """
    hidden = broken.list.contains(f"unseen:{name}") | broken.list.contains(f"type:{name}")
    if computed.dtype == pl.String:
        same = served.cast(pl.String).eq_missing(computed)
    else:
        same = _near(served.cast(pl.Float32), computed.cast(pl.Float32), ulps)
    nothing = pl.Series([None], dtype=pl.Boolean).new_from_index(0, served.len())
    return same.zip_with(~hidden.fill_null(False), nothing)


def _near(one: pl.Series, other: pl.Series, ulps: int) -> pl.Series:
    places = []
    for values in (one, other):
        bits = values.fill_null(0.0).to_numpy().view(np.int32).astype(np.int64)
        places.append(np.where(bits < 0, -(bits & 0x7FFFFFFF), bits))
    close = pl.Series(np.abs(places[0] - places[1]) <= ulps)
    return (one.is_null() & other.is_null()) | (one.is_not_null() & other.is_not_null() & close)


def _example(log: pl.DataFrame, made: pl.DataFrame, column: str, name: str, row: int) -> Mismatch:
    asked = log.row(row, named=True)
    return Mismatch(
        name, asked["prediction_id"], asked["entity"], asked["decision_time"], asked[column], made[name][row]
    )
