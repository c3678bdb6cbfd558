"""A small loop that needs no learning, and the world outside it that keeps count."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from loopline import registry
from loopline.base.errors import Unavailable
from loopline.compute import StepSpec
from loopline.evaluation.nouns import Report, Verdict
from loopline.loop import engine
from loopline.loop.project import Project, load
from loopline.training.nouns import Model
from loopline.workspace import FOLDER, Workspace, create_workspace, open_workspace

START = datetime(2031, 1, 1, tzinfo=UTC)
MODELS = 12
HANDED_OVER = ("train", "deploy", "set_traffic", "roll_back", "notify")

PAGE = """\
name: small
framing: {label: late, unit: id, decision_time: due, baseline: constant, owner: {name: team}}
data: {rows: {source: rows.csv, event_time: due, known_at: due}}
features: {views: views.py}
training: train.py:fit
evaluation: {gates: []}
registry: {approvals: {needed: NEEDED, by: anyone_but_author, expire: 14d}}
serving: {release: {canary: [10%, 50%], each_at_most: 1d}}
monitoring: {window: 3650d}
retraining:
  mode: MODE
  any_of: [every 90d]
  budget: {runs: 50, per: 30d}
  effects: EFFECTS
"""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One POST as it arrived."""

    id: str
    kind: str
    args: dict[str, Any]
    body: bytes
    headers: dict[str, str]


@dataclass
class Receiver:
    """A web server that acts on each effect id once, and remembers every delivery.

    `answers` maps a kind to what is answered: a document, a status, or a function
    of the delivery that returns one of them. `watch` is called once an effect was acted on.
    """

    answers: dict[str, Any] = field(default_factory=dict)
    watch: Callable[[Delivery], None] = lambda _: None
    deliveries: list[Delivery] = field(default_factory=list)

    def __post_init__(self) -> None:
        receiver = self

        class Door(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                doc = json.loads(body)
                status, answer = receiver.take(Delivery(doc["id"], doc["kind"], doc["args"], body, dict(self.headers)))
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("Location", f"{receiver.url}elsewhere")
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: object) -> None:
                return None

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def take(self, delivery: Delivery) -> tuple[int, bytes]:
        """Keep a delivery and say what it is answered with."""
        self.deliveries.append(delivery)
        self.watch(delivery)
        answer = self.answers.get(delivery.kind, {})
        found = answer(delivery) if callable(answer) else answer
        return (found, b"no") if isinstance(found, int) else (200, json.dumps(found).encode())

    @property
    def times(self) -> Counter[str]:
        """How often each effect id arrived."""
        return Counter(delivery.id for delivery in self.deliveries)

    def __enter__(self) -> Receiver:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()


class Elsewhere:
    """Compute on another machine: steps are posted to a receiver; a judged model is registered here."""

    def __init__(self, root: Path, url: str) -> None:
        self._root, self._at = root, urlsplit(url)

    def submit(self, spec: StepSpec, *, timeout_s: float | None = None) -> Future[dict[str, Any]]:
        """Have the receiver do it."""
        future: Future[dict[str, Any]] = Future()
        try:
            future.set_result(self._run(spec))
        except Exception as error:
            future.set_exception(error)
        return future

    def _run(self, spec: StepSpec) -> dict[str, Any]:
        kind = spec.entrypoint.rpartition(":")[2]
        body = json.dumps({"id": spec.args["effect"], "kind": kind, "args": spec.args}, sort_keys=True)
        door = HTTPConnection(str(self._at.hostname), self._at.port)
        try:
            door.request("POST", "/", body)
            answer = door.getresponse()
            text = answer.read()
        except OSError as error:
            raise Unavailable("the other machine is away", why=str(error), fix="wait") from error
        finally:
            door.close()
        if answer.status != 200:
            raise Unavailable("the other machine is busy", why=text.decode(), fix="wait")
        found: dict[str, Any] = json.loads(text)
        return {**found, **judged(self._root, spec.args, passed=found["passed"])} if kind == "evaluate" else found

    def close(self) -> None:
        """Nothing is kept open."""


def judged(root: Path, args: dict[str, Any], *, passed: bool) -> dict[str, Any]:
    """Keep a report on the cycle's model, and register the model when it passed."""
    ws = open_workspace(root, actor=args["actor"])
    model = ws.records.get(Model, args["changes"]["model"])
    verdict = Verdict("all", passed, "roc_auc", "all", 0.7, 0.6, 0.5, None, "enough" if passed else "too little")
    none: dict[str, Any] = {}
    report = Report(
        f"report-{model.id}", model.id, None, 100, START, START, none, none, none, none, none, (), (), (verdict,),
        passed, 0.5, START,
    )  # fmt: skip
    with ws.records.transaction() as tx:
        tx.put(report)
    found: dict[str, Any] = {"report": report.id, "passed": passed}
    if passed:
        version = registry.register(
            ws, name="small", model=model, report=report, author=args["author"], risk="limited", policy=args["policy"]
        )
        found |= {"version": version.id, "number": version.number}
    ws.close()
    return found


def answers() -> dict[str, Any]:
    """What a receiver says that plays along: the n-th cycle brings model n, and it passes."""
    return {
        "prepare": {"training_set": "set"},
        "train": lambda delivery: {"model": model_name(delivery.id)},
        "evaluate": {"passed": True},
    }


def cycle_number(effect_id: str) -> int:
    """Which cycle of its loop an effect belongs to, from 1."""
    return int(effect_id.split("/")[-5])


def model_name(effect_id: str) -> str:
    """The model that the effect's cycle brings."""
    return f"model-{cycle_number(effect_id):04}"


def small_project(
    root: Path, adapters: dict[str, dict[str, Any]], *, mode: str = "auto", approvals: int = 1
) -> Project:
    """A project whose effects go where `adapters` say; no recipe of it ever runs."""
    root.mkdir(parents=True, exist_ok=True)
    page = PAGE.replace("EFFECTS", json.dumps(adapters)).replace("MODE", mode).replace("NEEDED", str(approvals))
    (root / "loop.yaml").write_text(page)
    (root / "rows.csv").write_text("id,due,late\n1,2020-12-01T00:00:00Z,true\n2,2020-12-02T00:00:00Z,false\n")
    (root / "views.py").write_text("")
    (root / "train.py").write_text("def fit(X, y, seed=0):\n    raise NotImplementedError\n")
    return load(root)


def small_workspace(project: Project, *, at: datetime | None = START) -> None:
    """Its workspace, with the models that trainings will answer with, and its clock set to `at`."""
    ws = create_workspace(project.root / FOLDER, actor="service:loop")
    bundle = ws.blobs.put(b"a bundle that nobody opens")
    none: dict[str, Any] = {}
    with ws.records.transaction() as tx:
        for number in range(1, MODELS + 1):
            name = f"model-{number:04}"
            tx.put(Model(name, "run", "set", "p", bundle, (), "none", "user:scientist", 0.5, none, START))
    if at is not None:
        engine.set_clock(ws, to=at)
    ws.close()


def opened(project: Project, url: str | None = None) -> Workspace:
    """The small workspace, its long steps done elsewhere."""
    ws = open_workspace(project.root / FOLDER, actor="service:loop")
    if url is not None:
        ws.stores._open["compute"] = Elsewhere(ws.root, url)
    return ws


def webhooks(url: str, *kinds: str) -> dict[str, dict[str, Any]]:
    """Adapters that hand effects over to a receiver; all that can be by default."""
    return {kind: {"webhook": url, "timeout": "10s"} for kind in kinds or HANDED_OVER}
