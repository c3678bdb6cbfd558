"""The run log on the command line."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

import loopline
from loopline.interfaces.cli import main
from loopline.interfaces.cli.answer import FAILED, OK, USAGE
from loopline.interfaces.cli.runs import BARS, sparkline
from loopline.training.tracking.frames import Begin, End, Frame
from loopline.training.tracking.receiving import take
from loopline.training.tracking.spool import Writer
from loopline.workspace import create_workspace, open_workspace


@pytest.fixture
def say(tmp_path, monkeypatch, capsys):
    """A command in a folder of its own: its exit code, and the object it prints."""
    monkeypatch.chdir(tmp_path)
    for name in ("LOOPLINE_TRACKING_URI", "LOOPLINE_SPOOL"):
        monkeypatch.delenv(name, raising=False)

    def run(*words: str, code: int = OK, text: bool = False):
        assert main.run(["runs", *words, *(() if text else ("--json",))]) == code
        out = capsys.readouterr()
        return out.out + out.err if text else json.loads(out.out)

    return run


@pytest.fixture
def two(say):
    """Two runs of one experiment."""
    ids = []
    for depth in (3, 4):
        with loopline.start_run(f"try {depth}", experiment="mine", params={"depth": depth}, capture=False) as run:
            for step in range(100):
                run.log_metric("loss", 1 / (step + depth), step)
            run.log_metric("odd", math.nan)
            run.set_tag("odd", "\x1b[31m")
            run.log_text("notes", "a/b.txt")
        ids.append(run.id)
    return ids


def test_runs_are_listed_filtered_shown_compared_drawn_and_fetched(say, two):
    assert [run["info"]["run_id"] for run in say("list", "--experiment", "mine")["runs"]] == two[::-1]
    assert [run["info"]["run_id"] for run in say("list", "--filter", "params.depth > 3")["runs"]] == two[1:]
    assert "try 4" in say("list", text=True)
    assert say("show", two[0][:-1])["data"]["params"] == [{"key": "depth", "value": "3"}]
    assert say("compare", *two)["differ"]["param depth"] == ["3", "4"]
    assert say("metrics", two[0], "loss")["points"][99] == {
        "step": 99,
        "value": 1 / 102,
        "at_ms": pytest.approx(2e12, rel=1),
    }
    shown = say("metrics", two[0], text=True)
    assert "▁" in shown and "\x1b" not in shown and "NaN" in shown
    assert [file["path"] for file in say("artifacts", two[0])["files"]] == ["a/b.txt"]
    assert say("artifacts", two[0], "a/b.txt", text=True) == "notes\n"
    assert say("artifacts", two[0], "a/b.txt", "--to", "b.txt")["bytes"] == 5


def test_runs_are_moved_deleted_and_restored_and_the_audit_trail_says_so(say, two):
    assert say("move", *two, "--to", "other")["experiment"] == "other"
    assert len(say("list", "--experiment", "other")["runs"]) == 2
    say("delete", two[0])
    assert [run["info"]["run_id"] for run in say("list")["runs"]] == two[1:]
    assert [run["info"]["run_id"] for run in say("list", "--deleted")["runs"]] == two[:1]
    say("restore", two[0])
    assert len(say("list")["runs"]) == 2
    ws = open_workspace(Path(".loopline"))
    verbs = {entry["action"] for entry in ws.records.entries()}
    assert verbs == {f"training.{verb}_runs" for verb in ("move", "delete", "restore")}
    ws.close()


def test_what_is_not_there_is_refused(say, two):
    for words in (
        ("show", "ffff"),
        ("show", "' OR 1=1 --"),
        ("list", "--experiment", "nobody"),
        ("list", "--filter", "metrics."),
        ("compare", two[0]),
        ("artifacts", two[0], "../x"),
        ("list", "--workspace", "nowhere"),
        ("list", "--limit", "0"),
        ("metrics", two[0], "los"),
        ("sync", "--spool", "nowhere"),
    ):
        assert say(*words, code=USAGE)["error"]["fix"], words


def spooled(folder: Path, id: str, *more: Frame, delivered: bool = True) -> Writer:
    """A run in the spool of a workspace, and in its log; its writer."""
    begin = Begin(run=id, experiment="mine", start_ms=1, name=id, user="me", tags={})
    ws = create_workspace(folder)
    if delivered:
        take(ws.runs, ws.artifacts, [begin])
    ws.close()
    writer = Writer(folder / "spool", id)
    writer.append([begin, *more])
    return writer


def test_a_run_whose_process_is_gone_is_told_so_until_it_is_synced_and_looking_changes_nothing(say, two, tmp_path):
    spool = tmp_path / ".loopline"
    alive = spooled(spool, "alive")
    for id, more in (("broken", ()), ("ended", (End(run="ended", status="FINISHED", end_ms=2),))):
        spooled(spool, id, *more).close()
    spooled(spool, "unheard", delivered=False).close()
    left = {"broken": "BROKE_OFF", "ended": "UNDELIVERED"}
    for _ in range(2):
        assert say("list")["left"] == left
        shown = {line.split()[0]: line for line in say("list", text=True).splitlines() if line}
        assert "running" in shown["alive"] and "broke off" in shown["broken"] and "not delivered" in shown["ended"]
        assert "1 run more waits in the spool" in say("list", text=True)
        assert "loopline runs sync" in say("show", "broken", text=True)
        assert say("show", "broken")["info"]["status"] == "RUNNING"
        assert say("show", "alive").get("left") is None
    assert sorted(say("sync")["runs"]) == ["broken", "ended", "unheard"]
    assert say("list")["left"] == {} and "killed" in say("show", "broken", text=True)
    alive.close()


def test_numbers_that_differ_look_different_and_whole_ones_keep_their_digits(say):
    ids = []
    for more in (0, 1):
        with loopline.start_run(capture=False) as run:
            run.log_metrics({"rows": 12_345_678 + more, "share": 0.1234567 + more * 1e-8, "same": 0.5})
            run.log_param("path", "/data" * 20 + str(more))
        ids.append(run.id)
    assert "12,345,678" in say("list", text=True) and "12,345,678" in say("show", ids[0], text=True)
    assert say("compare", *ids)["differ"] == {
        "param path": ["/data" * 20 + "0", "/data" * 20 + "1"],
        "metric rows": ["12,345,678", "12,345,679"],
        "metric share": ["0.1234567", "0.12345671"],
    }
    row = next(line for line in say("compare", *ids, text=True).splitlines() if line.startswith("param path"))
    assert row.split()[2] != row.split()[3]


def test_a_project_names_its_workspace_and_two_folders_are_refused(say, tmp_path, monkeypatch):
    project = tmp_path / "churn"
    project.mkdir()
    (project / "loop.yaml").write_text("name: churn\n")
    with loopline.start_run("there", to=project / ".loopline", capture=False) as run:
        run.log_metric("loss", 1.0)
    assert [one["info"]["run_name"] for one in say("list", "--project", "churn")["runs"]] == ["there"]
    both = ("--project", "churn", "--workspace")
    assert len(say("list", *both, "churn/.loopline")["runs"]) == 1
    assert "two folders" in say("list", *both, "other", code=USAGE)["error"]["what"]
    assert "loop.yaml" in str(say("list", "--project", "nowhere", code=USAGE)["error"])


def test_errors_tell_what_happened_why_and_what_to_do(say, two):
    told = {
        ("list", "--limit", "0"): ("0 entries were asked for", "a page has 1 to", "whole number in between"),
        ("metrics", two[0], "los"): ("has no series 'los'", "it has 'loss'", f"loopline runs metrics {two[0][:16]}"),
        ("artifacts", two[0], "c.txt"): ("has no file 'c.txt'", "nothing was logged", "loopline runs artifacts"),
        ("lst",): ('"lst"', "there is no such command", "loopline runs list"),
        ("frobnicate", "list"): ('"frobnicate"', "Available commands", "loopline runs --help"),
        ("list", "--frob"): ("--frob", "`loopline runs list` has no such option", "loopline runs list --help"),
        ("move", two[0]): ("--to", "cannot do without it", "loopline runs move --help"),
        ("list", "--limit", "x"): ("--limit", "read as what its help says", "loopline runs list --help"),
    }
    for words, wanted in told.items():
        error = say(*words, code=USAGE)["error"]
        assert all(part in error[of] for part, of in zip(wanted, ("what", "why", "fix"), strict=True)), error
    error = say("artifacts", two[0], "a/b.txt", "--to", "no/such/b.txt", code=FAILED)["error"]
    assert error["what"] == "there is no such file or folder: no/such/b.txt" and "make its folder" in error["fix"]
    Path("got").mkdir()
    assert say("artifacts", two[0], "a/b.txt", "--to", "got")["file"] == "got/b.txt"


def test_sync_without_a_spool_delivers_nothing(say, two):
    assert say("sync")["runs"] == []


def test_a_sparkline_shows_least_and_most_and_leaves_holes():
    assert sparkline([0.0, 1.0, math.nan, 0.5]) == "▁█ ▅"
    assert sparkline([]) == ""
    assert sparkline([2.0]) == BARS[3]
    assert len(sparkline([float(value) for value in range(1000)])) == 40
    assert sparkline([-1e308, 1e308]) != ""
