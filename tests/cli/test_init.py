"""What `loopline init` writes runs as it is, and is written whole or not at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from loopline.data.sources.parts import load_source
from loopline.data.sources.times import to_utc
from loopline.features.spine import spine_rows
from loopline.interfaces.cli import main
from loopline.interfaces.cli.answer import OK, USAGE
from loopline.loop.project import load

ROWS = [f"2026-01-{1 + n // 24:02d}T{n % 24:02d}:00:00" for n in range(60)]


def written(folder: Path, times: list[str], *, also: list[str] | None = None) -> Path:
    path = folder / "my customers.csv"
    lines = [f"c{n},{time},{n % 3 == 0:d}" + (f",{also[n]}" if also else "") for n, time in enumerate(times)]
    path.write_text("\n".join(["id,seen,left" + (",born" if also else ""), *lines]) + "\n")
    return path


def made(capsys: pytest.CaptureFixture[str], csv: Path, *words: str) -> tuple[int, str, str]:
    target = csv.parent / "made"
    asked = ("init", str(target), "--from", str(csv), "--label", "left", "--unit", "id", *words)
    code = main.run(asked)
    out, err = capsys.readouterr()
    return code, out, err


def first_due(folder: Path) -> str:
    """When the first row's prediction is due, by the way that the first run goes."""
    project = load(folder).check()
    [(name, table)] = project.spec.data.items()
    rows = to_utc(load_source(folder, table), name, table, None)
    return str(spine_rows(project.spec.framing, rows)["decision_time"].min())


@pytest.mark.parametrize(
    ("times", "words", "due", "data"),
    [
        ([t + "Z" for t in ROWS], (), "2026-01-01 00:00:00+00:00", "data: my customers.csv"),
        (ROWS, (), "2026-01-01 00:00:00+00:00", "zone: UTC}"),
        (ROWS, ("--zone", "Europe/Paris"), "2025-12-31 23:00:00+00:00", "zone: Europe/Paris}"),
        ([t.replace("T", " ")[:-3] for t in ROWS], (), "2026-01-01 00:00:00+00:00", "zone: UTC}"),
        ([t[:10] for t in ROWS], (), "2026-01-01 00:00:00+00:00", "event_time: seen, zone: UTC}"),
        ([t[:10] for t in ROWS], ("--zone", "Asia/Tokyo"), "2025-12-31 15:00:00+00:00", "zone: Asia/Tokyo}"),
    ],
)
def test_times_without_a_zone_get_one_and_the_rows_can_be_read(capsys, tmp_path, times, words, due, data):
    code, out, _ = made(capsys, written(tmp_path, times), "--time", "seen", *words)
    assert code == OK
    assert data in (tmp_path / "made" / "loop.yaml").read_text()
    assert ("seen: no zone, read as UTC" in out) == ("zone: UTC" in data)
    assert first_due(tmp_path / "made") == due


def test_another_column_of_times_without_zone_needs_one_too(capsys, tmp_path):
    csv = written(tmp_path, [t + "Z" for t in ROWS], also=[t.replace("T", " ") for t in ROWS])
    code, out, _ = made(capsys, csv, "--time", "seen")
    assert code == OK
    assert "born: no zone, read as UTC" in out
    assert first_due(tmp_path / "made") == "2026-01-01 00:00:00+00:00"


def test_a_zone_that_is_none_or_not_needed_is_told(capsys, tmp_path):
    csv = written(tmp_path, ROWS)
    code, _, err = made(capsys, csv, "--time", "seen", "--zone", "Mars/Base")
    assert (code, "'Mars/Base' is not a time zone" in err) == (USAGE, True)
    assert not (tmp_path / "made").exists()
    csv = written(tmp_path, [t + "Z" for t in ROWS])
    assert "--zone UTC is not needed" in made(capsys, csv, "--time", "seen", "--zone", "UTC")[1]


def test_times_written_in_two_ways_are_refused(capsys, tmp_path):
    csv = written(tmp_path, [*ROWS[:30], *(t + "Z" for t in ROWS[30:])])
    code, _, err = made(capsys, csv, "--time", "seen")
    assert code == USAGE
    assert "'2026-01-01T00:00:00' and '2026-01-02T06:00:00Z'" in err


@pytest.mark.parametrize("existed", [False, True])
def test_a_disk_that_is_full_leaves_nothing_behind(tmp_path, existed):
    csv = written(tmp_path, ROWS * 40)
    target = tmp_path / "deep" / "made"
    if existed:
        target.mkdir(parents=True)
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)); "
        "from loopline.interfaces.cli.main import run; sys.exit(run(sys.argv[1:]))"
    )
    csv.write_text(
        "".join(f"c{n},2026-01-01T00:00:00Z,{n % 3 == 0:d}\n" if n else "id,seen,left\n" for n in range(2000))
    )
    words = ["init", str(target), "--from", str(csv), "--label", "left", "--unit", "id", "--json"]
    ended = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, env=os.environ)
    assert ended.returncode == 1, ended.stderr
    assert json.loads(ended.stdout)["error"]["code"] == "unavailable"
    assert [p.name for p in tmp_path.iterdir()] == ([csv.name, "deep"] if existed else [csv.name])
    assert not existed or list(target.iterdir()) == []
