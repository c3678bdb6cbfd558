"""Plays a scenario: the world outside Loopline, day by day, against the real processes.

The player is what surrounds a deployment: producers that deliver data, clients
that ask for predictions, people who propose and approve, and bad luck. All that
Loopline does about it happens in the control plane and the data plane, which
are started as any user starts them.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
from ruamel.yaml import YAML

from loopline import data, features, registry, serving
from loopline.base import settings
from loopline.base.clock import monotonic
from loopline.base.code import calling_user_code, load_function
from loopline.base.errors import FAMILIES, Conflict, Unavailable
from loopline.features.spec import FeaturesSpec
from loopline.interfaces.demo.scenario import Cast, EventSpec, StarveSpec, cast, midnight, read
from loopline.interfaces.serve import HOST, require_free
from loopline.loop import engine, facts
from loopline.loop.project import Project, load
from loopline.retraining.nouns import Transition
from loopline.serving.client import Client, Request
from loopline.workspace import FOLDER, Workspace, create_workspace

DAY = timedelta(days=1)
INSTANT = timedelta(microseconds=1)
TICK_S = 600.0


class Stage:
    """Seconds spent by kind of work."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._stack: list[tuple[str, float]] = []

    def __call__(self, name: str) -> Stage:
        self._stack.append((name, monotonic()))
        return self

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        name, started = self._stack.pop()
        self.seconds[name] = self.seconds.get(name, 0.0) + monotonic() - started


@dataclass
class Told:
    """What happened, for the outcome."""

    requests: int = 0
    refused: int = 0
    fallbacks: int = 0
    days: int = 0
    killed: list[str] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    transitions: list[Transition] = field(default_factory=list)


