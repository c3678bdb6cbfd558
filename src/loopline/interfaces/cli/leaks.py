"""The search for leaks, by hand."""

from __future__ import annotations

import re
from json import dumps
from typing import TYPE_CHECKING

from loopline.interfaces.cli.answer import OK, REFUSED, Answer, table
from loopline.interfaces.cli.session import HERE, Folder, Json, session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from loopline.features.nouns import Leak, LeakageReport

WORDS = ("y", "n", "yes", "no", "on", "off", "true", "false", "null", "none")
"""Names that YAML takes for something else."""


def leaks(*, project: Folder = HERE, json: Json = False) -> Answer:
    """Search the rows that would be trained on now for leaks, as every training does before it begins.

    Ends with 3 when a finding would keep the rows from being trained on.
    """
    from loopline import data, features, monitoring

    ws, found = session(project, create=True)
    spec, root = found.spec, found.check().root
    data.ingest(ws, root, spec.data)
    made = features.training_set(
        ws,
        root,
        framing=spec.framing,
        features=spec.features,
        training=spec.training,
        tables=spec.data,
        evaluation_slices=spec.evaluation.slices,
        excluded_windows=monitoring.excluded_windows(ws),
    )
    report = features.leaks(
        ws,
        root,
        framing=spec.framing,
        features=spec.features,
        training=spec.training,
        tables=spec.data,
        training_set=made,
    )
    size = f"{made.train_rows + made.test_rows:,} rows, {len(made.features)} features"
    skipped = [f"not looked for: {kind} ({why})" for kind, why in report.skipped.items()]
    skipped += [f"not a feature: {name} ({why})" for name, why in report.not_features.items()]
    skipped += [f"note: {line}" for line in features.left_out(made)]
    return answer(report, size, skipped)


def answer(report: LeakageReport, size: str, skipped: Sequence[str]) -> Answer:
    """What was found, once each with what to do, and the command that comes next."""
    if not report.findings:
        text = [f"no leak in {size}; {len(report.checked)} kinds looked for", *skipped]
        return Answer("\n".join(text), report, ("loopline run",))
    rows = [
        (leak.kind, leak.column or "-", _figure(leak.score), _figure(leak.bound), _verdict(leak))
        for leak in report.findings
    ]
    told = [f"{leak.column or leak.kind}: {leak.evidence}\n  fix: {leak.fix}" for leak in report.findings]
    if report.refusing:
        told += ["", "where one is none, say so in loop.yaml, with a reason:", *accepting(report.refusing), ""]
    text = [table(rows, head=("kind", "where", "measured", "believed", "verdict")), "", *told, *skipped]
    hints = ("loopline features leaks --json",) if report.refusing else ("loopline run",)
    return Answer("\n".join(text), report, hints, code=REFUSED if report.refusing else OK)


def accepting(found: Sequence[Leak]) -> list[str]:
    """Lines of loop.yaml that accept findings, once their reasons are written."""
    named = [f"kind: {one.kind}" + (f", column: {_plain(one.column)}" if one.column else "") for one in found]
    lines = [f'      - {{{one}, reason: "..."}}' for one in dict.fromkeys(named)]
    return ["training:", "  leakage:", "    accept:", *lines]


def _plain(name: str) -> str:
    """A name as YAML reads it back: in quotes where anything in it could mean something else."""
    return name if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.]*", name) and name.lower() not in WORDS else dumps(name)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _verdict(leak: Leak) -> str:
    if leak.accepted is not None:
        return f"accepted: {leak.accepted}"
    return "blocks" if leak.blocking else "told"
