"""Names of a package are imported when they are asked for, not before."""

import sys
from importlib import import_module
from pathlib import Path

import pytest

from loopline.base.lazy import exports

STAGES = ("framing", "data", "features", "training", "evaluation", "registry", "serving", "monitoring", "governance")


def test_a_name_is_found_in_its_module_and_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "lazyhouse"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "rooms.py").write_text("door = 'closed'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    find, names, public = exports("lazyhouse", {"door": "rooms", "bell": "rooms"})
    assert "lazyhouse.rooms" not in sys.modules
    assert find("door") == "closed"
    monkeypatch.setattr("lazyhouse.rooms.door", "open")
    assert find("door") == "open"
    assert names() == public == ["bell", "door"]
    with pytest.raises(AttributeError, match="'lazyhouse' has no attribute 'window'"):
        find("window")


@pytest.mark.parametrize("stage", STAGES)
def test_every_name_that_a_stage_promises_is_there(stage: str) -> None:
    package = import_module(f"loopline.{stage}")
    assert package.__all__
    for name in package.__all__:
        getattr(package, name)
