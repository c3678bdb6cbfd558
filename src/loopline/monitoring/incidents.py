"""From findings to alerts, and from alerts to one incident per cause."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from loopline.base.ids import content_id, iso
from loopline.monitoring.drift import PARTS
from loopline.monitoring.finding import Finding
from loopline.monitoring.nouns import Alert, Incident

PLAYBOOKS = {
    "unit_change": "Ask the source which unit it sent. Have it send the rows again with the same keys: the incident "
    "ends by itself when the corrected rows pass. If the new unit is meant to stay, resolve the incident as real.",
    "null_burst": "See whether the source lost the field or a join broke. Rows sent again with the same keys end the "
    "incident; if the field is gone for good, resolve it as real and retrain without it.",
    "constant": "A sensor or a default is stuck. Rows sent again with the same keys end the incident.",
    "new_category": "Values are spelt in a new way. Map them at the source, or resolve as real and retrain.",
    "contract": "See who sends these requests, and what was deployed there; the alert names some of them. Mend the "
    "sender, or accept the values into the contract and train anew; then resolve the incident.",
    "schema": "A column is gone or has changed its type. Ask the source what was deployed.",
}


def alert(subject: str, layer: str, finding: Finding, since: datetime, until: datetime, at: datetime) -> Alert:
    """The alert of a finding in the window (since, until]."""
    column = finding.columns[0] if len(finding.columns) == 1 else None
    evidence = dict(finding.evidence)
    if len(finding.columns) > 1:
        evidence.setdefault("columns", list(finding.columns))
    if finding.parts is not None:
        first, last = bad_range(finding, since, until)
        evidence["part"] = [iso(first), iso(last)]
    key = {
        "subject": subject,
        "cause": finding.cause,
        "columns": list(finding.columns),
        "from": iso(since),
        "to": iso(until),
        **({"rule": evidence["rule"]} if "rule" in evidence else {}),
    }
    return Alert(
        id=content_id(key),
        subject=subject,
        layer=layer,
        check=finding.cause,
        column=column,
        window_from=since,
        window_to=until,
        p_value=finding.p_value,
        cause=finding.cause,
        verdict=finding.verdict,
        evidence=evidence,
        at=at,
    )


def bad_range(finding: Finding, since: datetime, until: datetime) -> tuple[datetime, datetime]:
    """The part of the window that a finding is about."""
    if finding.parts is None:
        return since, until
    step = (until - since) / PARTS
    return since + finding.parts[0] * step, since + (finding.parts[1] + 1) * step


def open_incident(
    subject: str, findings: Sequence[Finding], alerts: Sequence[Alert], since: datetime, until: datetime, at: datetime
) -> Incident:
    """One data incident for the bugs that a window of one subject shows."""
    causes = sorted({f.cause for f in findings})
    ranges = [bad_range(f, since, until) for f in findings]
    return Incident(
        id=content_id({"kind": "data", "subject": subject, "causes": causes, "from": iso(since)}),
        subject=subject,
        area="data",
        title=f"{subject.partition(':')[2]}: " + "; ".join(_title(f) for f in findings[:3]),
        alerts=tuple(a.id for a in alerts),
        bad_from=min(r[0] for r in ranges),
        bad_to=max(r[1] for r in ranges),
        opened_at=at,
        playbook=" ".join(PLAYBOOKS[c] for c in causes if c in PLAYBOOKS),
    )


def _title(finding: Finding) -> str:
    columns = ", ".join(finding.columns[:4]) or "rows"
    match finding.cause:
        case "unit_change":
            return f"{columns} in another unit ({finding.evidence['conversion']})"
        case "null_burst":
            return f"{columns} missing in {finding.evidence['missing']:.0%} of rows"
        case "constant":
            return f"{columns} stuck at {finding.evidence['value']}"
        case "new_category":
            return f"{columns} spelt in a new way"
        case "contract":
            return f"{finding.evidence['rule']} broken by {finding.evidence['share']:.2%} of requests"
        case "schema":
            return f"{columns} is {finding.evidence['is']}, was {finding.evidence['was']}"
    return f"{columns}: {finding.cause}"
