"""Runs go out and come in again; histories of MLflow come in, as often and as broken off as one likes."""

from __future__ import annotations

import http.server
import json
import math
import os
import resource
import shutil
import signal
import sqlite3
import threading
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from loopline.base.control import without
from loopline.base.errors import Conflict, Denied, Invalid, NotFound, Unavailable
from loopline.registry import exporting, shelving
from loopline.registry.importing import import_models
from loopline.registry.shelf import entries, models, shelf
from loopline.store.runs.protocol import Dataset, LoggedModel, ModelUse, Point
from loopline.training.exchange import export_runs, import_mlflow, import_runs
from loopline.training.exchange.bringing import bring
from loopline.training.exchange.from_tables import TablesFolder
from loopline.training.exchange.mlflow_database import MlflowDatabase
from loopline.training.exchange.mlflow_folder import MlflowFolder
from loopline.training.exchange.verbs import mlflow_source, quiet
from loopline.workspace import Workspace, create_workspace

A, B, C, D = ("0" * 31 + letter for letter in "abcd")
NINES = (f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30))
BOMB = "\n".join(["a0: &a0 x", *NINES, "start_time: 1", "run_name: *a29", ""])
"""A few lines of YAML that say more than fits any memory."""
MODEL = "m-" + "1" * 32


@pytest.fixture
def ws(tmp_path):
    found = create_workspace(tmp_path / "ws")
    yield found
    found.close()


def told(ws: Workspace) -> dict[str, object]:
    """All that a workspace says of its runs, but for numbers and places that are its own."""
    found: dict[str, object] = {}
    for experiment in ws.runs.search_experiments(view="all").items:
        found[experiment.name] = (experiment.stage, experiment.tags)
        for model in ws.runs.search_models([experiment.id], limit=1000).items:
            files = {one.path: one.digest for one in ws.artifacts.files(model.id)}
            points = sorted((p.key, repr(p.value), p.at_ms, p.step, p.dataset) for p in model.metrics)
            about = (model.name, model.run, model.status, model.type, model.created_ms, model.params, model.tags)
            found[model.id] = (experiment.name, *about, points, files)
        for document in ws.runs.search_runs([experiment.id], view="all").items:
            run = ws.runs.run(json.loads(document)["info"]["run_id"])
            series = {
                point.key: sorted(map(repr, ws.runs.history(run.id, point.key).items)) for point in run.metrics
            }  # fmt: skip
            files = {one.path: one.digest for one in ws.artifacts.files(run.id)}
            about = (run.name, run.user, run.status, run.stage, run.start_ms, run.end_ms, run.params, run.tags)
            data = sorted(map(repr, run.datasets))
            found[run.id] = (experiment.name, *about, data, run.read, run.made, series, files)
    return found


def registered(ws: Workspace) -> dict[str, object]:
    """All that is registered, but for what a registration says of its way here."""
    found: dict[str, object] = {}
    for on in models(ws):
        own = entries(ws, on.name)
        numbers = {id: one.number for one in own for id in one.ids}
        versions = {
            one.number: (one.description, {k: v for k, v in one.tags.items() if not k.startswith("loopline.")},
                         one.stage, one.deposit.run, one.deposit.logged_model, one.deposit.source, one.deposit.files)
            for one in own
        }  # fmt: skip
        aliases = {alias: numbers[id] for alias, id in on.aliases.items()}
        found[on.name] = (on.description, on.tags, on.prompt, aliases, versions)
    return found


def register(ws: Workspace, run: str, *, path: str) -> None:
    """A model with versions of a logged model, of a run whose files then change, and of no files; and a prompt."""
    shelving.create(ws, "net é", description="nets", tags={"team": "✓"})
    ws.artifacts.put(run, f"{path}/model.bin", b"as it was registered", at_ms=1)
    for source, owner, model in ((f"models:/{MODEL}", MODEL, MODEL), (f"runs:/{run}/{path}", run, None)):
        under = "" if model else path
        shelving.deposit(
            ws, "net é", source=source, owner=owner, path=under, run=run, logged_model=model, tags={"a": ""}
        )
    ws.artifacts.put(run, f"{path}/model.bin", b"another since", at_ms=2)
    shelving.deposit(ws, "net é", source="s3://bucket/there", wanted=7, run_link="https://x/y")
    shelving.label(ws, "net é", 2, stage="Staging", description="the second")
    shelving.point(ws, "net é", "best", 2)
    shelving.create(ws, "ask", tags={"mlflow.prompt.is_prompt": "true"}, prompt=True)
    shelving.deposit(ws, "ask", source="prompt", tags={"mlflow.prompt.text": "{{x}}?"})
    shelving.point(ws, "ask", "production", 1)


TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
KEY = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=8).map(without) | st.sampled_from(
    ["a/b", "a", "é/✓", "a//b", ".."]
)
FLOAT = st.floats().filter(lambda x: abs(x) != 1.7976931348623157e308).map(lambda x: x + 0.0)
"""Not what stands for infinity in MLflow's databases, and no negative zero: SQLite has none."""
POINT = st.tuples(FLOAT, st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1))
DATA = st.tuples(KEY, KEY, TEXT, st.dictionaries(KEY, TEXT, max_size=2))
RUN = st.fixed_dictionaries(
    {
        "name": TEXT,
        "user": TEXT,
        "status": st.sampled_from(["RUNNING", "FINISHED", "FAILED", "KILLED", "SCHEDULED"]),
        "deleted": st.booleans(),
        "end": st.none() | st.integers(0, 2**40),
        "params": st.dictionaries(KEY, TEXT, max_size=3),
        "tags": st.dictionaries(KEY, TEXT, max_size=3),
        "series": st.dictionaries(KEY, st.lists(POINT, min_size=1, max_size=5), max_size=3),
        "data": st.lists(DATA, max_size=2, unique_by=lambda one: one[:2]),
        "files": st.dictionaries(st.sampled_from(["a.txt", "b/c é.bin", "b/d"]), st.binary(max_size=20), max_size=3),
    }
)  # fmt: skip


def make(ws: Workspace, experiment: str, id: str, run: dict) -> None:
    log = ws.runs
    log.create_run(experiment, start_ms=5, name=run["name"], user=run["user"], id=id, tags=run["tags"])
    log.log(id, params=run["params"])
    for key, points in run["series"].items():
        log.log(id, metrics=[Point(key, *point) for point in points])
    log.log_uses(id, datasets=[Dataset(n, d, "http", s, None, "{}", tags) for n, d, s, tags in run["data"]])
    for path, data in run["files"].items():
        ws.artifacts.put(id, path, data, at_ms=1)
    log.change_run(id, status=run["status"], end_ms=run["end"], stage="deleted" if run["deleted"] else None)


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(st.lists(RUN, min_size=1, max_size=3), st.sampled_from(["tables", "mlflow"]), st.data())
def test_what_is_exported_and_imported_is_what_was_there(tmp_path_factory, runs, format, data):
    home = tmp_path_factory.mktemp("trip")
    ws, other = create_workspace(home / "one"), create_workspace(home / "two")
    name = data.draw(KEY.filter(lambda name: name != "Default"))
    experiment = ws.runs.create_experiment(name, at_ms=3, tags={"team": "é"}).id
    for at, run in enumerate(runs):
        make(ws, experiment, f"{at:032x}", run)
    metric = [Point("auc", 0.5, 1, 2, MODEL, ("d", "e"))]
    ws.runs.create_model(
        LoggedModel(MODEL, experiment, "net", f"{0:032x}", "", "READY", "", "t", 7, 8, {"p": "1"}, {"t": ""})
    )
    ws.artifacts.put(MODEL, "w.bin", b"w", at_ms=1)
    if not runs[0]["deleted"]:
        ws.runs.log(f"{0:032x}", metrics=metric)
        ws.runs.log_uses(f"{0:032x}", made=[ModelUse(MODEL, 3)], read=[ModelUse("m-" + "2" * 32)])
    register(ws, f"{0:032x}", path="b é")
    if data.draw(st.booleans()):
        ws.runs.change_experiment(experiment, at_ms=9, stage="deleted")
    gone = partial(exporting.registered, ws, shown=lambda version: pytest.fail("none was judged"))
    left = export_runs(ws, home / "out", every=True, deleted=True, format=format, registered=gone)
    assert (left.names, left.versions, left.left_out) == (2, 4, ())
    shutil.move(home / "out", home / "moved")
    for into, new in ((other, True), (other, False), (ws, False)):
        if format == "tables":
            came = import_models(into, TablesFolder(home / "moved"), import_runs(into, home / "moved"))
        else:
            with mlflow_source(str(home / "moved" / "mlflow.db")) as opened:
                came = import_models(into, opened, import_mlflow(into, opened, "out"))
        assert (came.conflicts, came.left_out) == ([], [])
        assert (came.runs, came.known) == ((len(runs), 0) if new else (0, len(runs)))
        assert (came.points, came.files, came.models) == ((came.points, left.files, 1) if new else (0, 0, 0))
        assert (came.names, came.versions) == ((2, 4) if new else (0, 0))
        assert told(other) == told(ws)
        assert registered(other) == registered(ws)
        assert not any(owner.startswith("arriving-") for owner in into.artifacts.owners())
    ws.close()
    other.close()
    shutil.rmtree(home)


