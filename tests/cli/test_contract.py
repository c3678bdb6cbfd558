"""Contracts on the command line: drafted, checked, kept, compared, and changed by a person."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from loopline.interfaces.cli import main

LOOP = """name: churn
framing: {label: left, unit: id, decision_time: seen}
data: {people: {source: people.csv, contract: people.yaml, known_at: seen, key: id}}
training: {recipe: train.py:fit}
"""
ROWS = "id,seen,plan,left\n" + "".join(f"c{n},2026-01-{1 + n % 28:02d}T06:00:00Z,basic,0\n" for n in range(60))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOOPLINE_ACTOR", "user:ada")
    monkeypatch.setenv("LOOPLINE_KEYS", str(tmp_path / "keys"))
    Path("loop.yaml").write_text(LOOP)
    Path("people.csv").write_text(ROWS)
    Path("train.py").write_text("def fit(rows):\n    return None\n")

    def call(*words: str) -> tuple[int, dict[str, Any]]:
        code = main.run(["data", "contract", *words, "--json"])
        told = capsys.readouterr()
        return code, json.loads(told.out or told.err)

    return call


def test_a_contract_is_drafted_checked_kept_compared_and_changed_by_a_yes(run):
    assert run("draft", "people", "--out", "people.yaml")[0] == 0
    assert run("draft", "people", "--out", "people.yaml")[0] == 1
    assert run("check", "people")[1]["refused"] == 0
    assert run("keep", "people")[1]["verdict"] == "first"
    Path("people.csv").write_text(ROWS + "c99,2026-02-01T06:00:00Z,gold,0\n")
    code, told = run("check", "people")
    assert (code, told["refused"], [v["rule"] for v in told["violations"]]) == (1, 1, ["plan.validValues"])
    made = run("propose", "people", "plan.validValues", "gold", "--reason", "new")[1]
    assert [p["id"] for p in run("proposals")[1]["items"]] == [made["id"]]
    assert run("accept", made["id"][:12], "--reason", "asked")[0] == 0
    assert run("proposals")[1]["items"] == []
    assert run("check", "people")[0] == 0
    assert [v["verdict"] for v in run("versions", "people")[1]["items"]] == ["breaks readers", "first"]
    Path("people.yaml").write_text(Path("people.yaml").read_text().replace("- gold", "- silver"))
    assert run("diff", "people")[1]["verdict"] == "breaks both"


def test_a_contract_of_another_table_or_of_columns_that_are_not_there_is_told(run, capsys):
    props = "{name: seen, logicalType: timestamp}, {name: plam, logicalType: string}"
    text = f"apiVersion: v3.1.0\nkind: DataContract\nschema: [{{name: persons, properties: [{props}]}}]\n"
    Path("people.yaml").write_text(text)
    code, told = run("check", "people")
    assert code == 0 and [line.split(",")[0] for line in told["odd"]] == [
        "the schema of its contract is named 'persons'",
        "its contract names the column 'plam'",
    ]
    assert told["odd"][1].endswith("did you mean 'plan'?")
    assert main.run(["data", "ingest", "people"]) == 0
    said = capsys.readouterr().out
    assert all(f"people: {line}" in said for line in told["odd"])


def test_a_draft_that_cannot_be_written_says_where_and_what_to_choose(run):
    Path("full").write_text("")
    code, told = run("draft", "people", "--out", "full/people.yaml")
    error = told.get("error", told)
    assert (code, error["what"], error["fix"]) == (
        1,
        "full/people.yaml cannot be written",
        "choose another --out, for example contracts/people.yaml",
    )
    assert "[Errno" not in error["why"]


def test_a_source_that_is_a_folder_is_called_one(run, capsys):
    Path("people.csv").unlink()
    Path("people.csv").mkdir()
    assert main.run(["data", "ingest"]) == 2
    told = capsys.readouterr().err
    assert "names people.csv, which is a folder" in told
    assert "people.csv/*.csv" in told


@pytest.mark.parametrize("words", [["retain"], ["expire"]])
def test_a_negative_age_is_called_no_duration(run, capsys, words):
    assert main.run(["data", *words, "--older-than", "-5d"]) == 2
    assert "'-5d' is not a duration" in capsys.readouterr().err


@pytest.mark.parametrize("words", [("show", "peopel"), ("check", "peopel"), ("draft", "peopel")])
def test_a_table_misspelt_is_told_with_the_command_to_type(run, words):
    code, told = run(*words)
    assert code == 2
    assert told["error"]["fix"].endswith(" people") if "error" in told else told["fix"].endswith(" people")


def test_a_table_without_a_contract_says_how_to_get_one(run):
    Path("loop.yaml").write_text(LOOP.replace("contract: people.yaml, ", ""))
    code, told = run("show", "people")
    assert code == 2
    assert "loopline data contract draft people" in json.dumps(told)


def test_what_is_to_be_written_into_the_declaration_fits_the_declaration(run):
    Path("loop.yaml").write_text(LOOP.replace("contract: people.yaml, ", ""))
    assert run("show", "people")[1]["error"]["fix"].startswith("loopline data contract draft people --out")
    assert run("draft", "people", "--out", "contracts/people.yaml")[1]["next"] == [
        "loopline data contract check people"
    ]
    assert run("show", "people")[1]["error"]["fix"].startswith(
        "put `contract: contracts/people.yaml` under data.people"
    )
    Path("loop.yaml").write_text(LOOP.split("data:")[0] + "data: people.csv\ntraining: {recipe: train.py:fit}\n")
    Path("contracts/data.yaml").write_text(Path("contracts/people.yaml").read_text())
    fix = "write `data: {data: {source: people.csv, contract: contracts/data.yaml}}` in loop.yaml"
    assert run("show", "data")[1]["error"]["fix"] == fix