class Player:
    """One scenario in one folder.

    Parameters
    ----------
    source : Path
        The project that is copied and played.
    out : Path
        Folder that becomes the played project, with its workspace.
    seed : int
        Moves the days of the events and the training seed.
    port : int
        Of the control plane; predictions are at `port + 1`.
    on_day : callable
        Told (day, number, of) as time goes on.
    say : callable
        Told what happens, in sentences.
    """

    def __init__(
        self,
        source: Path,
        out: Path,
        *,
        seed: int = 0,
        port: int = 8400,
        on_day: Callable[[date, int, int], None] = lambda *_: None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.out, self.port, self.seed = out, port, seed
        self._on_day, self._say = on_day, say
        self.stage, self.told = Stage(), Told()
        prepare_folder(source, out)
        set_seed(out, seed)
        self.project: Project = load(out).check()
        self.cast: Cast = cast(read(out), seed)
        self.ws: Workspace = create_workspace(out / FOLDER, actor="service:world")
        self._control: subprocess.Popen[bytes] | None = None
        self._due = dict(self.cast.days)
        self._starving: list[StarveSpec] = []
        self._down_until: date | None = None
        self._dice = random.Random(seed + 1)
        self._frames: dict[str, pl.DataFrame] = {}
        self._known: dict[str, pl.Series] = {}
        self._delivered: datetime | None = None

    # ------------------------------------------------------------ the whole

    def play(self) -> None:
        """Live through the scenario; the processes are left running."""
        for port, what in ((self.port, "the control plane"), (self.port + 1, "predictions")):
            require_free(port, what)
        spec = self.cast.spec
        with self.stage("prepare data"):
            self._frames = {n: data.load_source(self.project.root, t) for n, t in self.project.spec.data.items()}
            self._corrupt()
            for name, table in self.project.spec.data.items():
                if table.known_at is not None:
                    self._frames[name] = self._frames[name].sort(table.known_at, maintain_order=True)
                    self._known[name] = self._frames[name][table.known_at]
        engine.set_clock(self.ws, to=midnight(spec.start))
        with self.stage("ingest history"):
            self._ingest()
        with self.stage("features of history"):
            self._materialise(datetime.min.replace(tzinfo=midnight(spec.start).tzinfo), midnight(spec.start))
        with self.stage("start"):
            self._start_control()
        with self.stage("first release"):
            engine.propose(self.ws.acting_as(spec.author), self.project, reason="the first model")
            self._tick()
        total = (spec.until - spec.start).days
        for number in range(total):
            day = spec.start + number * DAY
            self._on_day(day, number, total)
            self._live(day)
        for number in range(1, 4):
            self._advance(midnight(spec.until) + number * DAY + INSTANT)
            self._ingest()
            self._tick()

    def _live(self, day: date) -> None:
        self._happen(day)
        self._advance(midnight(day) + DAY)
        with self.stage("ingest"):
            self._ingest()
        with self.stage("features"):
            rows = self._rows(day)
        with self.stage("requests"):
            self._ask(rows)
        self.told.days += 1
        self._advance(midnight(day) + DAY + INSTANT)
        if self._down_until is not None:
            if day < self._down_until:
                return
            self._say(f"{day}: the control plane comes back")
            self._start_control()
            self._down_until = None
        self._tick()

    def _advance(self, to: datetime) -> None:
        engine.set_clock(self.ws, to=to)

    # ------------------------------------------------------------ data

    def _corrupt(self) -> None:
        for event in self.cast.spec.events:
            if event.corrupt is not None:
                day, table = self.cast.days[event.name], event.corrupt.table
                function = load_function(self.project.root, event.corrupt.function)
                with calling_user_code(event.corrupt.function):
                    self._frames[table] = function(self._frames[table], day)
                self._note(event, day, f"{table} of {day} arrives broken")

    def _ingest(self) -> None:
        """Deliver what became known since the last delivery; tables without news are left alone."""
        now, news = self.ws.clock(), {}
        for name, table in self.project.spec.data.items():
            frame = self._frames[name]
            if table.known_at is None:
                if self._delivered is None:
                    news[name] = frame
                continue
            known = self._known[name]
            low = 0 if self._delivered is None else known.search_sorted(self._delivered, side="right")
            high = known.search_sorted(now, side="right")
            if high > low or self._delivered is None:
                news[name] = frame[low:high]
        self._delivered = now
        data.ingest(self.ws, self.project.root, self.project.spec.data, names=list(news), frames=news)

    def _materialise(self, since: datetime, until: datetime, views: tuple[str, ...] | None = None) -> pl.DataFrame:
        spec = self.project.spec
        wanted = spec.features if views is None else FeaturesSpec(spine=spec.features.spine, views=views)
        root, tables = self.project.root, spec.data
        loaded = features.project_views(self.ws, root, spec.framing, wanted, tables, frames=self._frames)
        frames = self._recent(since, loaded.lookback)
        features.materialise(self.ws, root, spec.framing, wanted, tables, since=since, until=until, frames=frames)
        rows: pl.DataFrame = features.read(self.ws, loaded, since=since, until=until)
        return rows

    def _recent(self, since: datetime, lookback: timedelta) -> dict[str, pl.DataFrame]:
        """The frames without what is too old for any window of decisions from `since` on."""
        recent = dict(self._frames)
        if since.year > 1:
            for name, known in self._known.items():
                if name != self.project.spec.features.spine:
                    recent[name] = recent[name][known.search_sorted(since - lookback - DAY) :]
        return recent

    def _rows(self, day: date) -> pl.DataFrame:
        since, until = midnight(day), midnight(day) + DAY
        rows = self._materialise(since, until)
        extra = self._inputs() - set(rows.columns)
        for views in self._proposed_views():
            if extra:
                more = self._materialise(since, until, views)
                found = [c for c in more.columns if c in extra]
                rows = rows.join(more.select(self.project.spec.framing.unit, *found), on=self.project.spec.framing.unit)
                extra -= set(found)
        return rows

    def _proposed_views(self) -> list[tuple[str, ...]]:
        return [e.propose.views for e in self.cast.spec.events if e.propose and e.propose.views]

    # ------------------------------------------------------------ clients

    def _inputs(self) -> set[str]:
        """What the endpoint asks for, as its metadata says."""
        doc = self._get(self.port + 1, f"/v2/models/{self.project.name}")
        return {item["name"] for item in doc["inputs"]}

    def _ask(self, rows: pl.DataFrame) -> None:
        unit = self.project.spec.framing.unit
        rows = rows.sort("decision_time", unit)
        inputs = rows.select(c for c in rows.columns if c not in (unit, "decision_time"))
        inputs = inputs.with_columns(pl.col(pl.Float32).cast(pl.Float64))
        for starve in self._starving:
            inputs = self._starve(inputs, starve)
        units = rows[unit].cast(pl.String).to_list()
        times = rows["decision_time"].to_list()
        client = Client(self.port + 1, self.project.name, host=HOST, connections=self.cast.spec.connections)
        answers = client.replay(
            Request(row, id=key, entity=key, decision_time=at)
            for row, key, at in zip(inputs.iter_rows(named=True), units, times, strict=True)
        )
        self.told.requests += len(answers)
        self.told.refused += sum(a.status != 200 for a in answers)
        self.told.fallbacks += sum(a.fallback is not None for a in answers)

    def _starve(self, inputs: pl.DataFrame, starve: StarveSpec) -> pl.DataFrame:
        base = features.load_views(self.project.root, self.project.spec.features.views).names
        extra = features.load_views(self.project.root, starve.views).names
        names = [n for n in extra if n not in base and n in inputs.columns]
        if not names:
            return inputs
        dry = pl.Series([self._dice.random() < starve.share for _ in range(inputs.height)])
        return inputs.with_columns(pl.when(~dry).then(pl.col(n)).alias(n) for n in names)

    # ------------------------------------------------------------ people and bad luck

    def _happen(self, day: date) -> None:
        for event in self.cast.spec.events:
            if self._due.get(event.name) == day:
                del self._due[event.name]
                self._do(event, day)

    def _do(self, event: EventSpec, day: date) -> None:
        if event.starve is not None:
            self._starving.append(event.starve)
        if event.propose is not None:
            wish = event.propose
            engine.propose(
                self.ws.acting_as(wish.by),
                self.project,
                training=dict(wish.training) or None,
                views=list(wish.views) if wish.views else None,
                reason=wish.reason,
            )
            self._note(event, day, f"{wish.by} proposes: {wish.reason}")
        if event.kill is not None:
            self._kill_control()
            self._down_until = day + DAY * event.days
            self.told.killed += [str(day + DAY * n) for n in range(event.days)]
            self._note(event, day, f"the control plane is killed for {event.days} day(s)")

    def _note(self, event: EventSpec, day: date, what: str) -> None:
        self.told.events.append({"event": event.name, "day": str(day), "what": what})
        self._say(f"{day}: {event.name}: {what}")

    def _after_promotion(self, moves: Sequence[Transition]) -> None:
        """Set the days of events that wait for the first promotion after the first release."""
        promoted = [t for t in moves if t.after == "PROMOTED"]
        if not promoted or sum(t.after == "PROMOTED" for t in self.told.transitions) < 2:
            return
        for name, delay in self.cast.delays.items():
            if name not in self._due and not any(e["event"] == name for e in self.told.events):
                self._due[name] = (promoted[-1].at + delay).date()

    def _tick(self) -> None:
        """Have the control plane go as far as it can; the approver looks at what it leaves."""
        while True:
            with self.stage("control plane"):
                self._post_tick()
            moves = self._news()
            for move in moves:
                self._say(f"{move.at:%Y-%m-%d}: {move.before} -> {move.after}: {move.why}")
            self._after_promotion(moves)
            cycle = facts.current_cycle(self.ws, self.project.name)
            if cycle is None or cycle.state != "AWAIT_APPROVAL":
                return
            with self.stage("approval"):
                registry.approve(
                    self.ws.acting_as(self.cast.spec.approver), cycle.changes["version"], reason="the gates passed"
                )

    # ------------------------------------------------------------ processes

    def _start_control(self) -> None:
        folder = self.ws.root / "run"
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "loopline", "up", "--project", str(self.out), "--port", str(self.port)]
        with (folder / "control.log").open("ab") as out:
            self._control = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                env=settings.child_environment(LOOPLINE_ACTOR="service:loop"),
            )
        deadline = monotonic() + 60
        while True:
            try:
                self._get(self.port, "/health")
                return
            except (OSError, http.client.HTTPException):
                if self._control.poll() is not None or monotonic() > deadline:
                    tail = (folder / "control.log").read_text(errors="replace")[-1500:]
                    raise Unavailable(
                        "the control plane did not start", why=tail.strip(), fix="mend this and run the demo again"
                    ) from None
                threading.Event().wait(0.05)

    def _kill_control(self) -> None:
        if self._control is not None:
            os.kill(self._control.pid, signal.SIGKILL)
            self._control.wait()

    def stop(self) -> None:
        """End both planes that this player started."""
        if self._control is not None and self._control.poll() is None:
            self._control.send_signal(signal.SIGTERM)
            try:
                self._control.wait(timeout=40)
            except subprocess.TimeoutExpired:
                self._control.kill()
        pid = serving.supervisor_pid(self.ws, self.project.name)
        if pid is not None:
            os.kill(pid, signal.SIGTERM)

    def forget(self) -> None:
        """Let go of the tables in memory: the workspace holds what was delivered."""
        self._frames.clear()
        self._known.clear()

    def wait(self) -> None:
        """Stay until the control plane ends."""
        if self._control is not None:
            self._control.wait()

    def _post_tick(self) -> None:
        deadline = monotonic() + TICK_S
        while True:
            door = http.client.HTTPConnection(HOST, self.port, timeout=TICK_S)
            try:
                door.request("POST", "/api/v1/loop/tick", b"{}", {"Content-Type": "application/json"})
                answer = door.getresponse()
                doc = json.loads(answer.read())
            finally:
                door.close()
            if answer.status == 409 and monotonic() < deadline:
                threading.Event().wait(0.05)
                continue
            if answer.status >= 400:
                error = doc.get("error", {})
                family = FAMILIES.get(error.get("code", ""), Conflict)
                raise family(error.get("what", str(doc)), why=error.get("why", ""), fix=error.get("fix", ""))
            return

    def _news(self) -> list[Transition]:
        """Decisions since the last look, whoever had the control plane wake up."""
        known = len(self.told.transitions)
        moves = self.ws.records.find(Transition, newest_first=False, loop=self.project.name)[known:]
        self.told.transitions += moves
        return moves

    def _get(self, port: int, path: str) -> Any:
        door = http.client.HTTPConnection(HOST, port, timeout=10)
        try:
            door.request("GET", path)
            answer = door.getresponse()
            return json.loads(answer.read() or b"{}")
        finally:
            door.close()


def set_seed(project: Path, seed: int) -> None:
    """Have the played project train with `seed`; its own stays for 0."""
    if seed:
        yaml, page = YAML(), project / "loop.yaml"
        yaml.width = 200
        doc = yaml.load(page.read_text())
        if isinstance(doc["training"], str):
            doc["training"] = {"recipe": doc["training"]}
        doc["training"]["seed"] = seed
        with page.open("w") as out:
            yaml.dump(doc, out)


def prepare_folder(source: Path, out: Path) -> None:
    """Copy a project to the folder it is played in; a folder that is something else is left alone."""
    source, out = source.absolute(), out.absolute()
    if out.exists() and any(out.iterdir()) and not (out / FOLDER).is_dir():
        raise Conflict(
            f"{out} exists and is no played project",
            why="the demo would write over it",
            fix="name another folder with --out, or remove it",
        )
    if out.exists():
        shutil.rmtree(out)
    ignore = shutil.ignore_patterns(FOLDER, "__pycache__", ".*")
    try:
        shutil.copytree(source, out, ignore=ignore)
    except OSError as error:
        raise Unavailable(
            f"{out} cannot be written: {error}",
            why="the demo keeps its workspace there",
            fix="free some space or name another folder with --out",
        ) from error
