from __future__ import annotations

import dataclasses
import json

import pytest

from loopline import serving
from loopline.base.errors import Denied, Invalid, LooplineError, NotFound
from loopline.base.keys import SigningKey
from loopline.serving import state
from loopline.serving.nouns import DesiredState
from loopline.serving.state import Place, check
from loopline.testing.inference import linear_bundle, variant
from loopline.training.encoding import Input
from loopline.workspace import create_workspace


@pytest.fixture
def ws(tmp_path):
    return create_workspace(tmp_path / ".loopline", actor="user:ada")


@pytest.fixture
def champion(ws):
    return variant(ws, linear_bundle([Input("x", "number", (), False, 0.0, -9, 9)], [1.0]))


def deploy(ws, *variants, salt="r1"):
    return serving.deploy(ws, "ep", variants=variants, release=serving.ReleaseSpec(), salt=salt)


def test_every_deployment_has_a_higher_generation_and_is_recorded_and_signed(ws, champion):
    first, second = deploy(ws, champion), deploy(ws, champion)
    assert (first.generation, second.generation) == (1, 2)
    assert [d.generation for d in ws.records.find(DesiredState, endpoint="ep")] == [2, 1]
    signed = Place(ws.root, "ep").desired.read_bytes()
    public = SigningKey.load(state.key_name(ws.id), create=False).public
    assert check(signed, public=public) == (second, public)


def test_a_lost_file_does_not_take_the_generations_back(ws, champion):
    deploy(ws, champion)
    Place(ws.root, "ep").desired.unlink()
    assert deploy(ws, champion).generation == 2


def test_a_changed_document_or_another_key_is_denied(ws, champion):
    deploy(ws, champion)
    signed = Place(ws.root, "ep").desired.read_bytes()
    doc = json.loads(signed)
    doc["doc"]["generation"] = 99
    with pytest.raises(Denied):
        check(json.dumps(doc).encode(), public=None)
    with pytest.raises(Denied):
        check(signed, public=SigningKey.load("someone else", create=True).public)
    for damaged in (b"", b"{}", b"[]", signed[:-40], b'{"doc": {}, "public": "", "signature": ""}'):
        with pytest.raises(Invalid):
            check(damaged, public=None)


def test_what_could_not_be_served_is_refused_and_changes_nothing(ws, champion):
    with pytest.raises(LooplineError):
        deploy(ws, dataclasses.replace(champion, bundle="0" * 64))
    with pytest.raises(Invalid):
        deploy(ws, dataclasses.replace(champion, share=5))
    for name in ("../up", "", "a b", ".hidden"):
        with pytest.raises(Invalid):
            serving.deploy(ws, name, variants=(champion,), release=serving.ReleaseSpec(), salt="s")
    assert not Place(ws.root, "ep").desired.exists()


def test_the_switch_keeps_everything_but_the_answers(ws, champion):
    with pytest.raises(NotFound):
        serving.kill(ws, "ep", reason="harm")
    before = deploy(ws, champion)
    off = serving.kill(ws, "ep", reason="it harms people")
    on = serving.kill(ws, "ep", off=False, reason="mended")
    assert (off.kill, on.kill, on.generation) == (True, False, 3)
    assert off.variants == on.variants == before.variants
    told = [e["doc"] for e in ws.records.entries() if e["action"] == "serving.kill"]
    assert [(d["off"], d["reason"]) for d in told] == [(True, "it harms people"), (False, "mended")]


def test_an_endpoint_that_never_ran_has_no_status(ws):
    assert serving.status(ws, "ep") is None
