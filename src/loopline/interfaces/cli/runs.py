"""Commands of the run log: what was logged, compared, moved, delivered."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from loopline.base.figures import figure, figures, plural
from loopline.base.sizes import size_text
from loopline.interfaces.cli.answer import Answer, table
from loopline.interfaces.cli.session import ANYWHERE, Json, Where

if TYPE_CHECKING:
    from loopline.base.errors import NotFound
    from loopline.store.runs.protocol import Run
    from loopline.workspace import Workspace

One = Annotated[str, Parameter(help="Id of a run, or how it begins.")]
Many = Annotated[tuple[str, ...], Parameter(help="Ids of runs, or how they begin.", negative="")]
BARS = "▁▂▃▄▅▆▇█"
WIDTH = 40
OWN = ("system/", "cost/")
SYNC = "loopline runs sync"
CHARACTERS = 80
LEFT = {
    "BROKE_OFF": ("broke off", "its process died before it ended the run; `loopline runs sync` ends it as killed"),
    "UNDELIVERED": ("not delivered", "it has ended, and its end waits in the spool; `loopline runs sync` delivers it"),
}


def list_runs(
    *,
    experiment: Annotated[str | None, Parameter(help="Name of an experiment; all by default.")] = None,
    filter: Annotated[str, Parameter(help="For example \"metrics.auc > 0.8 and params.leaves = '31'\".")] = "",
    order: Annotated[tuple[str, ...], Parameter(help='For example "metrics.auc DESC".', negative="")] = (),
    limit: Annotated[int, Parameter(help="How many at most.")] = 20,
    deleted: Annotated[bool, Parameter(negative="", help="Those that are deleted.")] = False,
    where: Where = ANYWHERE,
    json: Json = False,
) -> Answer:
    """List runs, newest first."""
    from loopline.training.runs import runs
    from loopline.training.tracking.left import left_behind

    ws = where.open()
    found = runs(ws, experiment=experiment, filter=filter, order_by=list(order), limit=limit, deleted=deleted)
    left = left_behind(ws)
    if not found:
        hints = (SYNC,) if left else ("loopline runs list",) if experiment or filter or deleted else ()
        none = "no run fits" if experiment or filter or deleted else "no run was logged yet"
        return Answer("\n".join([none, *_waiting(ws, left)]), {"runs": []}, hints)
    names = {one["info"]["experiment_id"]: "" for one in found}
    names = {id: ws.runs.experiment(id).name for id in names}
    shown = _most_told([_metrics(one) for one in found])
    head = ("run", "experiment", "name", "status", "began", *(cut(key, 24) for key in shown))
    rows, every = [], [_metrics(one) for one in found]
    columns = [iter(figures([one.get(key) for one in every])) for key in shown]
    for one in found:
        info = one["info"]
        cells = (
            _short(info["run_id"]),
            cut(names[info["experiment_id"]], 24),
            cut(info["run_name"], 28),
            _standing(info, left),
        )
        rows.append((*cells, _when(info.get("start_time")), *(next(of) or "" for of in columns)))
    gone = {info["run_id"]: left[info["run_id"]] for info in (one["info"] for one in found) if _is_left(info, left)}
    text = "\n".join([table(rows, head=head), *_told_left(gone), *_waiting(ws, left)])
    hints = (f"loopline runs show {_short(found[0]['info']['run_id'])}", *((SYNC,) if left else ()))
    return Answer(text, {"runs": found, "left": gone}, hints)


def show(run: One, *, where: Where = ANYWHERE, json: Json = False) -> Answer:
    """Show a run: params, metrics, tags, data, files."""
    from loopline.training.runs import logged_run
    from loopline.training.tracking.left import left_behind

    ws = where.open()
    found = logged_run(ws, run)
    info, id = found["info"], found["info"]["run_id"]
    left = left_behind(ws) if info["status"] == "RUNNING" else {}
    gone = {id: left[id]} if _is_left(info, left) else {}
    files = ws.artifacts.files(id)
    lines = [
        f"{info['run_name'] or 'run'}  {id}",
        f"{found['experiment']}, {_standing(info, left)}, by {info['user_id']}, began {_when(info.get('start_time'))}"
        + (", deleted" if info["lifecycle_stage"] == "deleted" else ""),
        *_told_left(gone),
    ]
    for title, rows in (
        ("params", [(one["key"], cut(one["value"])) for one in found["data"]["params"]]),
        (
            "metrics",
            [(one["key"], _figure(_number(one["value"])), f"step {one['step']}") for one in found["data"]["metrics"]],
        ),
        ("tags", [(one["key"], cut(one["value"])) for one in found["data"]["tags"]]),
        (
            "data",
            [(one["dataset"]["name"], one["dataset"]["digest"][:16]) for one in found["inputs"]["dataset_inputs"]],
        ),
        ("files", [(one.path, size_text(one.size)) for one in files]),
    ):
        if rows:
            lines += ["", title, *("  " + line for line in table(rows).splitlines())]
    doc = {**found, "files": [one._asdict() for one in files], **({"left": gone[id]} if gone else {})}
    hints = (f"loopline runs metrics {_short(id)}", *((SYNC,) if gone else ()))
    return Answer("\n".join(_plain(line) for line in lines), doc, hints)


def compare(runs: Many, *, every: Annotated[bool, Parameter("--all", negative="", help="Equal rows too.")] = False,
            where: Where = ANYWHERE, json: Json = False) -> Answer:  # fmt: skip
    """Compare runs: params, metrics, data, code and environment that differ."""
    from loopline.base.errors import Invalid
    from loopline.training.runs import logged_run

    if len(runs) < 2:
        raise Invalid("one run cannot be compared", why="two or more are needed", fix="loopline runs compare ID ID")
    ws = where.open()
    found = [logged_run(ws, run) for run in runs]
    told, numbers = [_told(one) for one in found], [_metrics(one) for one in found]
    keys = list(dict.fromkeys(key for one in told for key in one))
    rows = [(key, *(one.get(key, "") for one in told)) for key in keys]
    for key in dict.fromkeys(key for one in numbers for key in one):
        rows.append((f"metric {key}", *(text or "" for text in figures([one.get(key) for one in numbers]))))
    differ = [row for row in rows if len(set(row[1:])) > 1]
    ids = [_short(one["info"]["run_id"]) for one in found]
    shown = rows if every else differ
    text = table([tuple(_cells(row)) for row in shown], head=("", *ids))
    if not differ:
        text = "nothing differs" if not every else text
    doc = {"runs": [one["info"]["run_id"] for one in found], "differ": {row[0]: list(row[1:]) for row in differ}}
    return Answer(text, doc, (f"loopline runs metrics {ids[0]}",))


def _cells(row: tuple[str, ...]) -> Iterator[str]:
    """A row that fits; where beginnings look the same, from the place on where they differ."""
    first, last = min(row[1:]), max(row[1:])
    same = next((at for at, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), len(first))
    start = same - 16 if same > 32 and first != last else 0
    for at, cell in enumerate(row):
        yield cut(cell, 48) if at == 0 or not start else "…" + cut(cell[start:], 47)


def metrics(
    run: One,
    key: Annotated[str | None, Parameter(help="A series; all, one line each, by default.")] = None,
    *,
    where: Where = ANYWHERE,
    json: Json = False,
) -> Answer:
    """Show the series of a run, drawn small."""
    from loopline.training.runs import find_run, series

    ws = where.open()
    found = find_run(ws, run)
    if key is not None:
        points = series(ws, found.id, key)
        if not points:
            raise _no_series(found, key)
        doc = [{"step": one.step, "at_ms": one.at_ms, "value": _sendable(one.value)} for one in points]
        rows = [(str(one.step), _when(one.at_ms), _figure(one.value)) for one in points[-20:]]
        text = sparkline([one.value for one in points]) + "\n" + table(rows, head=("step", "at", "value"))
        return Answer(text, {"run": found.id, "key": key, "points": doc}, (f"loopline runs show {_short(found.id)}",))
    docs: list[dict[str, Any]] = []
    drawings: list[tuple[str, ...]] = []
    for point in found.metrics:
        chart = ws.runs.chart(found.id, point.key, buckets=WIDTH)
        drawn = sparkline([math.nan if value is None else value for value in chart.last])
        drawings.append((_plain(point.key), _figure(point.value), f"{chart.points:,}", drawn))
        docs.append({"key": point.key, "last": _sendable(point.value), "step": point.step, "points": chart.points})
    text = table(drawings, head=("series", "last", "points", "")) if drawings else "no series"
    return Answer(text, {"run": found.id, "series": docs}, (f"loopline runs metrics {_short(found.id)} KEY",))


def _no_series(run: Run, key: str) -> NotFound:
    from difflib import get_close_matches

    from loopline.base.errors import NotFound

    keys = [point.key for point in run.metrics]
    near = get_close_matches(key, keys, n=4, cutoff=0.3) or keys[:4]
    return NotFound(
        f"the run {_short(run.id)} has no series {key!r:.100}",
        why=f"it has {', '.join(map(repr, near))}{' and others' if len(keys) > len(near) else ''}"
        if keys
        else "no metric was logged in it",
        fix=f"see them all: `loopline runs metrics {_short(run.id)}`",
    )


def artifacts(
    run: One,
    path: Annotated[str | None, Parameter(help="A file of the run to fetch; a list of them by default.")] = None,
    *,
    to: Annotated[Path | None, Parameter(help="Where to write it; standard output by default.")] = None,
    where: Where = ANYWHERE,
    json: Json = False,
) -> Answer:
    """List the files of a run, or fetch one."""
    from loopline.training.runs import find_run

    ws = where.open()
    found = find_run(ws, run)
    if path is None:
        files = ws.artifacts.files(found.id)
        rows = [(_plain(one.path), size_text(one.size), one.digest[:12]) for one in files]
        text = table(rows, head=("file", "size", "sha256")) if rows else "no file"
        next = (f"loopline runs artifacts {_short(found.id)} {files[0].path}",) if files else ()
        return Answer(text, {"run": found.id, "files": [one._asdict() for one in files]}, next)
    data = ws.artifacts.read(found.id, path)
    if to is not None:
        to = to / PurePosixPath(path).name if to.is_dir() else to
        to.write_bytes(data)
        return Answer(
            f"{to}  {size_text(len(data))}", {"run": found.id, "path": path, "file": str(to), "bytes": len(data)}
        )
    text = data.decode(errors="replace")
    return Answer("", {"run": found.id, "path": path, "text": text}, raw=text)


def sync(
    *,
    to: Annotated[
        str | None, Parameter(help="A server or the folder of a workspace; LOOPLINE_TRACKING_URI by default.")
    ] = None,
    spool: Annotated[Path | None, Parameter(help="Where runs wait; the spool of the workspace by default.")] = None,
    where: Where = ANYWHERE,
    json: Json = False,
) -> Answer:
    """Deliver runs that wait in the spool, each once."""
    from loopline.base import settings
    from loopline.base.errors import NotFound
    from loopline.interfaces.cli.progress import Progress
    from loopline.training.tracking.delivery import target_of
    from loopline.training.tracking.syncing import sync as deliver

    here = where.folder
    if spool is not None and not spool.is_dir():
        raise NotFound(
            f"the spool {spool} is not there", why="it is no folder", fix="leave --spool out for that of the workspace"
        )
    target = target_of(to or settings.tracking_uri(), here)
    try:
        with Progress() as progress:
            done = deliver(spool or settings.spool_folder() or here / "spool", target, say=progress)
    finally:
        target.close()
    text = f"{len(done.runs)} run{'' if len(done.runs) == 1 else 's'} delivered"
    for count, words in (
        (len(done.broken_off), "of them broke off: their process died, they are killed now"),
        (len(done.running), "are still being written, and delivered by their own process"),
        (len(done.damaged), "have damage: what came before it is delivered, the file is set aside"),
    ):
        text += f"\n{count} {words}" if count else ""
    text += "".join(f"\nleft out: {_plain(one)}" for one in done.refused[:20])
    doc = {name: getattr(done, name) for name in ("runs", "frames", "running", "broken_off", "refused", "damaged")}
    return Answer(text, doc, ("loopline runs list",))


def move(
    runs: Many,
    *,
    to: Annotated[str, Parameter(help="Name of the experiment; made if there is none.")],
    where: Where = ANYWHERE,
    json: Json = False,
) -> Answer:
    """Put runs into another experiment; they keep all they hold."""
    from loopline.training.runs import move_runs

    ids = move_runs(where.open(), list(runs), experiment=to)
    return Answer(
        f"{len(ids)} {'run is' if len(ids) == 1 else 'runs are'} in {to}",
        {"runs": ids, "experiment": to},
        (f'loopline runs list --experiment "{to}"',),
    )


def delete(runs: Many, *, where: Where = ANYWHERE, json: Json = False) -> Answer:
    """Delete runs; they can be restored until they are cleaned up."""
    from loopline.training.runs import delete_runs

    ids = delete_runs(where.open(), list(runs))
    return Answer(
        f"{len(ids)} {'run is' if len(ids) == 1 else 'runs are'} deleted",
        {"runs": ids},
        (f"loopline runs restore {' '.join(map(_short, ids))}",),
    )


def restore(runs: Many, *, where: Where = ANYWHERE, json: Json = False) -> Answer:
    """Take back that runs were deleted."""
    from loopline.training.runs import restore_runs

    ids = restore_runs(where.open(), list(runs))
    return Answer(
        f"{len(ids)} {'run is' if len(ids) == 1 else 'runs are'} back", {"runs": ids}, ("loopline runs list",)
    )


def cut(text: str, most: int = CHARACTERS) -> str:
    """A text in one line, its beginning only where it is long."""
    head = _plain(" ".join(text[: 4 * most].split()))
    return head if len(head) <= most and len(text) <= 4 * most else head[: most - 1] + "…"


def _is_left(info: dict[str, Any], left: Mapping[str, str]) -> bool:
    return info["status"] == "RUNNING" and info["run_id"] in left


def _standing(info: dict[str, Any], left: Mapping[str, str]) -> str:
    """The status of a run; why it is none where the log says running and nobody writes it."""
    return LEFT[left[info["run_id"]]][0] if _is_left(info, left) else str(info["status"]).lower()


def _told_left(gone: Mapping[str, str]) -> list[str]:
    return [f"{LEFT[kind][0]}: {LEFT[kind][1]}" for kind in dict.fromkeys(gone.values())]


def _waiting(ws: Workspace, left: Mapping[str, str]) -> list[str]:
    """How many runs wait of which the log knows nothing yet."""
    from loopline.base.errors import NotFound

    count = 0
    for id in left:
        try:
            ws.runs.run(id)
        except NotFound:
            count += 1
    return [f"{plural(count, 'run')} more {'waits' if count == 1 else 'wait'} in the spool"] if count else []


def sparkline(values: list[float]) -> str:
    """A series as a line of blocks; a blank where a value is no finite number."""
    if len(values) > WIDTH:
        values = [values[at * len(values) // WIDTH] for at in range(WIDTH)]
    finite = [value for value in values if math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)
    span = high - low
    return "".join(
        " " if not math.isfinite(value) else BARS[round((value - low) / span * 7) if 0 < span < math.inf else 3]
        for value in values
    )


def _metrics(run: dict[str, Any]) -> dict[str, float]:
    found = {one["key"]: _number(one["value"]) for one in run["data"]["metrics"]}
    return {key: value for key, value in found.items() if not key.startswith(OWN)}


def _most_told(runs: list[dict[str, float]]) -> list[str]:
    """The few metrics that most runs have."""
    counts: dict[str, int] = {}
    for one in runs:
        for key in one:
            counts[key] = counts.get(key, 0) + 1
    return sorted(counts, key=lambda key: (-counts[key], key))[:4]


def _told(run: dict[str, Any]) -> dict[str, str]:
    """What of a run is worth comparing, as text."""
    info = run["info"]
    found = {"name": info["run_name"], "experiment": run["experiment"], "status": info["status"].lower()}
    found |= {f"param {one['key']}": one["value"] for one in run["data"]["params"]}
    found |= {
        f"data {one['dataset']['name']}": one["dataset"]["digest"][:16] for one in run["inputs"]["dataset_inputs"]
    }
    kept = ("loopline.", "mlflow.source.git.commit")
    for one in run["data"]["tags"]:
        if one["key"].startswith(kept):
            found[one["key"].removeprefix("loopline.").removeprefix("mlflow.source.git.")] = one["value"]
    return found


def _number(value: Any) -> float:
    return float(value)


def _sendable(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def _figure(value: float | None) -> str:
    return "" if value is None else figure(value)


def _short(id: str) -> str:
    return id[:18] if "-" in id else id[:16]


def _plain(text: str) -> str:
    """A text of somebody's run, safe to print: control characters are shown, not obeyed."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _when(at_ms: Any) -> str:
    if at_ms is None:
        return ""
    try:
        return f"{datetime.fromtimestamp(int(at_ms) / 1000, UTC):%Y-%m-%d %H:%M:%S}"
    except (OverflowError, ValueError, OSError):
        return str(at_ms)
