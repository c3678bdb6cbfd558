"""Every how-to works for somebody who has a released model."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.docs.pages import DOCS, Shell, free_pair

PAGE = """name: churn
framing: {label: churned, unit: customer_id, decision_time: snapshot_at}
data: {customers: {source: customers.csv, known_at: snapshot_at, key: customer_id}}
training: {recipe: train.py:fit, seed: 0}
serving: {release: {canary: []}}
"""

STARTS = {
    "approve-and-reject": "waiting",
    "bring-data-in": "released",
    "bring-your-own": "released",
    "bring-your-own-framework": "released",
    "bring-workspaces-together": "released",
    "describe-a-dataset": "released",
    "erase-a-subject": "released",
    "find-leaks": "released",
    "free-space": "released",
    "import-and-export": "released",
    "label-rows": "released",
    "move-a-workspace": "released",
    "pipelines": "released",
    "replay-a-policy": "released",
    "reproduce-a-model": "released",
    "roll-back": "twice",
    "run-from-cron": "released",
    "search-parameters": "fresh",
    "see-what-changed": "released",
    "serve-features": "released",
    "track-your-own-training": "released",
    "transform-columns": "released",
    "use-your-mlflow-code": "released",
    "verify-the-audit-trail": "released",
    "write-a-contract": "released",
    "write-a-scenario": "released",
    "write-features": "released",
}
"""Page to what its reader has: nothing run, version 1 released, version 2 waiting beside it, or released after it."""


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory, programs: Path) -> Iterator[Path]:
    """Folders `fresh`, `released`, `waiting` and `twice`, each with a project and its keys."""
    root = tmp_path_factory.mktemp("worlds")
    here = root / "here"
    here.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOOPLINE_KEYS", str(here / "keys"))
        shell = Shell(here, programs=programs)
        shell.run("loopline init churn && cd churn && rm loop.yaml")
        shell.run(f"cat > loop.yaml <<'END'\n{PAGE}END")
        shutil.copytree(here, root / "fresh")
        yes = 'LOOPLINE_ACTOR=user:bob loopline approve --reason "better" && loopline tick'
        shell.run(f"loopline run && {yes}")
        shutil.copytree(here, root / "released")
        shell.run("sed -i 's/seed: 0/seed: 1/' loop.yaml && loopline run")
        shutil.copytree(here, root / "waiting")
        shell.run(yes)
        shutil.copytree(here, root / "twice")
        shell.close()
    yield root


@pytest.mark.parametrize("page", sorted(path.stem for path in (DOCS / "how-to").glob("*.md")))
def test_a_how_to_works_as_it_is_written(page, worlds, programs, tmp_path, monkeypatch):
    shutil.copytree(worlds / STARTS[page], tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("run"))
    monkeypatch.setenv("LOOPLINE_KEYS", str(tmp_path / "keys"))
    port = free_pair()
    shell = Shell(tmp_path / "churn", words={"8400": str(port), "8401": str(port + 1)}, programs=programs)
    try:
        shell.follow(DOCS / "how-to" / f"{page}.md")
    finally:
        shell.close()
