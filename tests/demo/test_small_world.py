"""The whole circle on a small world: real processes, real models, time sped up."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from loopline.base.errors import Conflict
from loopline.interfaces import demo
from loopline.retraining.nouns import Transition
from loopline.workspace import FOLDER, open_workspace

WORLD = Path(__file__).parents[1] / "worlds" / "parcels"


def two_free_ports() -> int:
    """The first of two neighbouring ports that nobody listens on."""
    for _ in range(100):
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            try:
                two.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port
    raise RuntimeError("no two free ports")


def played(
    tmp_path: Path,
    change: Any = lambda doc: None,
    *,
    seed: int = 0,
    policies: tuple[str, ...] = (),
    features: str = "request",
) -> dict[str, Any]:
    """Play the small world, with its scenario changed, and return the summary."""
    source = tmp_path / "world"
    shutil.copytree(WORLD, source, ignore=shutil.ignore_patterns("__pycache__"))
    yaml = YAML(typ="safe", pure=True)
    doc = yaml.load((source / "scenario.yaml").read_text())
    change(doc)
    with (source / "scenario.yaml").open("w") as out:
        yaml.dump(doc, out)
    page = source / "loop.yaml"
    page.write_text(page.read_text().replace("serving: {", f"serving: {{features: {features}, "))
    return demo.play(source, tmp_path / "out", seed, lambda *_: None, port=two_free_ports(), policies=policies)


def only(until: str, **changed: dict[str, Any]) -> Any:
    """A change of the scenario that keeps the named events, changed, and ends earlier."""

    def change(doc: dict[str, Any]) -> None:
        wanted = {name.replace("_", " "): changes for name, changes in changed.items()}
        doc["events"] = [{**event, **wanted[event["name"]]} for event in doc["events"] if event["name"] in wanted]
        assert len(doc["events"]) == len(wanted)
        doc["until"] = until

    return change


def ends(summary: dict[str, Any]) -> list[str]:
    return [line["what"] for line in summary["story"]]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("seed", "features"), [(0, "request"), (1, "online")])
def test_the_loop_closes_and_no_fault_is_shipped(tmp_path, seed, features):
    summary = played(tmp_path, seed=seed, policies=("never", "loop"), features=features)
    ws = open_workspace(tmp_path / "out" / FOLDER)
    by_cycle: dict[str, list[Transition]] = {}
    for move in ws.records.find(Transition, newest_first=False):
        by_cycle.setdefault(move.cycle, []).append(move)
    proposed = {
        moves[0].why.split(" proposes")[0]: moves[-1].after
        for moves in by_cycle.values()
        if " proposes" in moves[0].why
    }
    assert proposed["user:hasty"] == "REJECTED"
    assert proposed["user:keen"] == "ROLLED_BACK"
    assert summary["incidents"] == 1 and "Celsius" in summary["incident_titles"][0] + summary["incident_titles"][-1]
    assert summary["retrains"] >= 1
    assert summary["lost"] == 0 and summary["refused"] == 0 and summary["requests"] == summary["logged"] > 15_000
    assert len(summary["control_plane_down"]) == 2
    # The canary that a person proposed answers for days here and is not replayed: more than .002 in 18,000 rows.
    assert abs(summary["agreement"]["difference"]) < 0.005, summary["agreement"]
    assert not summary["agreement"]["only_replayed"], summary["agreement"]
    assert summary["policies"]["loop"]["value"] > summary["policies"]["never"]["value"]
    assert ws.audit.verify().ok
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["policies"].keys() == {"never", "loop"}


@pytest.mark.timeout(300)
def test_a_proposal_with_all_the_data_and_a_canary_whose_inputs_arrive_are_promoted_and_whole_uploads_are_no_incident(
    tmp_path,
):
    propose = {"by": "user:hasty", "training": {}, "reason": "the same, with all the data"}
    careful = {"when": {"on": "2031-05-06"}, "propose": propose}
    harmless = {"corrupt": {"table": "climate", "function": "faults.py:harmless"}}
    fed = {"when": {"on": "2031-05-13"}, "starve": {"views": ["extra.py"], "share": "0%"}}
    summary = played(tmp_path, only("2031-05-18", careless_candidate=careful, broken_upload=harmless, bad_canary=fed))
    assert ends(summary) == ["PROMOTED", "PROMOTED", "PROMOTED"]
    assert summary["incidents"] == 0 and summary["rolled_back"] == 0


@pytest.mark.timeout(300)
def test_a_canary_whose_inputs_arrive_in_the_online_store_is_promoted(tmp_path):
    fed = {"when": {"on": "2031-05-06"}, "starve": {"views": ["extra.py"], "share": "0%"}}
    summary = played(tmp_path, only("2031-05-12", bad_canary=fed), features="online")
    assert ends(summary) == ["PROMOTED", "PROMOTED"]
    assert summary["rolled_back"] == 0


@pytest.mark.timeout(120)
def test_a_world_whose_first_model_cannot_be_made_says_why_and_ends(tmp_path):
    def broken(doc: dict[str, Any]) -> None:
        (tmp_path / "world" / "train.py").write_text("def fit(X, y, **_):\n    raise ValueError('no luck')\n")

    with pytest.raises(Conflict, match="no first model") as caught:
        played(tmp_path, broken)
    assert "no luck" in caught.value.why
