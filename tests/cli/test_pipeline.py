from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tests.training.pipeline.world import CHAIN, HEAD

from loopline.interfaces.cli import main
from loopline.interfaces.cli.answer import FAILED, OK, USAGE

PAGE = """name: churn
framing: {label: churned, unit: id, decision_time: at}
data: {customers: {source: customers.csv, known_at: at, key: id}}
training: {recipe: train.py:fit, pipeline: flow.py:main, compute: {executor: threads, workers: 2}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in CHAIN.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "loop.yaml").write_text(PAGE)
    return tmp_path


def told(capsys: pytest.CaptureFixture[str], folder: Path, *words: str) -> tuple[int, str]:
    code = main.run(("pipeline", *words, "--project", str(folder)))
    return code, capsys.readouterr().out


def shown(capsys: pytest.CaptureFixture[str], folder: Path, *words: str) -> dict:
    code, out = told(capsys, folder, *words, "--json")
    assert code == OK, out
    return json.loads(out)


def test_the_pipeline_of_the_page_runs_where_the_page_says_and_each_rerun_names_its_cause(folder, capsys):
    first = shown(capsys, folder, "run")
    assert (first["state"], first["ran"], first["executor"]) == ("done", ["load", "scale", "total"], "threads")
    assert (again := shown(capsys, folder, "run"))["ran"] == []
    assert again["returned"] == first["returned"] == {"kind": "number", "text": "36"}
    assert shown(capsys, folder, "run", "--again", "total")["ran"] == ["total"]
    code, out = told(capsys, folder, "why-rerun", "load", "--param", "n=9")
    assert code == OK
    assert "load would run now:\n  param n was 4, is 9" in out
    assert f"next: loopline pipeline run --param n=9 --project {folder}" in out
    assert "may run now" in told(capsys, folder, "why-rerun", "total", "--param", "n=9")[1]
    known = told(capsys, folder, "why-rerun", "load")[1]
    assert "would not run now" in known and "it ran once, at 20" in known and "not run before" not in known
    text = told(capsys, folder, "run", "--param", "n=5", "--on", "here")[1]
    assert "param n was 4, is 5" in text and "it returned number 60\n" in text
    assert [run["state"] for run in shown(capsys, folder, "status")["items"]] == ["done"] * 4
    code, out = told(capsys, folder, "show", first["id"])
    assert "scale  done   load   " in out
    one = told(capsys, folder, "show", first["id"], "total")[1]
    assert re.search(r"reads +rows: scale\n", one) and re.search(r"answer +number 36", one)
    assert told(capsys, folder, "logs", first["id"], "load")[1] == "loading 4\n"


def test_a_failed_step_ends_with_its_traceback_and_1(folder, capsys):
    (folder / "flow.py").write_text(
        HEAD + "@step\ndef a() -> int:\n    print('so far')\n    return {}['missing']\n"
        "@step\ndef b(x: int) -> int:\n    return x\n@pipeline\ndef main():\n    return b(a())\n"
    )
    code, out = told(capsys, folder, "run")
    assert code == FAILED
    assert "KeyError: 'missing'" in out
    assert "b     not run" in out and "it returned" not in out
    assert "loopline pipeline logs" in out
    run = shown(capsys, folder, "status")["items"][0]["id"]
    assert "not run" in told(capsys, folder, "show", run)[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "--param", "n"), "name=value"),
        (("run", "--param", "n=many"), "n='many' is no int"),
        (("run", "--on", "moon"), "no place to run steps"),
        (("run", "--on", "threads:0"), "no place to run steps"),
        (("run", "nothing.py:main"), "nothing.py"),
        (("run", "flow.py:nothing"), "defines no nothing"),
        (("show", "zz"), "zz"),
        (("why-rerun", "nothing"), "load, scale, total"),
    ],
)
def test_what_cannot_be_is_refused_in_words(folder, capsys, words, said):
    code = main.run(("pipeline", *words, "--project", str(folder)))
    assert code == USAGE
    assert said in capsys.readouterr().err


def test_a_page_that_names_a_pipeline_or_a_place_that_is_not_there_is_refused(folder, capsys):
    from loopline.base.errors import LooplineError
    from loopline.loop.project import load

    for old, new, said in (
        ("flow.py:main", "flow.py:mian", "training.pipeline"),
        ("flow.py:main", "flo.py:main", "flow.py"),
        ("executor: threads", "executor: moon", "executor"),
        ("workers: 2", "address: x", "an address is for"),
    ):
        (folder / "train.py").write_text("def fit(X, y): ...\n")
        (folder / "customers.csv").write_text("id,at,churned\n")
        (folder / "loop.yaml").write_text(PAGE.replace(old, new))
        with pytest.raises(LooplineError, match=said):
            load(folder).check()


def test_without_a_page_the_pipeline_is_named(tmp_path, capsys):
    for name, text in CHAIN.items():
        (tmp_path / name).write_text(text)
    assert main.run(("pipeline", "run", "--project", str(tmp_path))) == USAGE
    assert "could name it" in capsys.readouterr().err
    assert shown(capsys, tmp_path, "run", "flow.py:main")["state"] == "done"