def test_what_is_no_number_is_the_same_point_whichever_bits_it_has(ws, tmp_path):
    run = ws.runs.create_run("0", start_ms=1, id="e" * 32).id
    ws.runs.log(run, metrics=[Point("m", math.copysign(math.nan, -1), 1, 1), Point("m", 2.0, 2, 2)])
    ws.runs.change_run(run, status="FINISHED", end_ms=3)
    export_runs(ws, tmp_path / "out", every=True)
    with mlflow_source(str(tmp_path / "out" / "mlflow.db")) as source:
        came = import_mlflow(ws, source, "out")
    assert (came.known, came.completed, came.points) == (1, 0, 0)


def folder(root: Path, runs: int = 2) -> Path:
    """A file store with an experiment, a registered model and some runs."""

    def put(path: str, text: str) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)

    put("7/meta.yaml", "name: churn\nlifecycle_stage: active\ncreation_time: 1000\n")
    put("7/tags/team", "growth")
    for at in range(runs):
        run = f"7/{at:032x}"
        state = "lifecycle_stage: deleted\n" if at == 1 else ""
        put(f"{run}/meta.yaml", f"run_name: r{at}\nuser_id: ada\nstatus: 3\nstart_time: {at}\nend_time: 9\n{state}")
        put(f"{run}/params/deep/er", "3")
        put(f"{run}/metrics/auc", "1 nan 0\n2 inf 1\n3 0.5 -4\n")
        put(f"{run}/artifacts/model/weights.bin", f"weights {at}")
    put("models/scorer/meta.yaml", "name: scorer\ndescription: scores\n")
    put("models/scorer/aliases/challenger", "3")
    put("models/scorer/aliases/production", "1")
    for number in (1, 3):
        about = f"name: scorer\nversion: {number}\ncurrent_stage: None\nrun_id: '{0:032x}'\n"
        put(f"models/scorer/version-{number}/meta.yaml", f"{about}source: runs:/{0:032x}/model\n")
    return root


def test_a_dry_run_says_what_the_import_then_does_and_writes_nothing(ws, tmp_path):
    source = folder(tmp_path / "mlruns")
    before = told(ws)
    dry = bring(ws, MlflowFolder(source), "x", dry_run=True, say=quiet)
    assert told(ws) == before
    came = bring(ws, MlflowFolder(source), "x", dry_run=False, say=quiet)
    dry.dry_run = False
    assert dry == came and came.runs == 2 and came.points == 6 and came.files == 2


def test_versions_keep_their_numbers_and_files_and_nothing_is_promoted(ws, tmp_path):
    for again in range(2):
        with mlflow_source(str(folder(tmp_path / "mlruns"))) as source:
            came = import_models(ws, source, import_mlflow(ws, source, "x"))
        assert (came.names, came.versions) == ((0, 0) if again else (1, 2))
    found = entries(ws, "scorer")
    assert [one.number for one in found] == [1, 3]
    assert all(list(one.deposit.files) == ["weights.bin"] for one in found)
    assert shelf(ws, "scorer").aliases == {"challenger": found[1].id}
    assert any("'production'" in said and "protected" in said for said in came.left_out)


class Dying:
    """A source that takes its process along when it is asked the n-th time."""

    def __init__(self, source: object, asked: int) -> None:
        self._source, self._left = source, asked

    def __getattr__(self, name: str) -> object:
        found = getattr(self._source, name)
        if not callable(found):
            return found

        def asked(*given: object) -> object:
            result = found(*given)
            return result if isinstance(result, list) else self._each(result)

        return asked

    def _each(self, items):
        for item in items:
            self._left -= 1
            if self._left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            yield item


