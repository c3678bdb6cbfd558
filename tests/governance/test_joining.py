"""Two workspaces become one: a union of what never changes, in any order, as often as one likes, from anyone."""

from __future__ import annotations

import json
import math
import re
import shutil
import zipfile
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.ui.world import candidate, register

from loopline import registry
from loopline.base.errors import Invalid
from loopline.base.ids import canonical, digest
from loopline.governance import joining, reclaiming
from loopline.governance.joining.nouns import ARRIVING
from loopline.governance.joining.sending import had
from loopline.governance.joining.traces import GONE, PLACE
from loopline.registry import shelving
from loopline.registry.origin import FROM, ORIGIN
from loopline.registry.shelf import entries, shelf
from loopline.store.runs.protocol import Dataset, LoggedModel, ModelUse, Point
from loopline.store.runs.traces.otlp import batches
from loopline.store.runs.traces.protocol import Span, Trace
from loopline.training.exchange.verbs import export_runs, import_mlflow, import_runs, mlflow_source
from loopline.workspace import FOLDER, Workspace, create_workspace

MODEL = "m-" + "1" * 32


@pytest.fixture
def new(tmp_path):
    made = []

    def make() -> Workspace:
        made.append(create_workspace(tmp_path / f"w{len(made)}" / FOLDER, actor="user:ada"))
        return made[-1]

    yield make
    for ws in made:
        ws.close()


def a_run(ws: Workspace, id: str, *, value: float = 1.0, experiment: str = "Default", **tags: str) -> str:
    into = ws.runs.experiment_named(experiment) or ws.runs.create_experiment(experiment, at_ms=1)
    run = ws.runs.create_run(into.id, start_ms=5, name=f"run {id}", user="bob", tags=tags, id=id).id
    points = [Point("m", value * n, n, n) for n in range(20)]
    ws.runs.log(run, metrics=[*points, Point("odd", math.nan, 1, 1), Point("odd", math.inf, 2, 2)], params={"p": "x"})
    ws.runs.log_uses(run, datasets=[Dataset("rows", "d", "file", "{}", tags={"context": "train"})])
    ws.artifacts.put(run, "notes/a.txt", f"of {id}".encode(), at_ms=1)
    ws.artifacts.put(run, "same.txt", b"the same everywhere", at_ms=1)
    ws.runs.change_run(run, status="FINISHED", end_ms=9)
    return run


def sent(source: Workspace, to: Workspace, *, whole: bool = False) -> joining.Receipt:
    path = to.root / "parcel.zip"
    joining.pack(source, path, have=None if whole else joining.inventory(to))
    with joining.Parcel(path) as parcel:
        return joining.receive(to, parcel)


def content(ws: Workspace) -> Any:
    """Everything that is joined, as it reads."""
    runs = {}
    for id in had(ws)["runs"]:
        run = ws.runs.run(id)
        series = {key: ws.runs.read_columns(id, key) for key in sorted({p.key for p in run.metrics})}
        files = {f.path: ws.artifacts.read(id, f.path) for f in ws.artifacts.files(id)}
        about = (run.name, run.user, run.status, run.start_ms, run.end_ms, run.params, run.tags, run.datasets, run.made)
        runs[id] = (ws.runs.experiment(run.experiment).name, about, series, files)
    registered = sorted(
        (e.name, e.tags.get(ORIGIN, e.id), e.description, tuple(sorted((e.deposit.files if e.deposit else {}).items())))
        for e in entries(ws)
    )
    return runs, registered


def test_a_run_arrives_as_it_was_with_its_series_files_data_and_experiment(new):
    here, there = new(), new()
    run = a_run(there, "a" * 32, experiment="by hand", note="kept")
    made = LoggedModel(MODEL, there.runs.run(run).experiment, "net", run, "", "READY", "", "onnx", 3, 3, {"k": "v"})
    there.runs.create_model(made)
    there.artifacts.put(MODEL, "model.onnx", b"weights", at_ms=1)
    there.runs.log(run, metrics=[Point("m", 2.0, 2, 2, MODEL)])
    there.runs.log_uses(run, made=[ModelUse(MODEL, 3)])
    there.runs.create_run("0", start_ms=1)  # goes on
    done = sent(there, here)
    assert done.added == {"runs": 1, "models": 1, "registrations": 0, "traces": 0, "files": 3} and not done.refused
    assert content(here) == content(there)
    assert here.artifacts.read(MODEL, "model.onnx") == b"weights"
    assert here.runs.model(MODEL).params == {"k": "v"} and len(here.runs.model(MODEL).metrics) == 1
    last = here.records.entries()[-1]
    assert last["action"] == "governance.receive" and last["doc"]["workspace"] == there.id
    assert last["doc"]["head"] == (None if done.head is None else done.head)
    again = sent(there, here)
    assert set(again.added.values()) == {0}
    whole = sent(there, here, whole=True)
    assert set(whole.added.values()) == {0} and not whole.refused and not whole.told


