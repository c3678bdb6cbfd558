"""An erased subject is in no answer of a step, nor in what was computed from one; files of runs are told."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.governance.test_erasure import FRAMING, PAGE, TABLES, UNITS, VIEWS, WHO
from tests.training.pipeline.world import HEAD, World

from loopline.features.spec import FeaturesSpec
from loopline.governance import erasure
from loopline.governance.holding import Search
from loopline.governance.mentions import LARGEST, Mentions
from loopline.store.runs.traces.protocol import Span, Trace
from loopline.training.pipeline.answers import in_use
from loopline.training.pipeline.task import store
from loopline.training.pipeline.verbs import pipeline_log

FLOW = {
    "flow.py": HEAD
    + """
import polars as pl


@step
def read(file: Path) -> pl.DataFrame:
    rows = pl.read_csv(file)
    print("the first is", rows["contact"][0])
    return rows


@step
def sizes(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select("size")


@step
def largest(rows: pl.DataFrame) -> int:
    return rows["size"].max()


@step
def apart() -> bytes:
    return b"nobody is in here" * 1000


@pipeline
def main(file: Path = Path("people.csv")):
    return largest(sizes(read(file))), apart()
""",
    "people.csv": f"contact,size\n{WHO},7\nx@y.org,3\n",
    "orders.yaml": PAGE,
    "views.py": VIEWS,
}


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path, FLOW)
    made.ws.tables.append("orders", pl.DataFrame({"parcel_id": [*UNITS, "p-3"], "mail": [WHO, WHO, "x@y.org"]}))
    return made


def asked(world: World, verb=erasure.erase):
    features = FeaturesSpec(spine="orders", views=("views.py",))
    return verb(world.ws, world.root, FRAMING, features, TABLES, subject=WHO, column="mail")


def answers(places) -> dict[str, int]:
    return {place.name: place.rows for place in places if place.kind == "step answer"}


def test_answers_that_hold_it_or_came_from_such_go_and_are_computed_again(world):
    first = world.run()
    blobs = store(world.ws.root)
    before = set(blobs)
    told = answers(asked(world, erasure.where))
    assert told == {"read of flow.py:main": 2, "sizes of flow.py:main": 1}  # the frame and what it printed
    assert set(blobs) == before, "looking changes nothing"
    proof = asked(world)[0]
    assert answers(proof.places) == told and not answers(proof.left) and not proof.left
    assert not any(WHO.encode() in blobs.get(digest) for digest in blobs)
    assert blobs.get(world.step(first, "apart").blobs[0]).startswith(b"nobody")
    world.write({"people.csv": "contact,size\nx@y.org,3\n"})
    again = world.run()
    assert world.ran(again) == {"read", "sizes", "largest"} and world.value(again)[0] == 3
    assert answers(asked(world, erasure.where)) == {}
    with pytest.raises(Exception, match="no blob"):
        pipeline_log(world.ws, run=first.id, step="read")


def test_while_a_pipeline_runs_its_answers_stay_and_the_proof_says_so(world):
    world.run()
    with in_use(world.ws.root):
        assert answers(asked(world)[0].left)
    assert not answers(asked(world)[0].left)


def test_logs_of_steps_that_were_killed_go_too(world):
    log = world.ws.root / "steps" / "logs" / "run" / "read-1.log"
    log.parent.mkdir(parents=True)
    log.write_text(f"asking {UNITS[0]}...\n")
    assert answers(asked(world)[0].places) == {"log of run": 1} and not log.exists()


def test_files_of_runs_that_hold_it_are_flagged_and_left_as_they_are(world):
    run = world.ws.runs.create_run("0", start_ms=1).id
    table = io.BytesIO()
    pl.DataFrame({"who": [WHO, "x@y.org"]}).write_parquet(table)
    files = {
        "notes.txt": f"ask {WHO}.".encode(), "rows.parquet": table.getvalue(), "all.zip": b"PK\x03\x04" + WHO.encode(),
        "other.txt": f"no{WHO}".encode(), f"{UNITS[0]}/list.txt": UNITS[0].encode(),
    }  # fmt: skip
    for path, data in files.items():
        world.ws.artifacts.put(run, path, data, at_ms=1)
    proof = asked(world)[0]
    told = {place.name: (place.rows, place.act) for place in proof.flagged if place.kind == "run file"}
    assert told == {
        f"{run}/notes.txt": (1, "flag"),
        f"{run}/rows.parquet": (1, "flag"),
        f"{run}/(its path names it too)": (1, "flag"),
        "1 packed or large": (1, "flag"),
    }
    assert UNITS[0] not in str(proof)
    assert {kept.path: world.ws.artifacts.read(run, kept.path) for kept in world.ws.artifacts.files(run)} == files


def test_traces_and_examples_that_hold_it_go_whole_and_leave_no_byte(world):
    log = world.ws.traces

    def span(trace: str, said: str) -> None:
        inputs = json.dumps({"question": f"dear\n{said}"})  # as the client writes it: JSON in the text of JSON
        body = json.dumps({"attributes": [{"key": "mlflow.spanInputs", "value": {"stringValue": inputs}}]})
        log.add_spans("0", [Span(trace, "1" * 16, None, "ask", None, "OK", 1, 2, body)])

    span("tr-in-a-span", WHO)
    span("tr-of-another", "x@y.org")
    span("tr-judged", "nobody")
    log.judge("tr-judged", "a-1", {"assessment_name": "fair", "feedback": {"value": f"ask {UNITS[0]}"}})
    log.put(Trace("tr-tagged", "0", 1, 1, "OK", tags={"user": WHO}))
    questions = log.examples.create("questions", at_ms=1, by="ada").id
    log.examples.put(questions, [{"inputs": {"q": WHO}}, {"inputs": {"q": "other"}}], at_ms=1, by="ada")
    want = {("traces", "experiment 0"): 3, ("examples", f"set {questions}"): 1}

    def told(places) -> dict[tuple[str, str], int]:
        return {(p.kind, p.name): p.rows for p in places if p.kind in ("traces", "examples")}

    assert told(asked(world, erasure.where)) == want and len(log.traces(["tr-judged", "tr-tagged"])) == 2
    proof = asked(world)[0]
    assert told(proof.places) == want and not proof.left
    assert log.count() == (1, 1) and log.traces(["tr-of-another"]) and log.examples.get(questions).examples == 1
    for file in world.ws.root.glob("traces.db*"):
        assert not any(text.encode() in file.read_bytes() for text in (WHO, UNITS[0])), file


def test_a_subject_is_found_in_every_shape_of_bytes_and_as_a_whole_word_only(tmp_path):
    mentions = Mentions(Search(frozenset({"ada@x.org", "ada-1", "q"}), ("mail",), "unit", frozenset({"u7", "unit_9"})))
    for text, times in (
        ("ada@x.org, <ada@x.org>", 2), ("nada@x.org ada@x.orgs", 0), ("id=unit_9;unit_90", 1), ("q u7", 0),
        ('{"a": "ada-1"}', 1), ("", 0),
    ):  # fmt: skip
        assert mentions.in_bytes(text.encode()) == times, text
    frame = pl.DataFrame({"mail": ["q", "x", None], "other": ["y", "u7", "zada@x.org"], "n": [1, 2, 3]})
    for write, name in ((frame.write_parquet, "a"), (frame.write_ipc, "b")):
        write(tmp_path / name)
        assert mentions.in_file(tmp_path / name) == 2
    np.save(tmp_path / "c.npy", np.array(["u7", "q", "z"]))
    assert mentions.in_file(tmp_path / "c.npy") == 2
    assert mentions.in_doc({"a": ["u7", {"q": 1}]}) == 2
    (tmp_path / "d").write_bytes(b"PAR1 ada-1 is not what it seems")
    assert mentions.in_file(tmp_path / "d") == 1
    with (tmp_path / "large").open("wb") as large:
        large.truncate(LARGEST + 1)
    assert mentions.in_file(tmp_path / "large") is None