def child(work) -> int:
    """Do it in a process of its own; its exit code, or the signal that ended it."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_an_import_killed_anywhere_and_begun_again_ends_as_one_that_was_not(tmp_path):
    source = folder(tmp_path / "mlruns", runs=3)
    whole = create_workspace(tmp_path / "whole")
    bring(whole, MlflowFolder(source), "x", dry_run=False, say=quiet)
    expected = told(whole)
    whole.close()
    create_workspace(tmp_path / "killed").close()

    def once(n: int) -> None:
        ws = create_workspace(tmp_path / "killed")
        bring(ws, Dying(MlflowFolder(source), n), "x", dry_run=False, say=quiet)  # type: ignore[arg-type]

    deaths = 0
    for n in range(50):
        ended = child(lambda n=n: once(n))
        deaths += ended == -signal.SIGKILL
        if ended == 0:
            break
    assert deaths > 6
    ws = create_workspace(tmp_path / "killed")
    assert told(ws) == expected
    ws.close()


def test_two_imports_at_once_end_as_one(tmp_path):
    source = folder(tmp_path / "mlruns", runs=6)
    whole = create_workspace(tmp_path / "whole")
    bring(whole, MlflowFolder(source), "x", dry_run=False, say=quiet)
    create_workspace(tmp_path / "both").close()

    def work() -> None:
        ws = create_workspace(tmp_path / "both")
        assert not bring(ws, MlflowFolder(source), "x", dry_run=False, say=quiet).left_out

    pids = []
    for _ in range(2):
        pid = os.fork()
        if pid == 0:
            try:
                work()
            except BaseException:
                os._exit(1)
            os._exit(0)
        pids.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids] == [0, 0]
    both = create_workspace(tmp_path / "both")
    assert told(both) == told(whole)
    both.close()
    whole.close()


def test_what_differs_here_is_told_and_stays(ws, tmp_path):
    source = folder(tmp_path / "mlruns")
    bring(ws, MlflowFolder(source), "x", dry_run=False, say=quiet)
    run = source / "7" / f"{0:032x}"
    (run / "params" / "deep" / "er").write_text("4")
    (run / "params" / "new").write_text("n")
    (run / "metrics" / "auc").write_text("1 nan 0\n2 inf 1\n3 0.5 -4\n4 0.6 5\n")
    (run / "artifacts" / "model" / "weights.bin").write_text("others!!!")
    came = bring(ws, MlflowFolder(source), "x", dry_run=False, say=quiet)
    assert (came.completed, came.known, came.points, came.params, came.files) == (1, 1, 1, 1, 0)
    assert len(came.conflicts) == 2 and "'deep/er'" in came.conflicts[0] and "weights.bin" in came.conflicts[1]
    assert ws.runs.run(f"{0:032x}").params == {"deep/er": "3", "new": "n"}
    assert ws.artifacts.read(f"{0:032x}", "model/weights.bin") == b"weights 0"
    ws.runs.create_run("0", start_ms=123, id=C)
    shutil.copytree(run, source / "7" / C)
    assert any(
        "another one" in said for said in bring(ws, MlflowFolder(source), "x", dry_run=False, say=quiet).conflicts
    )
    assert ws.runs.run(C).params == {}


def test_a_hostile_folder_gives_nothing_but_words(ws, tmp_path):
    source, secret = folder(tmp_path / "mlruns"), tmp_path / "secret"
    secret.mkdir()
    (secret / "key.pem").write_text("secret")
    run = source / "7" / f"{0:032x}"
    (run / "artifacts" / "link.pem").symlink_to(secret / "key.pem")
    (run / "artifacts" / "up").symlink_to(secret)
    (run / "params" / "linked").symlink_to(secret / "key.pem")
    os.mkfifo(run / "artifacts" / "pipe")
    for name, text in {
        A: "!!python/object/apply:os.system ['touch /tmp/owned']",
        B: f"run_name: b\nstatus: 3\nstart_time: 1\nartifact_uri: file://{secret}\n",
        C: "run_name: [\n",
        D: BOMB,
    }.items():
        (source / "7" / name).mkdir()
        (source / "7" / name / "meta.yaml").write_text(text)
    came = bring(ws, MlflowFolder(source), "x", dry_run=False, say=quiet)
    said = "\n".join(came.left_out)
    assert came.runs == 3 and "link.pem is left out" in said and "not taken" in said and "pipe is left out" in said
    assert [one.path for one in ws.artifacts.files(f"{0:032x}")] == ["model/weights.bin"]
    assert "linked" not in ws.runs.run(f"{0:032x}").params and ws.artifacts.files(B) == []
    for id in (A, C, D):
        with pytest.raises(NotFound):
            ws.runs.run(id)
    named = bring(ws, MlflowFolder(source, secret), "x", dry_run=True, say=quiet)
    assert named.files == 2  # the folder was named: the linked file, and that of the run which says so


def test_files_of_something_else_under_the_id_of_a_run_are_not_added_to(ws, tmp_path):
    ws.artifacts.put(f"{0:032x}", "MLmodel", b"pinned", at_ms=1)
    came = bring(ws, MlflowFolder(folder(tmp_path / "mlruns")), "x", dry_run=False, say=quiet)
    assert came.runs == 1 and "files of something else" in came.left_out[0]
    assert [one.path for one in ws.artifacts.files(f"{0:032x}")] == ["MLmodel"]


def test_databases_that_are_none_too_old_or_damaged_are_told(ws, tmp_path):
    (tmp_path / "text.db").write_text("no database")
    with pytest.raises(Invalid, match="cannot be read"):
        MlflowDatabase(tmp_path / "text.db")
    with sqlite3.connect(tmp_path / "other.db") as db:
        db.execute("CREATE TABLE t (x)")
        db.execute("CREATE VIEW runs AS SELECT 1 AS run_uuid")
    with pytest.raises(Invalid, match="no database of MLflow"):
        MlflowDatabase(tmp_path / "other.db")
    with sqlite3.connect(tmp_path / "old.db") as db:
        db.executescript("CREATE TABLE alembic_version (version_num); CREATE TABLE runs (run_uuid)")
        db.execute("INSERT INTO alembic_version VALUES ('451aebb31d03')")
    with pytest.raises(Conflict, match=r"451aebb31d03.*lacks experiments.experiment_id.*") as caught:
        MlflowDatabase(tmp_path / "old.db")
    assert "mlflow db upgrade" in caught.value.fix
    run = ws.runs.create_run("0", start_ms=1)
    ws.runs.log(run.id, metrics=[Point("m", math.inf, at, at) for at in range(3000)])
    export_runs(ws, tmp_path / "out", every=True)
    whole = (tmp_path / "out" / "mlflow.db").read_bytes()
    (tmp_path / "out" / "mlflow.db").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Invalid, match="cannot be read"), mlflow_source(str(tmp_path / "out/mlflow.db")) as source:
        list(source.series(run))


def test_a_database_is_not_written_and_a_journal_beside_it_counts(ws, tmp_path):
    ws.runs.create_run("0", start_ms=1, id=A)
    export_runs(ws, tmp_path / "out", every=True)
    path = tmp_path / "out" / "mlflow.db"
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("PRAGMA journal_mode=WAL")
    writer.execute("INSERT INTO params VALUES ('late', '1', ?)", (A,))
    before = {one: one.read_bytes() for one in path.parent.glob("mlflow.db*") if not one.name.endswith("-shm")}
    with mlflow_source(str(path)) as source:
        (found,) = list(source.runs(source.experiments()[0]))
    assert found.params == {"late": "1"}
    assert before == {one: one.read_bytes() for one in before}
    writer.close()


def test_a_full_disk_leaves_no_half_of_an_export(ws, tmp_path):
    run = ws.runs.create_run("0", start_ms=1)
    ws.artifacts.put(run.id, "large.bin", os.urandom(400_000), at_ms=1)

    def work() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        for format in ("mlflow", "tables"):
            with pytest.raises(Unavailable):
                export_runs(ws, tmp_path / "out", every=True, format=format)

    assert child(work) == 0
    assert sorted(one.name for one in tmp_path.iterdir()) == ["ws"]
    export_runs(ws, tmp_path / "out", every=True)
    with pytest.raises(Conflict, match="there already"):
        export_runs(ws, tmp_path / "out", every=True)


ANSWERS = [
    (302, {"Location": "http://169.254.169.254/"}, b"", Invalid, "169.254"),
    (401, {}, b"", Denied, "401"),
    (200, {}, b"<html>", Unavailable, "JSON"),
    (200, {}, b'{"experiments": [], "next_page_token": "x"}', Unavailable, "same page"),
    (404, {}, b"nothing", NotFound, "404"),
]


def test_a_server_that_sends_elsewhere_refuses_or_goes_in_circles_is_told(ws, monkeypatch):
    asked: list[tuple[str, str | None]] = []
    now = ANSWERS[:1]

    class Door(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append((self.path, self.headers["Authorization"]))
            self.rfile.read(int(self.headers["Content-Length"]))
            status, headers, body, *_ = now[0]
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "token")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Door) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/sub"
        for answer in ANSWERS:
            now[0] = answer
            with pytest.raises(answer[3]) as caught, mlflow_source(address) as source:
                import_mlflow(ws, source, address)
            assert answer[4] in str(caught.value)
        server.shutdown()
    assert set(asked) == {("/sub/api/2.0/mlflow/experiments/search", "Bearer token")}
    with pytest.raises(Invalid, match="name or a password"), mlflow_source("http://u:p@host/"):
        pass
