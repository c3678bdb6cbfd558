"""Commands of the loop itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from loopline.interfaces.cli.answer import FAILED, OK, REFUSED, Answer, table
from loopline.interfaces.cli.progress import Progress
from loopline.interfaces.cli.session import HERE, Folder, Json, Reason, moment_of, session

if TYPE_CHECKING:
    from loopline.loop.project import Project
    from loopline.retraining.nouns import Transition
    from loopline.workspace import Workspace

ENDINGS = {
    "FAILED": (FAILED, "loopline run"),
    "ROLLED_BACK": (FAILED, "loopline why"),
    "REJECTED": (REFUSED, "loopline status"),
    "SUPPRESSED": (REFUSED, "loopline plan"),
    "DATA_INCIDENT": (REFUSED, "loopline incident list"),
    "AWAIT_APPROVAL": (OK, 'loopline approve --reason "..."'),
    "PROMOTED": (OK, "loopline up"),
}


def run(*, project: Folder = HERE, json: Json = False) -> Answer:
    """Run one whole cycle now: rows, candidate, gates, and as far towards release as it may go."""
    from loopline.data.nouns import Ingestion
    from loopline.interfaces.cli.taken_in import told
    from loopline.loop import engine

    ws, found = session(project, create=True)
    before = len(ws.records.find(Ingestion))
    with Progress(quiet=json) as progress:
        made = engine.run(ws, found.check(), progress=progress)
    if not made and (seen := engine.status(ws, found))["state"] != "IDLE":
        text = f"nothing was started: {_waits(seen)}\n\n{_standing(seen)}"
        doc = {"state": seen["state"], "transitions": [], "notices": found.spec.notices}
        return Answer(text, doc, _moves(seen), REFUSED)
    came = told(ws, found, ws.records.find(Ingestion, newest_first=False)[before:])
    notes = (*found.spec.notices, *came, *_sensitive(ws, found), *_left_out(ws, made))
    return _moved(made, notes, "nothing was left to do", judge=True)


def _waits(seen: dict[str, Any]) -> str:
    """What the cycle that is not over waits for."""
    cycle, why = seen.get("cycle") or {}, (seen.get("next") or {}).get("why")
    since = f", begun {cycle['started_at'][:16]}Z," if cycle.get("started_at") else ""
    return f"the cycle before{since} is {'paused' if cycle.get('paused') else 'not over'} at {seen['state']}" + (
        f": {why}" if why else ""
    )


def _moves(seen: dict[str, Any]) -> tuple[str, ...]:
    """Commands that move the cycle that is not over."""
    if (seen.get("cycle") or {}).get("paused"):
        return ('loopline resume --reason "..."', 'loopline cancel --reason "..."')
    return _urgent(seen) if seen.get("state") == "AWAIT_APPROVAL" else ("loopline tick", "loopline plan")


def _sensitive(ws: Workspace, found: Project) -> tuple[str, ...]:
    """Which features read columns of people: told, never refused."""
    from loopline.base.errors import LooplineError
    from loopline.governance.sensitive import sensitive_features

    spec = found.spec
    try:
        read = sensitive_features(ws, found.root, spec.framing, spec.features, spec.data)
    except LooplineError:  # what keeps them from being read has been told by the run
        return ()
    return tuple(one.told for one in read)


def _left_out(ws: Workspace, made: list[Transition]) -> tuple[str, ...]:
    """Rows that the candidate does not learn from, and why."""
    from loopline.features import TrainingSet, left_out
    from loopline.loop.facts import CYCLE

    row = ws.records.row(CYCLE, made[-1].cycle) if made else None
    used = row.doc.get("changes", {}).get("training_set") if row is not None else None
    return left_out(ws.records.get(TrainingSet, used)) if used else ()


def tick(*, project: Folder = HERE, json: Json = False) -> Answer:
    """Let the loop do what is due, and stop: for cron and CI."""
    from loopline.loop import engine

    ws, found = session(project, create=True)
    with Progress(quiet=json) as progress:
        made = engine.tick(ws, found.check(), progress=progress)
    return _moved(made, (), "nothing was due", judge=False)


def _moved(made: list[Transition], notices: tuple[str, ...], nothing: str, *, judge: bool) -> Answer:
    lines = [f"note: {notice}" for notice in notices]
    lines += [f"{t.before} -> {t.after}: {t.why}" for t in made] or [nothing]
    code, hint = ENDINGS.get(made[-1].after, (OK, "loopline status")) if made else (OK, "loopline status")
    state = made[-1].after if made else None
    doc = {"state": state, "transitions": made, "notices": notices}
    return Answer("\n".join(lines), doc, (hint,), code if judge or code == FAILED else OK)


def status(*, project: Folder = HERE, json: Json = False) -> Answer:
    """Show where the loop stands: cycle, champion, quality, incidents, budget and what comes next."""
    from loopline import serving
    from loopline.loop import engine

    ws, found = session(project)
    running = serving.supervisor_pid(ws, found.name) is not None
    seen = {**engine.status(ws, found), "endpoint_running": running}
    return Answer(_standing(seen), seen, _urgent(seen))


def _standing(seen: dict[str, Any]) -> str:
    champion, budget, coming = seen.get("champion"), seen.get("budget") or {}, seen.get("next") or {}
    quality, incidents = seen.get("quality") or {}, seen.get("incidents") or []
    rows = [
        ("loop", f"{seen['name']}  {seen['state']}  (mode {seen.get('mode')}, {seen.get('at')})"),
        ("champion", f"version {champion['number']}, by {champion['author']}" if champion else "none yet"),
        ("quality", ", ".join(f"{k} {_interval(v)}" for k, v in quality.items()) or "no labelled window yet"),
        ("incidents", "; ".join(i["title"] for i in incidents) or "none open"),
    ]
    if told := _endpoint(seen):
        rows.insert(3, ("endpoint", told))
    if late := seen.get("late"):
        rows.append(("late views", ", ".join(f"{view} (since {at[:16]}Z)" for view, at in late.items())))
    if budget:
        rows.append(
            ("budget", f"{budget.get('spent')} of {budget.get('runs')} runs in {budget.get('per_days'):g} days")
        )
    if coming:
        rows.append(("next", f"{coming.get('next')}: {coming.get('why')}"))
    return table(rows)


def _endpoint(seen: dict[str, Any]) -> str:
    """What the data plane says of itself, its error first; empty before it ever ran."""
    endpoint, running = seen.get("endpoint"), seen.get("endpoint_running")
    if endpoint is None:
        return ""
    serves = ", ".join(f"version {v['number']} {v['role']} {v['share'] / 100:g} %" for v in endpoint["serving"])
    said = [] if not endpoint["error"] else [f"ERROR {endpoint['error']}"]
    said += [] if running is not False else ["not running: `loopline up` starts it"]
    said.append(f"serves {serves or 'nothing'} (generation {endpoint['generation']})")
    if endpoint["rolled_back"] and endpoint["reason"]:
        said.append(f"took a canary out: {endpoint['reason']}")
    return "; ".join(said)


def _interval(value: Any) -> str:
    if not isinstance(value, (list, tuple)):
        return f"{value:.3f}" if isinstance(value, float) else str(value)
    middle, low, high = value
    return f"{middle:.3f} [{low:.3f}, {high:.3f}]"


def _urgent(seen: dict[str, Any]) -> tuple[str, ...]:
    if seen.get("state") == "AWAIT_APPROVAL":
        return ('loopline approve --reason "..."', 'loopline reject --reason "..."')
    if seen.get("incidents"):
        return ("loopline incident list", "loopline plan")
    if (seen.get("endpoint") or {}).get("error"):
        return ("loopline doctor", 'loopline rollback --reason "..."')
    if seen.get("champion") is None:
        return ("loopline run",)
    if seen.get("late"):
        return ("loopline features freshness", "loopline plan")
    return ("loopline plan", "loopline why")


def plan(
    *,
    project: Folder = HERE,
    at: Annotated[str | None, Parameter(help="A date or a time with its zone; now by default.")] = None,
    assume: Annotated[
        tuple[str, ...], Parameter(negative="", help="A metric's trailing value, as roc_auc=0.70; may repeat.")
    ] = (),
    json: Json = False,
) -> Answer:
    """Show what the loop would do now, at a time, or under an assumption. Nothing is done."""
    from loopline.loop import engine

    ws, found = session(project)
    decision = engine.plan(ws, found, at=moment_of(at) if at else None, assume=_assumed(assume) or None)
    lines = [f"{decision.state} -> {decision.next}: {decision.why}"]
    rows = [("ok" if g.passed else "no", g.name, str(g.observed), str(g.threshold)) for g in decision.guards]
    if rows:
        lines += ["", table(rows, head=("", "guard", "observed", "threshold"))]
    if decision.effects:
        lines += ["", "would do: " + ", ".join(effect.kind for effect in decision.effects)]
    if decision.wait_until:
        lines.append(f"looks again {decision.wait_until:%Y-%m-%d %H:%M} UTC")
    return Answer("\n".join(lines), decision, ("loopline tick",))


def _assumed(given: tuple[str, ...]) -> dict[str, float]:
    from loopline.base.errors import Invalid

    found: dict[str, float] = {}
    for text in given:
        name, _, value = text.partition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError as error:
            raise Invalid(
                f"--assume {text!r} is not understood", why="it names a metric and a value", fix="--assume roc_auc=0.70"
            ) from error
    return found


def pause(*, reason: Reason = "", project: Folder = HERE, json: Json = False) -> Answer:
    """Pause the running cycle; nothing moves until it is resumed."""
    return _command("pause", reason, project, "loopline resume")


def resume(*, reason: Reason = "", project: Folder = HERE, json: Json = False) -> Answer:
    """Resume the paused cycle."""
    return _command("resume", reason, project, "loopline tick")


def cancel(*, reason: Reason = "", project: Folder = HERE, json: Json = False) -> Answer:
    """Cancel the running cycle; what is in production stays there."""
    return _command("cancel", reason, project, "loopline tick")


def override(*, reason: Reason, project: Folder = HERE, json: Json = False) -> Answer:
    """Go on although a data incident is open: its window stays out of training."""
    return _command("override", reason, project, "loopline tick")


def _command(do: str, reason: str, folder: Any, hint: str) -> Answer:
    from loopline.loop import engine

    ws, found = session(folder)
    signal = engine.command(ws, found, do=do, reason=reason)
    ws.wake()
    return Answer(f"asked the loop {found.name} to {do}", signal, (hint,))
