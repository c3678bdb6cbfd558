"""Secrets that stand where a run looks are in nothing that is kept of it."""

from __future__ import annotations

import os
import string
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from loopline.training.tracking import Scrubber, sync
from loopline.training.tracking.delivery import Here
from loopline.training.tracking.scrubbing import GONE, is_secret_name
from loopline.workspace import create_workspace

LETTERS = string.ascii_letters + string.digits


def word(least: int, most: int, letters: str = LETTERS) -> st.SearchStrategy[str]:
    return st.text(letters, min_size=least, max_size=most)


KNOWN = st.one_of(
    word(16, 16, string.ascii_uppercase + string.digits).map("AKIA{}".format),
    word(36, 36).map("ghp_{}".format),
    word(22, 40).map("github_pat_{}".format),
    word(20, 20).map("glpat-{}".format),
    word(30, 48).map("sk-{}".format),
    word(24, 24).map("sk_live_{}".format),
    word(34, 34).map("hf_{}".format),
    word(35, 35).map("AIza{}".format),
    word(40, 60).map("pypi-{}".format),
    st.tuples(word(20, 40), word(20, 60), word(20, 43)).map(lambda parts: "eyJ" + ".".join(parts)),
)
NAMES = st.sampled_from(
    ["password", "DB_PASSWORD", "api_key", "apiKey", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "client-secret", "auth_token",
     "SECRET_KEY", "private_key", "x-api-key", "credentials"]
)  # fmt: skip
VALUES = word(8, 30, LETTERS + "_$!").filter(lambda text: not text.isdigit() and text.lower() not in ("password",))
PLACES = [
    "{} = '{}'",
    '{}="{}"',
    '"{}": "{}"',
    "{}: {}",
    "--{}={}",
    "export {}={}",
    "os.environ['{}'] = '{}'",
    "{}=>{}",
]
AROUND = st.text(string.ascii_lowercase + " .,\n+-@()", max_size=40)


@settings(max_examples=150, deadline=None)
@given(AROUND, KNOWN, AROUND)
def test_what_begins_as_known_keys_do_is_gone_wherever_it_stands(before, secret, after):
    assert secret not in Scrubber()(f"{before} {secret} {after}")


@settings(max_examples=150, deadline=None)
@given(AROUND, NAMES, VALUES, st.sampled_from(PLACES), AROUND)
def test_what_stands_under_the_name_of_a_secret_is_gone(before, name, value, place, after):
    assume(value not in name + before + after)
    text = place.format(name, value)
    assert value not in Scrubber()(f"{before}\n+{text}\n{after}")


@settings(max_examples=200, deadline=None)
@given(AROUND, word(6, 60, LETTERS + "!$%&/()=?._-"), AROUND)
def test_a_value_that_is_known_is_gone_in_the_midst_of_anything(before, secret, after):
    assert secret not in Scrubber([secret])(f"{before}x{secret}y{after}")


@settings(max_examples=100, deadline=None)
@given(st.binary(min_size=32, max_size=64))
def test_what_is_as_random_as_a_key_is_gone(data):
    import base64

    secret = base64.b64encode(data).decode()
    if len(set(secret)) > 20 and sum(c.isdigit() for c in secret) > 1 and secret.count("/") <= 2:
        assert secret not in Scrubber()(f"curl {secret} x")


@pytest.mark.parametrize(
    "text",
    [
        "max_tokens = 512", "tokenizer: bert-base-uncased", "n_estimators=200 learning_rate=0.05",
        "commit 8fbb57cbd1ad8f3e0c5f27ae0b0d23b9d9c3c8ab", "def test_a_password_is_asked_for():",
        "/usr/lib/python3.11/site-packages/sklearn/ensemble", "numpy==2.1.0  # RECORD sha256:" + "ab12" * 16,
        "password = os.environ['DB_PASSWORD']", "token: str | None = None", "max_features='sqrt'",
        "key=lambda row: row[0]", "author: ada", "HistGradientBoostingClassifier", "https://example.org/a/b?page=2",
    ],
)  # fmt: skip
def test_harmless_text_stays(text):
    assert Scrubber()(text) == text


