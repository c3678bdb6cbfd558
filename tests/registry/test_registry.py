"""Versions: numbered, signed, approved, reversible."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import timedelta

import pytest

from loopline import registry
from loopline.base.errors import Conflict, Denied, Invalid, NotFound
from loopline.base.keys import SigningKey
from loopline.registry.nouns import Approval, PublicKey, Release, Version
from loopline.registry.queries import conditions
from loopline.registry.spec import ApprovalsSpec, KeepSpec


def test_numbers_rise_by_one_and_registering_again_changes_nothing(ws, registered, candidate):
    first, second = registered("one"), registered("two")
    assert (first.number, second.number) == (1, 2)
    assert registered("one") == first
    assert registered("three").number == 3
    assert len(ws.records.find(Version)) == 3


def test_a_version_keeps_the_metrics_it_was_judged_on(registered):
    assert registered("one").released == {"roc_auc": 0.7, "brier": None}


def test_a_report_about_another_model_is_refused(ws, candidate):
    model, _ = candidate("one")
    _, other = candidate("two")
    with pytest.raises(Invalid, match="about model model-two"):
        registry.register(ws, name="claims", model=model, report=other, author="user:ada", risk="limited", policy={})


def test_the_envelope_is_dsse_over_an_in_toto_statement_with_the_digest_of_the_bundle(ws, registered):
    version = registered("one")
    envelope = json.loads(ws.blobs.get(version.signature))
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    inside = json.loads(base64.b64decode(envelope["payload"]))
    assert inside["_type"] == "https://in-toto.io/Statement/v1"
    assert inside["subject"] == [{"name": "claims/1", "digest": {"sha256": version.bundle}}]


def test_promotion_needs_an_approval_and_then_goes(ws, registered):
    version = registered("one")
    with pytest.raises(Denied, match="approvals: none, wanted 1"):
        registry.promote(ws, version, reason="now")
    registry.approve(ws.acting_as("user:bob"), version, reason="looks right")
    release = registry.promote(ws, version, reason="now")
    assert (release.version, release.previous, release.generation) == (version.id, None, 1)
    assert registry.resolve(ws, "claims", "production") == version
    assert registry.promote(ws, version, reason="again") == release


def test_the_author_cannot_approve_however_the_name_is_written(ws, registered):
    version = registered("one")
    for actor in ("user:ada", "user:Ada", "user:ADA "):
        with pytest.raises(Denied, match="is its author"):
            registry.approve(ws.acting_as(actor), version, reason="mine")


def test_who_has_no_name_cannot_be_the_second_person(ws, registered):
    nobody = ws.acting_as("user:unknown")
    with pytest.raises(Denied, match="nobody can tell who approves"):
        registry.approve(nobody, registered("one"), reason="looks right")
    registry.approve(nobody, registered("two", policy={"approvals": {"by": "anyone"}}), reason="alone here")


def test_the_author_may_approve_where_the_policy_says_anyone(ws, registered):
    version = registered("one", policy={"approvals": {"by": "anyone"}})
    registry.approve(ws, version, reason="small team")
    assert registry.promote(ws, version, reason="go").version == version.id


def test_no_service_account_approves(ws, registered):
    with pytest.raises(Denied, match="a person must answer"):
        registry.approve(ws.acting_as("service:loop"), registered("one"), reason="automatic")


def test_two_approvals_must_be_of_two_people(ws, registered):
    version = registered("one")
    rule = ApprovalsSpec(needed=2)
    for _ in range(2):
        registry.approve(ws.acting_as("user:bob"), version, reason="yes")
    assert (registry.standing(ws, version, rule).given, registry.standing(ws, version, rule).approved) == (1, False)
    registry.approve(ws.acting_as("user:eve"), version, reason="yes")
    assert registry.standing(ws, version, rule).approved


def test_a_refusal_stops_a_promotion_until_it_is_taken_back(ws, registered):
    version = registered("one")
    registry.approve(ws.acting_as("user:bob"), version, reason="yes")
    registry.reject(ws.acting_as("user:eve"), version, reason="worse for new customers")
    standing = registry.standing(ws, version, ApprovalsSpec())
    assert (standing.refused, standing.given, standing.approved) == ("user:eve", 1, False)
    with pytest.raises(Denied, match="nobody refused: user:eve"):
        registry.promote(ws, version, reason="go")
    registry.approve(ws.acting_as("user:eve"), version, reason="I was wrong")
    assert registry.promote(ws, version, reason="go")


def test_a_changed_policy_voids_the_approvals_given_before(ws, registered):
    version = registered("one", policy={"canary": [0.05]})
    registry.approve(ws.acting_as("user:bob"), version, reason="yes")
    assert registry.standing(ws, version, ApprovalsSpec()).approved
    registry.amend(ws, version, policy={"canary": [0.5]})
    assert not registry.standing(ws, version, ApprovalsSpec()).approved
    with pytest.raises(Denied, match="approvals"):
        registry.promote(ws, version, reason="go")
    registry.approve(ws.acting_as("user:bob"), version, reason="yes, also so")
    assert registry.promote(ws, version, reason="go")


def test_an_approval_over_other_evidence_counts_for_nothing(ws, registered):
    one, two = registered("one"), registered("two")
    registry.approve(ws.acting_as("user:bob"), one, reason="yes")
    assert not registry.standing(ws, two, ApprovalsSpec()).approved


def test_an_approval_that_its_key_did_not_sign_counts_for_nothing(ws, registered):
    version = registered("one")
    registry.add_key(ws, "user:bob")
    stranger = SigningKey.load("user:mallory", create=True)
    forged = Approval(
        "forged",
        version.id,
        version.evidence,
        "user:bob",
        "approve",
        "yes",
        ws.records.find(PublicKey, owner="user:bob")[0].id,
        stranger.sign(b"whatever"),
        ws.clock(),
    )
    with ws.records.transaction() as tx:
        tx.put(forged)
    assert registry.standing(ws, version, ApprovalsSpec()).given == 0


def test_one_name_has_one_key_and_one_key_has_one_name(ws):
    known = registry.add_key(ws, "user:bob")
    assert registry.add_key(ws, "user:bob") == known
    other = SigningKey.load("elsewhere", create=True)
    with pytest.raises(Conflict, match="user:bob has the key"):
        registry.add_key(ws, "user:bob", public=other.public)
    with pytest.raises(Conflict, match="belongs to user:bob"):
        registry.add_key(ws, "user:eve", public=known.public)


def test_an_approver_whose_key_lies_elsewhere_cannot_sign_here(ws, registered):
    version = registered("one")
    registry.add_key(ws, "user:bob", public=SigningKey.load("elsewhere", create=True).public)
    with pytest.raises(NotFound, match="there is no key"):
        registry.approve(ws.acting_as("user:bob"), version, reason="yes")


def test_each_condition_that_does_not_hold_is_named(ws, registered):
    version = registered("bad", passed=False)
    ws.blobs.delete(version.bundle)
    with pytest.raises(Denied) as refused:
        registry.promote(ws, version, reason="please")
    assert "gates: roc_auc on all: 0.69 against 0.68" in refused.value.why
    assert "approvals" in refused.value.why
    assert "bundle" in refused.value.why
    assert registry.history(ws, "claims") == []


def test_changed_bytes_of_a_bundle_stop_its_promotion(ws, registered):
    version = registered("one")
    registry.approve(ws.acting_as("user:bob"), version, reason="yes")
    file = ws.blobs.path(version.bundle)
    file.chmod(0o600)
    file.write_bytes(b"another model")
    with pytest.raises(Denied, match="bundle"):
        registry.promote(ws, version, reason="go")


def test_a_signature_of_another_workspace_does_not_verify(ws, registered, monkeypatch, tmp_path):
    version = registered("one")
    assert all(condition.passed for condition in registry.verify(ws, version))
    monkeypatch.setenv("LOOPLINE_KEYS", str(tmp_path / "other"))
    SigningKey.load(f"workspace-{ws.id}", create=True)
    failed = [condition.name for condition in registry.verify(ws, version) if not condition.passed]
    assert failed == ["signature"]


def test_a_signature_about_another_version_does_not_verify(ws, registered):
    one, two = registered("one"), registered("two")
    swapped = replace(two, id="swapped", signature=one.signature)
    with ws.records.transaction() as tx:
        tx.put(swapped)
    failed = [condition.name for condition in registry.verify(ws, "swapped") if not condition.passed]
    assert failed == ["signature"]


def test_a_signature_verifies_where_only_the_public_key_is(ws, registered, monkeypatch, tmp_path):
    version = registered("one")
    monkeypatch.setenv("LOOPLINE_KEYS", str(tmp_path / "empty"))
    assert all(condition.passed for condition in registry.verify(ws, version))


def test_rollback_goes_to_the_version_before_and_never_back_to_the_one_taken_out(ws, released):
    one, two, three = released("one"), released("two"), released("three")
    assert registry.rollback(ws, "claims", reason="complaints").version == two.id
    assert registry.rollback(ws, "claims", reason="more").version == one.id
    with pytest.raises(Denied, match="no version of claims before"):
        registry.rollback(ws, "claims", reason="even more")
    assert [r.version for r in registry.history(ws, "claims")] == [one.id, two.id, three.id, two.id, one.id]


def test_rollback_goes_to_any_version_that_was_released(ws, released, registered):
    one, _, three = released("one"), released("two"), released("three")
    never = registered("never")
    with pytest.raises(Denied, match="was never released"):
        registry.rollback(ws, "claims", to=str(never.number), reason="?")
    release = registry.rollback(ws, "claims", to="1", reason="known good")
    assert (release.version, release.previous, release.act) == (one.id, three.id, "rollback")


def test_rollback_checks_the_bytes_of_its_target(ws, released):
    one, _ = released("one"), released("two")
    ws.blobs.delete(one.bundle)
    with pytest.raises(Denied, match="bundle"):
        registry.rollback(ws, "claims", reason="complaints")


def test_a_model_without_releases_cannot_be_rolled_back(ws):
    with pytest.raises(NotFound, match="has no release"):
        registry.rollback(ws, "claims", reason="?")


def test_versions_are_found_by_alias_number_and_beginning_of_the_id(ws, released):
    one, two = released("one"), released("two")
    assert registry.resolve(ws, "claims", "production") == two
    assert registry.resolve(ws, "claims", "1") == one
    assert registry.resolve(ws, "claims", one.id[:12]) == one
    for missing in ("9", "staging", "ffffffffffff"):
        with pytest.raises(NotFound, match=r"versions 1, 2 and the aliases production|neither|has no version"):
            registry.resolve(ws, "claims", missing)


@pytest.mark.parametrize("alias", ["3", "deadbeef00", "a b", "", "x/y"])
def test_an_alias_is_never_mistaken_for_a_number_or_an_id(ws, registered, alias):
    with pytest.raises(Invalid, match="cannot be an alias"):
        registry.promote(ws, registered("one"), alias=alias, reason="?")


def test_retired_versions_are_old_and_out_of_service_and_cannot_come_back(ws, released, clock):
    versions = [released(str(n)) for n in range(5)]
    clock.advance(timedelta(days=40))
    gone = registry.retire(ws, "claims", keep=KeepSpec(versions=2, at_least="30d"))
    assert [item.version for item in gone] == [version.id for version in versions[:3]]
    assert registry.retire(ws, "claims", keep=KeepSpec(versions=2, at_least="30d")) == []
    with pytest.raises(Denied, match="kept"):
        registry.rollback(ws, "claims", to="1", reason="?")
    assert registry.rollback(ws, "claims", reason="ok").version == versions[3].id


def test_versions_in_service_lately_are_kept_however_many_there_are(ws, released, clock):
    for n in range(4):
        released(str(n))
    assert registry.retire(ws, "claims", keep=KeepSpec(versions=2, at_least="30d")) == []


def test_a_record_that_was_changed_behind_the_registry_is_noticed(ws, registered, candidate):
    version = registered("one")
    registry.approve(ws.acting_as("user:bob"), version, reason="yes")
    folder = ws.root
    ws.close()
    import sqlite3

    with sqlite3.connect(folder / "records.db") as database:
        changed = database.execute(
            "update fact set doc = replace(doc, '0.69 against 0.68', '0.99 against 0.68') where kind = 'report'"
        ).rowcount
    assert changed == 1
    with pytest.raises(Denied, match="evidence"):
        registry.promote(ws, version, reason="go")


def test_every_move_of_an_alias_stands_in_the_audit_trail(ws, released):
    released("one"), released("two")
    registry.rollback(ws, "claims", reason="complaints")
    actions = [entry["action"] for entry in ws.records.entries()]
    assert actions.count("registry.promote") == 2
    assert actions[-1] == "registry.rollback"
    assert len(ws.records.find(Release)) == 3


def test_all_conditions_hold_for_what_is_promoted(ws, released):
    version = released("one")
    assert all(condition.passed for condition in conditions(ws, version, ApprovalsSpec()))