def a_trace(ws: Workspace, n: int, *, steps: int = 2, said: str = "x", experiment: str = "Default") -> str:
    into = ws.runs.experiment_named(experiment) or ws.runs.create_experiment(experiment, at_ms=1)
    id = f"{n:032x}"
    spans = [
        {"traceId": id, "spanId": f"{at:016x}", "name": f"step {at}", "startTimeUnixNano": 10**18 + at,
         "endTimeUnixNano": 10**18 + 9, **({"parentSpanId": f"{1:016x}"} if at > 1 else {}),
         "attributes": [{"key": "tokens", "value": {"doubleValue": 1.0}}, {"key": said, "value": {"intValue": "7"}}]}
        for at in range(1, steps + 1)
    ]  # fmt: skip
    scopes = [{"scope": {"name": f"scope {at}"}, "spans": [span]} for at, span in enumerate(spans)]
    for origin, some in batches({"resourceSpans": [{"resource": {"attributes": []}, "scopeSpans": scopes}]}):
        ws.traces.add_spans(into.id, some, origin=origin)
    return f"tr-{id}"


def traced(ws: Workspace, ids: list[str]) -> Any:
    """Traces as they read, but for where their files are."""
    runs = ws.traces.runs(ids)
    return {
        one.id: (ws.runs.experiment(one.experiment).name, replace(one, experiment="", tags={**one.tags, PLACE: ""}),
                 ws.traces.shared(one.id), runs.get(one.id, []))
        for one in ws.traces.traces(ids)
    }  # fmt: skip


def test_traces_travel_with_what_was_said_of_them_and_what_was_deleted_stays_so(new):
    here, there = new(), new()
    assert joining.pack(there, there.root / "parcel.zip").told == []
    run = a_run(there, "a" * 32)
    there.runs.create_experiment("another here", at_ms=1)
    ids = [a_trace(there, n, experiment="agents") for n in (1, 2, 3)]
    there.traces.put(
        Trace(
            ids[0],
            there.traces.trace(ids[0]).experiment,
            10**12,
            1,
            "ERROR",
            "in",
            "out",
            "req",
            {"m": "1"},
            {"t": "2"},
        )
    )
    there.traces.judge(ids[0], "a-1", {"assessment_id": "a-1", "assessment_name": "good", "feedback": {"value": 2**60}})
    there.traces.link([ids[0]], run)
    there.artifacts.put(ids[0], "image.png", b"seen", at_ms=1)
    there.traces.add_spans("0", [Span("tr-9", "9" * 16, "8" * 16, "goes on", None, "UNSET", 5, None, "{}")])
    there.traces.examples.create("questions", at_ms=1, by="ada")
    told = joining.pack(there, there.root / "parcel.zip", have=joining.inventory(here)).told
    assert told == [
        "1 trace that goes on stays there", "1 evaluation dataset stays in that workspace: it does not travel"
    ]  # fmt: skip
    assert not (here.root / "traces.db").exists(), "a look makes no file"
    done = sent(there, here)
    assert (done.added["traces"], done.refused) == (3, ()) and traced(here, ids) == traced(there, ids)
    assert here.artifacts.read(ids[0], "image.png") == b"seen" and here.traces.runs(ids) == {ids[0]: [run]}
    again = sent(there, here, whole=True)
    assert set(again.added.values()) == {0} and not again.refused and not again.told
    there.traces.set_tags(ids[0], {"t": "3", "new": "4"})
    a_trace(there, 2, steps=4, experiment="agents")
    here.traces.delete(here.traces.trace(ids[2]).experiment, ids=[ids[2]])
    done = sent(there, here)
    assert done.added["traces"] == 0 and not done.refused
    assert traced(here, ids[1:]) == traced(there, ids[1:2]) and here.traces.trace(ids[0]).tags["new"] == "4"
    assert any("t says '2' here" in one for one in done.told)
    assert f"trace {ids[2]} is deleted here and stays so" in sent(there, here, whole=True).told
    assert set(sent(here, there).added.values()) == {0} and len(traced(there, ids)) == 3


