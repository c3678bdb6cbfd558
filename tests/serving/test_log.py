from __future__ import annotations

import random
import signal
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline import serving
from loopline.base.errors import Invalid
from loopline.serving import journal, log
from loopline.serving.journal import Journal, reading
from loopline.serving.pending import pending
from loopline.serving.state import Place
from loopline.workspace import create_workspace

INPUTS = [
    {"name": "x", "kind": "number", "categories": []},
    {"name": "kind", "kind": "category", "categories": ["a", "b"]},
    {"name": "score", "kind": "number", "categories": []},
]
SHARED = {"endpoint": "ep", "version": "v1", "role": "champion", "generation": 3, "inputs": INPUTS}

texts = st.text(max_size=20)
answers = st.tuples(
    st.integers(0, 2**50), st.floats(allow_nan=False), texts, texts, st.lists(st.text("abc:", min_size=1), max_size=3),
    st.integers(0, 7), st.lists(st.floats(width=32, allow_nan=False), min_size=3, max_size=3),
)  # fmt: skip


@pytest.fixture
def ws(tmp_path):
    return create_workspace(tmp_path / ".loopline", actor="user:ada")


@pytest.fixture
def place(ws):
    made = Place(ws.root, "ep")
    made.segments.mkdir(parents=True)
    return made


def append(book: Journal, id: str, *, at: int = 1_000_000, inputs=(1.0, 0.0, 2.0), broken: str = "") -> bool:
    parts = (id.encode(), b"entity", b"v1", broken.encode(), b"")
    return book.append(at, at, 0.25, 1.0, 7, parts, 0, journal.STICKY, np.array(inputs, "<f4").tobytes())


def fill(place: Place, name: str, ids, **shared) -> None:
    book = Journal(place.segments / f"{name}.journal", {**SHARED, **shared}, 3)
    for id in ids:
        assert append(book, id)
    book.close()


def ids(ws) -> list[str]:
    return serving.predictions(ws, "ep").collect()["prediction_id"].to_list()


@settings(max_examples=50)
@given(st.lists(answers, max_size=30))
def test_a_journal_gives_back_what_was_appended(rows):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "j.journal"
        book = Journal(path, SHARED, 3)
        for at, score, id, entity, broken, flags, inputs in rows:
            parts = (id.encode(), entity.encode(), b"v1", "\n".join(broken).encode(), b"")
            assert book.append(at, at + 1, score, 0.5, 9, parts, 1, flags, np.array(inputs, "<f4").tobytes())
        with reading(path) as reader:
            assert (reader.count, reader.shared, reader.closed) == (len(rows), SHARED, False)
            found = reader.rows(0, reader.count)
        book.close()
        assert [t[:4] for t in found.texts] == [(i, e, "v1", "\n".join(b)) for _, _, i, e, b, _, _ in rows]
        assert found.fixed["decision_time"].tolist() == [r[0] for r in rows]
        assert found.fixed["score"].tolist() == [r[1] for r in rows]
        assert found.fixed["flags"].tolist() == [r[5] for r in rows]
        assert found.inputs.tolist() == [r[6] for r in rows]


def test_a_full_journal_takes_nothing_and_keeps_what_it_has(tmp_path):
    book = Journal(tmp_path / "j.journal", SHARED, 3, rows=5)
    taken = [append(book, f"id{n}") for n in range(8)]
    assert taken == [True] * 5 + [False] * 3
    text = Journal(tmp_path / "t.journal", SHARED, 3, rows=2)
    assert not append(text, "x" * 400)
    assert append(text, "short")