def test_names_that_only_sound_so_are_no_secrets():
    for name in ("max_tokens", "tokenizer", "keyboard", "primary_key", "author", "sort_key", "n_tokens", "authority"):
        assert not is_secret_name(name), name
    for name in (
        "token",
        "GITHUB_TOKEN",
        "password",
        "PGPASSWORD",
        "openai_api_key",
        "SECRET",
        "aws_secret_access_key",
    ):
        assert is_secret_name(name), name


PROGRAM = """
import sys
import loopline

with loopline.start_run("r", params={"api_key": sys.argv[1], "lr": 0.1, "note": "uses " + sys.argv[2]},
                        tags={"db_password": sys.argv[1]}) as run:
    print("connecting with", sys.argv[2])
    print("Authorization: Bearer " + sys.argv[1], file=sys.stderr)
    run.log_dataset("rows.csv", name="rows")
"""


@pytest.mark.parametrize("at", range(2))
def test_secrets_planted_in_every_place_are_found_in_nothing_that_is_kept(tmp_path, at):
    secrets = {
        "argument": ("hunter2hunter", "Tr0ub4dor"),
        "environment": ("ghp_" + "a1B2" * 9, "correct-horse-battery"),
        "diff": ("sk-" + "Zx9" * 12, "s3cr3t_in_code"),
        "untracked": ("AKIAABCDEFGHIJKLMNOP", "hidden-away-99"),
        "remote": ("glpat-" + "Q7w" * 8, "pass-in-url-1"),
    }
    planted = {place: both[at] for place, both in secrets.items()}
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "program.py").write_text(PROGRAM)
    (folder / "rows.csv").write_text("a\n1\n")

    def git(*words: str) -> None:
        subprocess.run(["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b", *words], check=True)

    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    git("remote", "add", "origin", f"https://ada:{planted['remote']}@example.org/x.git")
    with (folder / "program.py").open("a") as code:
        code.write(f"\nPASSWORD = '{planted['diff']}'\nurl = 'postgres://ada:{planted['diff']}@db/x'\n")
    (folder / "notes.py").write_text(f"API_KEY = '{planted['untracked']}'\n")
    environment = {**os.environ, "DB_PASSWORD": planted["environment"], "LOOPLINE_TRACKING_URI": "http://127.0.0.1:9",
                   "OMP_PLACES": planted["environment"]}  # fmt: skip
    command = [sys.executable, "program.py", planted["argument"], planted["environment"], "--password", "x7-only-here"]
    planted["option"] = "x7-only-here"
    environment["MY_TOKEN"] = planted["argument"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert planted["environment"] in done.stdout  # it still goes where it went

    def searched(root: Path) -> None:
        for path in root.rglob("*"):
            if path.is_file():
                data = path.read_bytes()
                for place, secret in planted.items():
                    assert secret.encode() not in data, (place, path)

    searched(folder / ".loopline")
    ws = create_workspace(folder / ".loopline")
    (run,) = sync(folder / ".loopline/spool", Here(ws)).runs
    found = ws.runs.run(run)
    assert (found.params["api_key"], found.params["lr"], found.params["note"]) == (GONE, "0.1", f"uses {GONE}")
    assert found.tags["loopline.dirty"] == "true"
    assert b"PASSWORD = " in ws.artifacts.read(run, "loopline/code.diff")
    assert "notes.py" in ws.artifacts.read(run, "loopline/code.json").decode()
    ws.close()
    searched(folder / ".loopline")


def test_the_folder_of_the_shell_is_no_password(monkeypatch, tmp_path):
    monkeypatch.setenv("PWD", str(tmp_path))
    monkeypatch.setenv("OLDPWD", "/home/somebody/else")
    monkeypatch.setenv("DB_PWD", "hunter2-hunter2")
    scrub = Scrubber.of_this_process()
    assert scrub(f"{tmp_path}/train.csv") == f"{tmp_path}/train.csv"
    assert scrub("/home/somebody/else/x") == "/home/somebody/else/x"
    assert scrub("with hunter2-hunter2") == f"with {GONE}"