def test_another_trace_of_the_same_id_is_refused_and_so_is_what_is_no_span(new, tmp_path):
    here, there = new(), new()
    id = a_trace(there, 1)
    a_trace(here, 1, said="y")
    before = traced(here, [id])
    assert "another span" in sent(there, here, whole=True).refused[0] and traced(here, [id]) == before
    path = there.root / "parcel.zip"
    joining.pack(there, path)
    with joining.Parcel(path) as parcel:
        doc = parcel.document(f"traces/{id}.json")
    for change in ({"spans": [["{}", "{}"]]}, {"about": [1, 2, "GOOD", None, None, None]}, {"judgements": ["[]"]},
                   {"spans": [["[", doc["spans"][0][1]]]}, {"spans": [["{}", doc["spans"][0][1] + " "]]}):  # fmt: skip
        forged = repacked(
            path, tmp_path / "f", change={f"traces/{id}.json": canonical({**doc, **change})}, honest=True
        )  # fmt: skip
        other = new()
        with joining.Parcel(forged) as parcel:
            assert len(joining.receive(other, parcel).refused) == 1
        assert not other.traces.count()[0]


def test_a_judged_version_arrives_as_a_registration_with_its_signature_and_is_judged_anew(new):
    here, there = new(), new()
    version = register(there, "churn", *candidate(there, "one", auc=0.7))
    registry.approve(there.acting_as("user:bob"), version, reason="fine")
    registry.promote(there, version, reason="first")
    done = sent(there, here)
    assert done.added["registrations"] == 1 and done.signed and done.head is not None
    (entry,) = entries(here)
    assert entry.version is None and entry.tags[ORIGIN] == version.id and entry.tags[FROM] == f"{there.id} churn 1"
    files = entry.deposit.files
    assert here.artifacts.blobs.get(files["bundle.zip"]) == there.blobs.get(version.bundle)
    assert here.artifacts.blobs.get(files["signature.json"]) == there.blobs.get(version.signature)
    assert json.loads(here.artifacts.blobs.get(files["lineage/version.json"]))["id"] == version.id
    assert any("production" in told for told in done.told) and shelf(here, "churn").aliases == {}
    assert sent(here, there).added["registrations"] == 0, "what it judged itself it does not take back"
    third = new()
    sent(here, third)
    assert [e.tags for e in entries(third)] == [entry.tags]
    assert set(sent(there, third).added.values()) == {0}, "it is the same, whichever way it came"


def test_a_run_that_was_deleted_and_freed_stays_away_whichever_way_it_would_come(new, tmp_path):
    here, there = new(), new()
    stays, lost = a_run(there, "a" * 32), a_run(there, "b" * 32)
    sent(there, here)
    here.runs.change_run(lost, stage="deleted", at_ms=1)
    reclaiming.gc(here, older_than=timedelta(0), grace=timedelta(0))
    told = joining.pack(there, tmp_path / "push.zip", have=joining.inventory(here)).told
    assert told == ["1 run that was deleted where this would go stays deleted"]
    for whole in (False, True):
        done = sent(there, here, whole=whole)
        assert set(done.added.values()) == {0} and not done.refused
        assert done.told == (("1 run deleted here stays deleted",) if whole else ())
    for way in ("mlflow", "tables"):
        export_runs(there, tmp_path / way, every=True, format=way)
    assert import_runs(here, tmp_path / "tables").gone == 1
    with mlflow_source(str(tmp_path / "mlflow" / "mlflow.db")) as source:
        assert import_mlflow(here, source, "there").gone == 1
    assert {id for id, said in had(here)["runs"].items() if said != GONE} == {stays} and not here.artifacts.files(lost)
    half = a_run(here, "c" * 32)
    here.runs.log(half, tags={ARRIVING: there.id})
    here.runs.change_run(half, stage="deleted", at_ms=1)
    reclaiming.gc(here, older_than=timedelta(0), grace=timedelta(0))
    a_run(there, half)
    assert sent(there, here).added["runs"] == 1, "what arrived by halves may come again"


