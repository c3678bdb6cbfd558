"""Plays a scenario: the world outside Loopline, day by day, against the real processes.

The player is what surrounds a deployment: producers that deliver data, clients
that ask for predictions, people who propose and approve, and bad luck. All that
Loopline does about it happens in the control plane and the data plane, which
are started as any user starts them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
from ruamel.yaml import YAML

from loopline import registry
from loopline.base.clock import monotonic
from loopline.base.errors import Conflict, Unavailable
from loopline.interfaces.demo.deliveries import DAY, Deliveries
from loopline.interfaces.demo.planes import Planes
from loopline.interfaces.demo.scenario import Cast, CorruptSpec, EventSpec, cast, midnight, read
from loopline.interfaces.http.listening import HOST, require_free
from loopline.loop import engine, facts
from loopline.loop.project import Project, load
from loopline.retraining.nouns import Transition
from loopline.serving.client import Client, Request
from loopline.workspace import FOLDER, Workspace, create_workspace

INSTANT = timedelta(microseconds=1)


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
        self._planes = Planes(self.ws, out, self.project.name, port)
        self._deliveries = Deliveries(self.ws, self.project, seed + 1)
        self._stream = self._deliveries.stream(seed + 1)
        self._online = self.project.spec.serving.features == "online"
        client = Client(port + 1, self.project.name, host=HOST, connections=self.cast.spec.connections)
        self._session = client.session()
        self._producers = ThreadPoolExecutor(1)
        self._due = dict(self.cast.days)
        self._down_until: date | None = None

    # ------------------------------------------------------------ the whole

    def play(self) -> None:
        """Live through the scenario; the processes are left running."""
        for port, what in ((self.port, "the control plane"), (self.port + 1, "predictions")):
            require_free(port, what)
        spec = self.cast.spec
        engine.set_clock(self.ws, to=midnight(spec.start))
        started = self._producers.submit(self._planes.start)
        with self.stage("prepare data"):
            self._deliveries.prepare(self._broken())
        with self.stage("start"):
            started.result()
        with self.stage("ingest history"):
            self._deliveries.ingest()
        with self.stage("features of history"):
            if self._online:
                self._stream.carry(self.project.spec.features.views, midnight(spec.start))
            else:
                self._deliveries.history(midnight(spec.start))
        with self.stage("first release"):
            engine.propose(self.ws.acting_as(spec.author), self.project, reason="the first model")
            self._tick()
            self._require_release()
        total = (spec.until - spec.start).days
        for number in range(total):
            day = spec.start + number * DAY
            self._on_day(day, number, total)
            self._live(day)
        for number in range(1, 4):
            self._advance(midnight(spec.until) + number * DAY + INSTANT)
            self._deliveries.ingest()
            self._tick()

    def _look_ahead(self, day: date) -> None:
        """Have the producers begin with a day while the control plane works, unless something may befall them then."""
        if not self._online:
            self._deliveries.ahead(day)
        elif not any(self._may_befall(event, day) for event in self.cast.spec.events):
            self._stream.ahead(midnight(day), midnight(day) + DAY)

    def _may_befall(self, event: EventSpec, day: date) -> bool:
        """Whether an event may change on `day` what the online store is written with."""
        if event.starve is None and not (event.propose and event.propose.views):
            return False
        if event.name in self._due:
            return self._due[event.name] == day
        return self.cast.delays.get(event.name, 2 * DAY) < DAY and not self._happened(event.name)

    def _happened(self, name: str) -> bool:
        return any(event["event"] == name for event in self.told.events)

    def _require_release(self) -> None:
        if facts.champion(self.ws, self.project.name) is None:
            last = self.told.transitions[-1].why if self.told.transitions else "the control plane decided nothing"
            raise Conflict(
                "the world cannot begin: no first model was released",
                why=last,
                fix="mend this; `loopline run` in the project shows the same step by step",
            )

    def _live(self, day: date) -> None:
        self._happen(day)
        self._advance(midnight(day) + DAY)
        delivered = self._producers.submit(self._deliveries.ingest)
        if self._online:
            self._ask_as_it_goes(day)
        else:
            with self.stage("features"):
                rows = self._deliveries.rows(day, self._planes.inputs(), self._proposed_views())
            with self.stage("requests"):
                self._ask(rows)
        with self.stage("ingest"):
            delivered.result()
        if day + DAY < self.cast.spec.until:
            self._look_ahead(day + DAY)
        self.told.days += 1
        self._advance(midnight(day) + DAY + INSTANT)
        if self._down_until is not None:
            if day < self._down_until:
                return
            self._say(f"{day}: the control plane comes back")
            self._planes.start()
            self._down_until = None
        self._tick()

    def _advance(self, to: datetime) -> None:
        engine.set_clock(self.ws, to=to)

    def _broken(self) -> list[tuple[CorruptSpec, date]]:
        broken = []
        for event in self.cast.spec.events:
            if event.corrupt is not None:
                day = self.cast.days[event.name]
                broken.append((event.corrupt, day))
                self._note(event, day, f"{event.corrupt.table} of {day} arrives broken")
        return broken

    def stop(self) -> None:
        """End both planes, and let go of the tables in memory: the workspace holds what was delivered."""
        self._session.close()
        self._producers.shutdown(cancel_futures=True)
        self._stream.close()
        self._planes.stop()
        self._deliveries.forget()

    # ------------------------------------------------------------ clients

    def _proposed_views(self) -> list[tuple[str, ...]]:
        return [e.propose.views for e in self.cast.spec.events if e.propose and e.propose.views]

    def _ask(self, rows: pl.DataFrame) -> None:
        unit = self.project.spec.framing.unit
        inputs = rows.select(c for c in rows.columns if c not in (unit, "decision_time"))
        units = rows[unit].cast(pl.String).to_list()
        times = rows["decision_time"].to_list()
        answers = self._session.send(
            Request(row, id=key, entity=key, decision_time=at)
            for row, key, at in zip(inputs.iter_rows(named=True), units, times, strict=True)
        )
        self.told.requests += len(answers)
        self.told.refused += sum(a.status != 200 for a in answers)
        self.told.fallbacks += sum(a.fallback is not None for a in answers)

    def _ask_as_it_goes(self, day: date) -> None:
        """Ask for what is due from each refresh of the online store to the next, once the store stands there."""
        since, until = midnight(day), midnight(day) + DAY
        with self.stage("requests"):
            rows = self._stream.requests(sorted(self._planes.inputs()), since, until)
        for at, low, high in self._stream.turns(since, until):
            with self.stage("online features"):
                self._stream.go(at)
            with self.stage("requests"):
                self._ask(rows[low:high])

    # ------------------------------------------------------------ people and bad luck

    def _happen(self, day: date) -> None:
        for event in self.cast.spec.events:
            if self._due.get(event.name) == day:
                del self._due[event.name]
                self._do(event, day)

    def _do(self, event: EventSpec, day: date) -> None:
        if event.starve is not None:
            (self._stream if self._online else self._deliveries).starve(event.starve)
            if event.propose is None:
                self._note(
                    event, day, f"{event.starve.share:.0%} of what {', '.join(event.starve.views)} reads is lost"
                )
        if event.propose is not None:
            wish = event.propose
            engine.propose(
                self.ws.acting_as(wish.by),
                self.project,
                training=dict(wish.training) or None,
                views=list(wish.views) if wish.views else None,
                reason=wish.reason,
            )
            if self._online and wish.views:
                self._stream.carry(wish.views, midnight(day))
            self._note(event, day, f"{wish.by} proposes: {wish.reason}")
        if event.kill is not None:
            self._planes.kill()
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
            if name not in self._due and not self._happened(name):
                self._due[name] = (promoted[-1].at + delay).date()

    def _tick(self) -> None:
        """Have the control plane go as far as it can; the approver looks at what it leaves."""
        while True:
            with self.stage("control plane"):
                self._planes.tick()
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

    def _news(self) -> list[Transition]:
        """Decisions since the last look, whoever had the control plane wake up."""
        known = len(self.told.transitions)
        moves = self.ws.records.find(Transition, newest_first=False, loop=self.project.name)[known:]
        self.told.transitions += moves
        return moves


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
