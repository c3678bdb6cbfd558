from __future__ import annotations

import pytest

from loopline.base.errors import Invalid
from loopline.framing import FramingSpec, Problem, ValueSpec, frame
from loopline.workspace import create_workspace

SPEC = FramingSpec(label="late", unit="unit", value=ValueSpec(true_positive=1, false_positive=-1))


@pytest.fixture
def ws(tmp_path):
    found = create_workspace(tmp_path, actor="user:ada")
    yield found
    found.close()


def test_a_framing_is_recorded_once_and_named_by_its_content(ws):
    first = frame(ws, "delays", SPEC)
    assert frame(ws, "delays", SPEC) == frame(ws, "renamed", SPEC) == first
    assert first.id == SPEC.id
    assert ws.records.find(Problem) == [first]
    assert FramingSpec.model_validate(ws.records.get(Problem, first.id).spec) == SPEC
    assert frame(ws, "delays", FramingSpec(label="late", unit="other")).id != first.id


def test_a_value_that_leaves_nothing_to_decide_is_refused(ws):
    with pytest.raises(Invalid, match="nothing to decide"):
        frame(ws, "delays", FramingSpec(label="late", unit="unit", value=ValueSpec()))
    assert ws.records.find(Problem) == []