def test_names_tags_and_aliases_that_clash_are_told_and_stay_as_they_are(new):
    here, there = new(), new()
    for ws, word in ((here, "ours"), (there, "theirs")):
        run = a_run(ws, "b" * 32, note=word)
        ws.runs.log(run, tags={f"only {word}": "1"})
        shelving.create(ws, "net")
        shelving.deposit(ws, "net", source="models:/x", owner=run, run=run, description=word)
        shelving.point(ws, "net", "best", 1)
    shelving.point(there, "net", "fresh", 1)
    done = sent(there, here)
    assert not done.refused and done.added["registrations"] == 1
    assert here.runs.run("b" * 32).tags["note"] == "ours" and here.runs.run("b" * 32).tags["only theirs"] == "1"
    assert shelf(here, "net").aliases.keys() == {"best", "fresh"}
    told = "\n".join(done.told)
    assert "note says 'ours' here" in told and "the alias 'best' of net points at another" in told
    assert [e.number for e in entries(here, "net")] == [1, 2]


def test_the_same_id_with_another_content_is_refused_and_named_and_the_rest_comes(new):
    here, there = new(), new()
    a_run(here, "c" * 32, value=1.0)
    a_run(there, "c" * 32, value=2.0)
    a_run(there, "d" * 32)
    before = content(here)[0]["c" * 32]
    done = sent(there, here)
    assert len(done.refused) == 1 and "c" * 32 in done.refused[0] and done.added["runs"] == 1
    assert content(here)[0]["c" * 32] == before
    here.runs.change_run("d" * 32, stage="deleted")
    assert "run " + "d" * 32 + " is deleted here and stays so" in sent(there, here).told


WORLDS = st.lists(st.sets(st.sampled_from("abcd"), max_size=3), min_size=3, max_size=3)


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(WORLDS)
def test_the_union_knows_no_order_no_grouping_and_no_repetition(tmp_path_factory, worlds):
    root = tmp_path_factory.mktemp("union")
    made = []

    def make(ids) -> Workspace:
        made.append(create_workspace(root / f"w{len(made)}" / FOLDER, actor="user:ada"))
        for id in ids:
            run = a_run(made[-1], id * 32, **{id: "tag"})
            if id == "a":
                shelving.create(made[-1], "net")
                shelving.deposit(made[-1], "net", source="models:/x", owner=run, run=run, key="one and the same")
        return made[-1]

    a, b, c = (make(ids) for ids in worlds)
    left, right = make(()), make(())
    for source in (a, b, c, a):  # (a + b) + c, and a again
        sent(source, left)
    sent(b, c)
    sent(c, a)
    sent(a, right)  # a + (c + b)
    runs, registered = content(left)
    assert content(right)[0] == runs and runs.keys() == {id * 32 for ids in worlds for id in ids}
    assert len(content(right)[1]) == len(registered)
    for ws in made:
        ws.close()


def repacked(path: Path, to: Path, *, change: dict[str, bytes | None], link: str = "", honest: bool = False) -> Path:
    """A parcel with other entries; its list says so where it is `honest`."""
    with zipfile.ZipFile(path) as old:
        entries = {info.filename: old.read(info) for info in old.infolist()}
    for name, data in change.items():
        if data is None:
            entries.pop(name, None)
        else:
            entries[name] = data
    if honest:
        doc = json.loads(entries.pop("parcel.json"))
        doc["entries"] = {name: digest(data) for name, data in entries.items()}
        entries["parcel.json"] = canonical(doc)
    with zipfile.ZipFile(to, "w") as made:
        for name, data in entries.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (0o120777 if name == link else 0o100644) << 16
            made.writestr(info, data)
    return to


