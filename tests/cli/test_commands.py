"""The commands as a shell sees them: exit codes, one object on standard output, a next step."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from loopline.base.code import UserCodeError
from loopline.base.errors import Conflict, Denied, Invalid, NotFound, Unavailable
from loopline.interfaces.cli import main
from loopline.interfaces.cli.answer import FAILED, OK, REFUSED, USAGE, Answer
from loopline.interfaces.cli.commands import COMMANDS, GROUPS
from loopline.loop.project import load
from loopline.workspace import VERBS, create_workspace

CSV = "id,seen,age,left\n" + "".join(
    f"c{n},2026-01-{1 + n % 28:02d}T06:00:00Z,{20 + n % 50},{n % 3 == 0:d}\n" for n in range(60)
)


def shell(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "loopline.interfaces.cli.main", *words],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def here(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """A command in this process, which is faster and ends the same way."""
    code = main.run(words)
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    path = tmp_path / "customers.csv"
    path.write_text(CSV)
    return path


def test_help_costs_at_most_three_tenths_of_a_second(tmp_path):
    def spent() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    times = []
    for _ in range(3):
        before = spent()
        answer = shell("--help", cwd=tmp_path)
        times.append(spent() - before)
        assert answer.returncode == OK
    assert min(times) <= 0.3
    for command in COMMANDS:
        assert command.words.split()[0] in answer.stdout


def test_help_imports_nothing_heavy(tmp_path):
    code = (
        "import sys; from loopline.interfaces.cli.main import run; run(['--help']); "
        "heavy = ('polars', 'pydantic', 'deltalake', 'sqlalchemy', 'lightgbm', 'starlette'); "
        "print([m for m in heavy if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.words)
def test_every_command_exists_and_shows_an_example_and_json(capsys, command):
    code, out, _ = here(capsys, *command.words.split(), "--help")
    assert code == OK
    assert "--json" in out
    flat = " ".join(out.split())
    assert f"Example: {command.example}" in flat
    words = command.example.split()[1:]
    assert command.words.split() == words[: len(command.words.split())]


def test_every_command_that_is_short_for_a_verb_names_a_real_one():
    from loopline.interfaces.http.control import load_verbs

    load_verbs()
    assert {c.verb for c in COMMANDS if c.verb} <= set(VERBS)
    assert {" ".join(c.words.split()[:-1]) for c in COMMANDS} - {""} <= set(GROUPS)


def test_a_mistyped_command_or_option_is_told_the_nearest(capsys):
    for words, near in (
        (["plann"], "loopline plan"),
        (["data", "ingst"], "loopline data ingest"),
        (["plan", "--att", "x"], "--at"),
        (["approve"], "--reason"),
    ):
        code, out, err = here(capsys, *words)
        assert (code, out) == (USAGE, "")
        assert near in err


def test_with_json_an_error_is_one_object_on_standard_output(tmp_path):
    answer = shell("status", "--json", cwd=tmp_path)
    assert answer.returncode == USAGE
    assert answer.stderr == ""
    assert json.loads(answer.stdout)["error"]["code"] == "not_found"
    assert "loopline init" in json.loads(answer.stdout)["error"]["fix"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Invalid("a", why="b", fix="c"), USAGE),
        (NotFound("a", why="b", fix="c"), USAGE),
        (Conflict("a", why="b", fix="c"), FAILED),
        (Unavailable("a", why="b", fix="c"), FAILED),
        (Denied("a", why="b", fix="c"), REFUSED),
        (UserCodeError("a", why="b", fix="c"), FAILED),
        (OSError(28, "No space left on device"), FAILED),
        (ZeroDivisionError("a bug"), FAILED),
        (KeyboardInterrupt(), 130),
    ],
)
def test_each_family_of_errors_ends_with_its_code_and_no_traceback(monkeypatch, capsys, error, code):
    def stop(**_: Any) -> Answer:
        raise error

    monkeypatch.setattr("loopline.interfaces.cli.care.doctor", stop)
    ended, out, err = here(capsys, "doctor")
    assert (ended, out) == (code, "")
    assert "Traceback" not in err
    assert "fix: " in err
    monkeypatch.setenv("LOOPLINE_DEBUG", "1")
    if not isinstance(error, KeyboardInterrupt):
        assert "Traceback" in here(capsys, "doctor")[2]


def test_init_writes_a_project_that_can_be_read_and_never_overwrites(capsys, tmp_path):
    folder = tmp_path / "churn"
    code, out, _ = here(capsys, "init", str(folder))
    assert code == OK
    assert "loopline run" in out
    project = load(folder).check()
    assert (project.name, project.spec.framing.decision_time) == ("churn", "snapshot_at")
    code, _, err = here(capsys, "init", str(folder))
    assert code == FAILED
    assert "never overwrites" in err


def test_init_from_a_csv_writes_the_four_lines(capsys, csv, tmp_path):
    folder = tmp_path / "made"
    words = ("init", str(folder), "--from", str(csv), "--label", "left", "--unit", "id", "--time", "seen", "--json")
    code, out, err = here(capsys, *words)
    assert (code, err) == (OK, "")
    assert json.loads(out)["files"] == ["loop.yaml", "train.py", "customers.csv"]
    assert (folder / "loop.yaml").read_text() == (
        "name: made\n"
        "framing: {label: left, unit: id, decision_time: seen}\n"
        "data: customers.csv\n"
        "training: train.py:fit\n"
    )
    load(folder).check()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--unit", "id"), "--label is missing"),
        (("--label", "left"), "--unit id"),
        (("--label", "lefft", "--unit", "id"), "--label left"),
        (("--label", "left", "--unit", "age"), "does not name a row"),
        (("--label", "age", "--unit", "id"), '--label "age > '),
        (("--label", "left", "--unit", "id", "--time", "age"), "age holds '20'"),
    ],
)
def test_init_says_what_a_csv_lacks(capsys, csv, tmp_path, words, said):
    code, _, err = here(capsys, "init", str(tmp_path / "made"), "--from", str(csv), *words)
    assert code == USAGE
    assert said in err
    assert not (tmp_path / "made").exists()


def test_a_label_of_two_words_becomes_a_comparison_with_the_rarer(capsys, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("id,answer\n" + "".join(f"{n},{'no' if n % 4 else 'yes'}\n" for n in range(40)))
    here(capsys, "init", str(tmp_path / "made"), "--from", str(path), "--label", "answer", "--unit", "id")
    assert load(tmp_path / "made").spec.framing.label.value == "answer == 'yes'"


def test_explain_prints_every_section_and_a_schema_that_is_json(capsys):
    code, out, _ = here(capsys, "explain", "retraining")
    assert code == OK
    assert re.search(r"retraining.cooldown.after_promotion  \(duration; default 14d", out)
    schema = json.loads(here(capsys, "explain", "--schema")[1])
    assert "framing" in schema["properties"]
    code, _, err = here(capsys, "explain", "cooldwn")
    assert (code, "loopline explain retraining.cooldown" in err) == (USAGE, True)


def test_doctor_names_a_workspace_of_a_newer_version_and_leaves_it(capsys, tmp_path):
    here(capsys, "init", str(tmp_path))
    create_workspace(tmp_path / ".loopline").close()
    marker = tmp_path / ".loopline" / "workspace.json"
    kept = marker.read_text()
    marker.write_text(kept.replace('"format": 1', '"format": 9'))
    code, out, _ = here(capsys, "doctor", "--project", str(tmp_path), "--json")
    assert code == FAILED
    found = [c for c in json.loads(out)["checks"] if c["state"] == "fail"]
    assert ["format 9" in c["what"] for c in found] == [True]
    marker.write_text(kept)
    assert here(capsys, "doctor", "--project", str(tmp_path))[0] == OK


@pytest.mark.parametrize(("flag", "real"), [((), False), (("--real",), True)])
def test_an_incident_is_listed_until_a_person_resolves_it(capsys, tmp_path, flag, real):
    from loopline.monitoring.nouns import Incident, Resolution

    here(capsys, "init", str(tmp_path))
    told = ("--project", str(tmp_path))
    ws = create_workspace(tmp_path / ".loopline", actor="user:ada")
    assert "no incident is open" in here(capsys, "incident", "list", *told)[1]
    now, id = ws.clock(), "0123456789abcdef" * 4
    with ws.records.transaction() as tx:
        tx.put(Incident(id, "table:a", "data", "a: temp in another unit", (), now, now, now, ""))
    _, out, _ = here(capsys, "incident", "list", *told)
    assert "0123456789ab" in out
    assert "a: temp in another unit" in out
    assert [i["id"] for i in json.loads(here(capsys, "incident", "list", *told, "--json")[1])["incidents"]] == [id]
    assert here(capsys, "incident", "resolve", id[:12], *told)[0] == USAGE
    code, out, _ = here(capsys, "incident", "resolve", id[:12], "--reason", "sent again", *flag, *told)
    assert code == OK
    assert ("may be trained on" in out) == real
    (ended,) = ws.records.find(Resolution)
    assert (ended.incident, ended.reason, ended.real) == (id, "sent again", real)
    assert "no incident is open" in here(capsys, "incident", "list", *told)[1]
    code, _, err = here(capsys, "incident", "resolve", id[:12], "--reason", "again", *told)
    assert (code, "has ended already" in err) == (FAILED, True)
    ws.close()


def test_override_tells_the_running_cycle_and_only_one_that_runs(capsys, tmp_path):
    from tests.ui.world import cycle

    here(capsys, "init", str(tmp_path))
    told = ("--project", str(tmp_path))
    ws = create_workspace(tmp_path / ".loopline", actor="user:ada")
    assert here(capsys, "override", "--reason", "one table", *told)[0] == USAGE
    cycle(ws, load(tmp_path).name, 1, "DATA_INCIDENT", [("TRIAGE", "DATA_INCIDENT", "bad rows")], None)
    assert here(capsys, "override", *told)[0] == USAGE, "a reason is needed"
    code, out, _ = here(capsys, "override", "--reason", "one table", *told)
    assert (code, "override" in out) == (OK, True)
    (signal,) = ws.records.signals(load(tmp_path).name)
    assert (signal[1], signal[3]["do"], signal[3]["reason"]) == ("operator", "override", "one table")
    ws.close()


def test_audit_verify_fails_when_an_entry_was_edited(capsys, tmp_path):
    import sqlite3

    from loopline import framing

    here(capsys, "init", str(tmp_path))
    ws = create_workspace(tmp_path / ".loopline", actor="user:ada")
    for name in ("a", "b"):
        framing.frame(ws, name, load(tmp_path).spec.framing)
    ws.close()
    assert here(capsys, "audit", "verify", "--project", str(tmp_path))[0] == OK
    with sqlite3.connect(tmp_path / ".loopline" / "records.db") as db:
        db.execute("update audit set actor = 'user:eve' where seq = 1")
    code, out, _ = here(capsys, "audit", "verify", "--project", str(tmp_path), "--json")
    assert code == FAILED
    assert json.loads(out)["ok"] is False


def test_a_moment_carries_its_zone_or_is_a_date(capsys, tmp_path):
    here(capsys, "init", str(tmp_path))
    create_workspace(tmp_path / ".loopline").close()
    for text in ("yesterday", "2026-03-01T06:00"):
        code, _, err = here(capsys, "plan", "--project", str(tmp_path), "--at", text)
        assert code == USAGE
        assert "2026-03-01T06:00Z" in err
