"""Offline runs of W&B come in, whole or broken off. The records here are written by an encoder of the test;
tests/protocols/test_exchange.py holds the reader to what W&B itself writes."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.base.errors import Invalid
from loopline.training.exchange.bringing import bring
from loopline.training.exchange.verbs import quiet
from loopline.training.exchange.wandb_folder import WandbFolder
from loopline.training.exchange.wandb_log import BLOCK, HEAD, MAGIC, records
from loopline.workspace import create_workspace


@pytest.fixture
def ws(tmp_path):
    found = create_workspace(tmp_path / "ws")
    yield found
    found.close()


def log_of(every: list[bytes]) -> bytes:
    """Records as W&B writes them, cut where a block of 32 KiB ends."""
    out = bytearray(MAGIC)
    for record in every:
        first, rest = True, record
        while first or rest:
            left = BLOCK - len(out) % BLOCK
            if left < HEAD:
                out += bytes(left)
                continue
            part, rest = rest[: left - HEAD], rest[left - HEAD :]
            kind = (1 if not rest else 2) if first else (4 if not rest else 3)
            out += struct.pack("<IHB", zlib.crc32(part, zlib.crc32(bytes([kind]))), len(part), kind) + part
            first = False
    return bytes(out)


def number(value: int) -> bytes:
    out = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)


def field(at: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return number(at << 3) + number(value % 2**64)
    data = value.encode() if isinstance(value, str) else value
    return number(at << 3 | 2) + number(len(data)) + data


def item(key: str, value: object) -> bytes:
    names = b"".join(field(2, part) for part in key.split("|")) if "|" in key else field(1, key)
    return field(1, names + field(16, json.dumps(value)))


def stamp(seconds: int) -> bytes:
    return field(1, seconds) + field(2, 500_000_000)


def began(id: str = "abc", **config: object) -> bytes:
    said = b"".join(item(key, value) for key, value in config.items())
    git = field(21, field(1, "https://example.org/x.git") + field(2, "c0ffee"))
    return field(
        17, field(1, id) + field(3, "churn") + field(4, said) + field(8, "a name") + field(17, stamp(100)) + git
    )


def step(at: int, **values: object) -> bytes:
    own = {"_timestamp": 100.0 + at, "_step": at}
    return field(2, b"".join(item(key, value) for key, value in {**values, **own}.items()) + field(2, field(1, at)))


def ended(code: int) -> bytes:
    return field(18, field(1, code))


def run(home: Path, every: list[bytes], cut: int | None = None, name: str = "offline-run-1-abc") -> Path:
    folder = home / "wandb" / name
    (folder / "files").mkdir(parents=True)
    (folder / "run-abc.wandb").write_bytes(log_of(every)[:cut])
    return folder


@settings(max_examples=40, deadline=None)
@given(st.lists(st.binary(max_size=50) | st.integers(30_000, 70_000).map(bytes), max_size=6), st.data())
def test_a_log_cut_anywhere_keeps_the_records_before_and_invents_none(tmp_path_factory, every, data):
    path, whole = tmp_path_factory.mktemp("log") / "run-x.wandb", log_of(every)
    cut = data.draw(st.integers(HEAD, len(whole)))
    path.write_bytes(whole[:cut])
    found = list(records(path))
    assert found == every[: len(found)]
    assert len(found) == sum(len(log_of(every[: n + 1])) <= cut for n in range(len(every)))
    if cut < len(whole):
        damaged = bytearray(whole)
        damaged[cut] ^= 0x10
        path.write_bytes(damaged)
        found = list(records(path))
        assert found == every[: len(found)]


def test_config_history_summary_machine_output_and_files_come(ws, tmp_path):
    every = [
        began(lr=0.1, opt={"name": "adam", "betas": [0.9]}, _wandb={"x": 1}),
        step(0, loss=1.0, ok=True, **{"val|acc": 0.5}, nested={"deep": {"er": 2}}),
        step(1, loss=float("nan"), text="hi", picture={"_type": "image-file", "path": "media/x.png"}),
        field(3, item("best", 0.99) + item("val|acc", 0.5) + item("said", "yes")),
        field(7, field(2, stamp(101)) + field(3, field(1, "cpu") + field(16, "12.5"))),
        field(13, field(3, "a line\n")),
        field(26, field(6, "train.py") + field(13, "ada") + field(16, 8)),
        ended(0),
    ]
    folder = run(tmp_path, every)
    (folder / "files" / "diff.patch").write_text("+x")
    came = bring(ws, WandbFolder(tmp_path), "x", dry_run=False, say=quiet)
    assert came.left_out == [] and came.runs == 1
    experiment = ws.runs.experiment_named("churn")
    (found,) = ws.runs.search_runs([experiment.id]).items
    found = ws.runs.run(json.loads(found)["info"]["run_id"])
    assert (found.name, found.user, found.status, found.start_ms, found.end_ms) == (
        "a name",
        "ada",
        "FINISHED",
        100_500,
        101_500,
    )
    assert found.params == {"lr": "0.1", "opt.name": "adam", "opt.betas": "[0.9]"}
    assert found.tags["wandb.run_id"] == "abc" and found.tags["mlflow.source.git.commit"] == "c0ffee"
    series = {key: [(repr(p.value), p.at_ms, p.step) for p in ws.runs.history(found.id, key).items]
              for key in (point.key for point in found.metrics)}  # fmt: skip
    assert series == {
        "loss": [("1.0", 100_000, 0), ("nan", 101_000, 1)], "ok": [("1.0", 100_000, 0)],
        "val/acc": [("0.5", 100_000, 0)], "nested/deep/er": [("2.0", 100_000, 0)],
        "best": [("0.99", 101_500, 1)], "system/cpu": [("12.5", 101_500, 0)],
    }  # fmt: skip
    files = {one.path: ws.artifacts.read(found.id, one.path) for one in ws.artifacts.files(found.id)}
    assert files["diff.patch"] == b"+x" and files["output.log"] == b"a line\n"
    assert json.loads(files["wandb/other.jsonl"])["picture"]["path"] == "media/x.png"
    assert json.loads(files["wandb/summary.json"])["said"] == "yes"
    assert bring(ws, WandbFolder(tmp_path), "x", dry_run=False, say=quiet).known == 1


def test_a_run_that_crashed_is_killed_and_goes_on_when_it_was_resumed(ws, tmp_path):
    first = [began(), *(step(at, loss=float(at)) for at in range(5)), ended(0)]
    run(tmp_path, first, cut=len(log_of(first)) - len(ended(0)) - 12)
    assert bring(ws, WandbFolder(tmp_path), "x", dry_run=False, say=quiet).points == 4
    experiment = ws.runs.experiment_named("churn").id
    (document,) = ws.runs.search_runs([experiment]).items
    id = json.loads(document)["info"]["run_id"]
    assert ws.runs.run(id).status == "KILLED"
    run(tmp_path, [began(), step(4, loss=9.0), ended(3)], name="offline-run-2-abc")
    came = bring(ws, WandbFolder(tmp_path), "x", dry_run=False, say=quiet)
    assert (came.runs, came.completed, came.points, came.conflicts) == (0, 1, 1, [])
    assert ws.runs.run(id).status == "FAILED"
    assert [point.value for point in ws.runs.history(id, "loss").items] == [0.0, 1.0, 2.0, 3.0, 9.0]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.binary(max_size=40), min_size=1, max_size=4))
def test_records_of_anything_are_left_out_and_told(tmp_path_factory, junk):
    home = tmp_path_factory.mktemp("junk")
    run(home, [began(), *junk, step(0, loss=1.0), ended(0)])
    source = WandbFolder(home)
    (found,) = [one for experiment in source.experiments() for one in source.runs(experiment)]
    assert any(series.key == "loss" for series in source.series(found))


def test_links_lead_only_into_folders_that_were_named(ws, tmp_path):
    folder, elsewhere = run(tmp_path, [began(), ended(0)]), tmp_path.parent / f"{tmp_path.name}-elsewhere"
    elsewhere.mkdir()
    (elsewhere / "model.pt").write_text("weights")
    (folder / "files" / "model.pt").symlink_to(elsewhere / "model.pt")
    (tmp_path / "wandb" / "latest-run").symlink_to(folder)
    came = bring(ws, WandbFolder(tmp_path), "x", dry_run=False, say=quiet)
    assert came.files == 0 and "outside of the source" in came.left_out[0] and came.runs == 1
    assert bring(ws, WandbFolder(tmp_path, elsewhere), "x", dry_run=False, say=quiet).files == 1
    with pytest.raises(Invalid, match="no run of W&B"):
        WandbFolder(elsewhere)