def test_a_hostile_parcel_is_refused_before_anything_of_it_is_used(new, tmp_path):
    here, there = new(), new()
    run = a_run(there, "e" * 32)
    good = tmp_path / "good.zip"
    joining.pack(there, good)
    frames, blob = f"runs/{run}.frames", next(n for n in zipfile.ZipFile(good).namelist() if n.startswith("blobs/"))
    bad = {
        "bytes": repacked(good, tmp_path / "1", change={frames: b"LLF1other"}),
        "missing": repacked(good, tmp_path / "2", change={frames: None}),
        "traversal": repacked(good, tmp_path / "3", change={"runs/../../x.json": b"{}"}, honest=True),
        "absolute": repacked(good, tmp_path / "4", change={"/etc/passwd": b"x"}, honest=True),
        "link": repacked(good, tmp_path / "5", change={}, link=blob),
        "false blob": repacked(good, tmp_path / "6", change={blob: b"another"}, honest=True),
        "no list": repacked(good, tmp_path / "7", change={"parcel.json": None}),
        "list": repacked(good, tmp_path / "8", change={"parcel.json": b"[" * 100_000}),
        "cut": tmp_path / "9",
    }
    bad["cut"].write_bytes(good.read_bytes()[:-200])
    packed = tmp_path / "10"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("blobs/" + "0" * 64, b"\0" * 10_000_000)
    twice = tmp_path / "13"
    with zipfile.ZipFile(twice, "w") as made, pytest.warns(UserWarning, match="Duplicate name"):
        made.writestr(f"runs/{run}.json", b"{}")
        made.writestr(f"runs/{run}.json", b"{}")
    why = {"link": f"{blob!r} is a link$", "a bomb": "is compressed, which", "twice": f"{run}.json' is in it twice$"}
    for name, path in {**bad, "a bomb": packed, "twice": twice}.items():
        with pytest.raises(Invalid) as refused:
            joining.Parcel(path).__exit__(None, None, None)
            pytest.fail(name)
        assert re.search(why.get(name, ""), refused.value.why), name
    with pytest.raises(Invalid, match="no parcel"):
        joining.Parcel(good, at_most=10)
    unsigned = repacked(good, tmp_path / "11", change={}, honest=True)
    with joining.Parcel(unsigned) as parcel:
        assert parcel.signed and parcel.key is not None  # nothing was changed: the list is the same
    forged = repacked(good, tmp_path / "12", change={f"runs/{run}.json": b'{"name": 5}'}, honest=True)
    with joining.Parcel(forged) as parcel:
        assert not parcel.signed
        assert len(joining.receive(here, parcel).refused) == 1
    assert content(here) == ({}, [])


def test_frames_that_lie_about_their_run_or_do_not_end_are_refused_and_leave_no_whole_run(new, tmp_path):
    here, there = new(), new()
    one, two = a_run(there, "1" * 32), a_run(there, "2" * 32)
    good = tmp_path / "good.zip"
    joining.pack(there, good)
    with zipfile.ZipFile(good) as old:
        of_two = old.read(f"runs/{two}.frames")
        of_one = old.read(f"runs/{one}.frames")
    for change in ({f"runs/{one}.frames": of_two}, {f"runs/{one}.frames": of_one[:-60]}):
        path = repacked(good, tmp_path / "bad.zip", change=change, honest=True)
        with joining.Parcel(path) as parcel:
            done = joining.receive(here, parcel)
        assert len(done.refused) == 1 and content(here)[0].keys() == {two}
    assert set(sent(there, here).added) and content(here)[0].keys() == {one, two}


def test_interrupted_anywhere_and_done_again_it_ends_the_same(new, monkeypatch):
    there = new()
    for id in "ab":
        a_run(there, id * 32)
    shelving.create(there, "net")
    shelving.deposit(there, "net", source="models:/x", owner="a" * 32)
    stop_at, stopped = 0, True
    while stopped:
        stop_at += 3
        here, calls = new(), 0

        def counted(real: Any) -> Any:
            def call(*args: Any, **kwargs: Any) -> Any:
                nonlocal calls
                calls += 1
                if calls == stop_at:  # noqa: B023
                    raise KeyboardInterrupt
                return real(*args, **kwargs)

            return call

        with monkeypatch.context() as patch:
            for cls, names in ((type(here.runs), ("log", "log_columns", "create_run", "change_run", "log_uses")),
                               (type(here.artifacts), ("keep", "name", "share", "delete"))):  # fmt: skip
                for name in names:
                    patch.setattr(cls, name, counted(getattr(cls, name)))
            try:
                sent(there, here)
                stopped = False
            except KeyboardInterrupt:
                pass
        assert sent(there, here).refused == ()
        assert content(here)[0] == content(there)[0] and len(content(here)[1]) == 1
        assert not any(owner.startswith("arriving-") for owner in here.artifacts.index())
        shutil.rmtree(here.root, ignore_errors=True)
    assert stop_at > 9
