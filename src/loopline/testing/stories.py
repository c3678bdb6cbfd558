"""A story of ten cycles that visits every state of the table, lived by a process that is killed on the way."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from loopline import monitoring, registry
from loopline.base import settings
from loopline.loop import engine, facts
from loopline.loop.effects import Patience
from loopline.loop.project import Project, load
from loopline.monitoring.nouns import Incident
from loopline.retraining.nouns import Cycle
from loopline.store.records.protocol import Effect, Records, Tx
from loopline.testing.loops import START, Delivery, answers, cycle_number, model_name, opened
from loopline.workspace import Workspace

ENDINGS = (
    "PROMOTED",
    "PROMOTED",
    "ROLLED_BACK",
    "REJECTED",
    "FAILED",
    "EXPIRED",
    "SUPERSEDED",
    "CANCELLED",
    "SUPPRESSED",
    "SUPPRESSED",
)
"""How the cycles end, from the first."""
WHEN = (
    "before the commit",
    "after the commit",
    "before delivery",
    "during delivery",
    "before settling",
    "after settling",
)
"""The moments of an effect at which its process may die."""
PATIENCE = Patience(tries=2, first_pause_s=0.0)
Point = tuple[str, str, str]
"""A state, an effect's kind, a moment."""


def expected(delivery: Delivery) -> str:
    """How the cycle of a delivery is to end."""
    return ENDINGS[cycle_number(delivery.id) - 1]


def story_answers() -> dict[str, Any]:
    """What the receiver answers in this story."""
    return {
        **answers(),
        "train": lambda d: 503 if expected(d) == "FAILED" else {"model": model_name(d.id)},
        "evaluate": lambda d: {"passed": expected(d) != "REJECTED"},
    }


def point(effect_id: str, when: str) -> Point:
    """Where in the table an effect id belongs; ids are `loop/cycle/STATE/step/attempt/kind`."""
    state, _, _, kind = effect_id.split("/")[-4:]
    return state, kind, when


class KillList:
    """Kills a process once at each point; the points it was killed at are lines of a file."""

    def __init__(self, file: Path) -> None:
        self._file = file

    @property
    def points(self) -> list[Point]:
        """Where it was killed, in order."""
        lines = self._file.read_text().splitlines() if self._file.exists() else []
        return [(state, kind, when) for state, kind, when in (line.split("|") for line in lines)]

    def visit(self, effect_id: str, when: str, pid: int) -> None:
        """Kill `pid` unless that has been done here."""
        here = point(effect_id, when)
        if here in self.points:
            return
        with self._file.open("a") as out:
            out.write("|".join(here) + "\n")
        os.kill(pid, signal.SIGKILL)


class WatchedTx:
    """A transaction that notes which effects it asks for."""

    def __init__(self, tx: Tx) -> None:
        self._tx = tx
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tx, name)

    def enqueue(self, id: str, topic: str, kind: str, request: dict[str, Any]) -> None:
        self.asked.append(id)
        self._tx.enqueue(id, topic, kind, request)


class WatchedRecords:
    """Records that tell of every moment of an effect before going on."""

    def __init__(self, records: Records, tell: Callable[[str, str], None]) -> None:
        self._records, self._tell = records, tell

    def __getattr__(self, name: str) -> Any:
        return getattr(self._records, name)

    @contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[WatchedTx]:
        with self._records.transaction(durable=durable) as inner:
            tx = WatchedTx(inner)
            yield tx
            for effect_id in tx.asked:
                self._tell(effect_id, "before the commit")
        for effect_id in tx.asked:
            self._tell(effect_id, "after the commit")

    def claim(self, topic: str, owner: str, *, lease_s: float, limit: int = 1) -> list[tuple[Effect, int]]:
        found = self._records.claim(topic, owner, lease_s=lease_s, limit=limit)
        for effect, _ in found:
            self._tell(effect.id, "before delivery")
        return found

    def settle(self, id: str, fence: int, **what: Any) -> bool:
        self._tell(id, "before settling")
        settled = self._records.settle(id, fence, **what)
        self._tell(id, "after settling")
        return settled


def live(root: Path, url: str, keys: Path, kills: Path | None, alter: Callable[[], None] | None = None) -> None:
    """Live the story to its end, or to the next point of death.

    Parameters
    ----------
    root : Path
        The small project's folder.
    keys : Path
        The folder of private keys.
    kills : Path, optional
        File of the kill list; nothing is killed by default.
    alter : callable, optional
        Called first, to break something.
    """
    settings.keep_keys_in(keys)
    if alter is not None:
        alter()
    (root / "pid").write_text(str(os.getpid()))
    project = load(root)
    ws = opened(project, url)
    if kills is not None:
        killer = KillList(kills)
        ws.stores._open["records"] = WatchedRecords(
            ws.records, lambda effect_id, when: killer.visit(effect_id, when, os.getpid())
        )
    while True:
        engine.tick(ws, project, patience=PATIENCE)
        if not go_on(ws, project):
            break
    ws.close()


def go_on(ws: Workspace, project: Project) -> bool:
    """What people and time do next, told from where the loop stands; false at the end of the story."""
    if facts.signals(ws, project.name):
        return True
    cycle = facts.current_cycle(ws, project.name)
    done = int(facts.loop_doc(ws, project.name)[0].get("cycles", 0))
    if cycle is not None:
        _within(ws, project, cycle, ENDINGS[done - 1])
    elif done < 8:
        engine.propose(ws.acting_as("user:scientist"), project, reason=f"idea {done + 1}")
    elif done == 8:
        engine.set_clock(ws, to=START + timedelta(days=200))
    elif done == 9:
        at = ws.clock()
        bad = Incident("bad-day", "table:rows", "data", "a bad day", (), at, at, at, "mend it")
        with ws.records.transaction() as tx:
            tx.put(bad)
    else:
        return False
    return True


def _within(ws: Workspace, project: Project, cycle: Cycle, ending: str) -> None:
    if cycle.state == "ROLLOUT":
        if ending == "ROLLED_BACK":
            engine.command(ws.acting_as("user:ada"), project, do="cancel")
        else:
            engine.set_clock(ws, to=cycle.entered_at + project.spec.serving.release.each_at_most)
    elif cycle.state == "DATA_INCIDENT":
        monitoring.resolve(ws.acting_as("user:ada"), "bad-day", reason="mended")
    elif cycle.state == "AWAIT_APPROVAL":
        if ending == "EXPIRED":
            engine.set_clock(ws, to=cycle.entered_at + project.spec.registry.approvals.expire)
        elif ending == "SUPERSEDED":
            engine.propose(ws.acting_as("user:keen"), project, training={"window": "30d"}, reason="fresher")
        elif ending == "CANCELLED":
            engine.command(ws.acting_as("user:ada"), project, do="cancel")
        else:
            registry.approve(ws.acting_as("user:ada"), cycle.changes["version"], reason="fine")
    else:
        raise AssertionError(f"{cycle.id} stands in {cycle.state}, and nobody knows what for")


def ask_for_an_unlisted_effect() -> None:
    """Make `decide` ask for something that the state table does not list."""
    from dataclasses import replace

    from loopline.retraining import decide as retraining
    from loopline.retraining.nouns import Decision, EffectRequest

    honest = retraining.decide

    def careless(*args: Any) -> Decision:
        found = honest(*args)
        extra = tuple(
            EffectRequest(e.id.replace(e.kind, "telegram"), "telegram", e.args)
            for e in found.effects
            if e.kind == "train"
        )
        return replace(found, effects=found.effects + extra)

    vars(engine)["decide"] = careless