def test_what_a_killed_process_appended_is_whole_and_its_journal_counts_as_closed(place):
    code = (
        "import sys, os, signal; sys.path.insert(0, sys.argv[2]); from test_log import *\n"
        "book = Journal(Path(sys.argv[1]) / 'k.journal', SHARED, 3)\n"
        "[append(book, f'id{n}') for n in range(100)]\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(place.segments), str(Path(__file__).parent)], check=False)
    assert done.returncode == -signal.SIGKILL
    with reading(place.segments / "k.journal") as reader:
        assert (reader.count, reader.closed) == (100, True)
        assert [t[0] for t in reader.rows(0, 100).texts] == [f"id{n}" for n in range(100)]


def test_the_table_has_the_documented_columns(ws, place):
    book = Journal(place.segments / "a.journal", SHARED, 3)
    append(book, "one", inputs=(1.5, float("nan"), 2.0), broken="unseen:kind\nrange:x")
    append(book, "two", inputs=(float("nan"), 1.0, 0.0))
    book.close()
    serving.flush(ws, "ep")
    table = serving.predictions(ws, "ep").sort("prediction_id").collect()
    kinds = {"x": pl.Float32(), "kind": pl.String(), "score": pl.Float32()}
    assert dict(table.schema) == log.schema(kinds)
    assert log.input_columns(table.columns) == ["x", "kind", "input_score"]
    one, two = table.to_dicts()
    assert one["broken"] == ["unseen:kind", "range:x"]
    assert (one["x"], one["kind"], one["input_score"]) == (1.5, None, 2.0)
    assert (two["x"], two["kind"], two["broken"], two["fallback"]) == (None, "b", [], None)
    assert two["decision_time"] == datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)
    assert two["sticky"] and not two["decision"] and not two["holdout"]


def test_a_flush_holds_all_that_was_answered_before_it_and_a_second_one_adds_nothing(ws, place):
    book = Journal(place.segments / "a.journal", SHARED, 3)
    append(book, "one")
    assert serving.flush(ws, "ep").rows == 1
    append(book, "two")
    fill(place, "b", ["three"], version="v2", role="canary")
    assert pending(place) == 2
    assert serving.flush(ws, "ep").rows == 2
    assert serving.flush(ws, "ep").rows == 0
    assert sorted(ids(ws)) == ["one", "three", "two"]
    assert [p.name for p in place.segments.iterdir()] == ["a.journal"]  # b is closed and done
    book.close()


def test_the_same_id_is_logged_once_but_a_shadow_beside_its_answer(ws, place):
    fill(place, "a", ["one", "one", "two"])
    fill(place, "b", ["one"], version="v2", role="shadow")
    serving.flush(ws, "ep")
    fill(place, "c", ["two", "three"], version="v2", role="canary")
    fill(place, "d", ["one"], version="v2", role="shadow")
    log.Committer(ws.tables, place).commit()  # a process that has seen nothing of it yet
    assert sorted(ids(ws)) == ["one", "one", "three", "two"]


def test_a_damaged_journal_does_not_hold_up_the_others(ws, place):
    (place.segments / "bad.journal").write_bytes(b"rubbish" * 1000)
    fill(place, "good", ["one"])
    assert serving.flush(ws, "ep").rows == 1
    with pytest.raises(Invalid, match=r"bad\.journal"):
        journal.Reader(place.segments / "bad.journal")


def test_an_endpoint_that_never_answered_has_an_empty_log(ws):
    assert serving.flush(ws, "ep") == log.Committed(0, None)
    assert serving.predictions(ws, "ep").collect().schema == pl.Schema(log.COLUMNS)


FLUSH = (
    "import sys; from pathlib import Path\n"
    "from loopline import serving; from loopline.workspace import open_workspace\n"
    "ws = open_workspace(Path(sys.argv[1]), actor='user:ada'); ws.tables; import loopline.serving.log\n"
    "print('ready', flush=True); serving.flush(ws, 'ep'); print('done', flush=True)"
)


def test_however_a_commit_is_killed_every_answer_is_in_the_table_once(ws, place):
    draw, killed = random.Random(7), 0
    for round in range(8):
        fill(place, f"j{round}", [f"{round}-{n}" for n in range(300)])
        child = subprocess.Popen([sys.executable, "-c", FLUSH, str(ws.root)], stdout=subprocess.PIPE)
        assert child.stdout.readline() == b"ready\n"
        time.sleep(draw.uniform(0, 0.12))
        killed += child.poll() is None
        child.kill()
        child.wait()
    serving.flush(ws, "ep")
    assert killed >= 3
    assert sorted(ids(ws)) == sorted(f"{r}-{n}" for r in range(8) for n in range(300))


def test_killed_between_its_append_and_its_note_a_commit_adds_nothing_twice(ws, place):
    book = Journal(place.segments / "a.journal", SHARED, 3)
    append(book, "one"), append(book, "two")
    assert serving.flush(ws, "ep").rows == 2
    (place.folder / "commit.json").unlink()  # as it was before the note
    append(book, "three")
    assert log.Committer(ws.tables, place).commit().rows == 1
    book.close()
    assert sorted(ids(ws)) == ["one", "three", "two"]
    serving.flush(ws, "ep")
    assert list(place.segments.iterdir()) == []
