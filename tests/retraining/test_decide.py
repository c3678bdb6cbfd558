"""Laws of the pure decision, checked over simulated loop-years under every kind of luck."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.loop.facts import remember
from loopline.loop.transitions import moved
from loopline.retraining.decide import decide
from loopline.retraining.nouns import Cycle, Decision, Signal
from loopline.retraining.policy import EffectState, Facts, Parity, Policy, Rollout, parse_trigger
from loopline.retraining.starting import fired
from loopline.retraining.states import ENDS, ENTRY_EFFECTS, NEXT, TABLE

START = datetime(2031, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)

POLICY = Policy(
    mode="auto",
    risk="limited",
    triggers=(parse_trigger("calibration_error > 0.03"), parse_trigger("roc_auc < released - 0.01")),
    after_promotion=14 * DAY,
    after_rejection=7 * DAY,
    budget_runs=4,
    budget_per=30 * DAY,
    approvals_needed=1,
    approval_expires=14 * DAY,
    canary=(0.05, 0.25, 0.5),
    each_at_most=2 * DAY,
)
BAD = {"calibration_error": (0.05, 0.04, 0.06), "roc_auc": (0.7, 0.69, 0.71)}
GOOD = {"calibration_error": (0.02, 0.01, 0.035), "roc_auc": (0.74, 0.735, 0.745)}
RELEASED = Facts(
    champion="v1",
    released={"roc_auc": 0.74},
    released_at=START - 60 * DAY,
    last_promotion=START - 60 * DAY,
    quality=GOOD,
)


def at(state: str, **fields: object) -> Cycle:
    made = Cycle("m/1", "m", state, 3, START, START, POLICY.id, TABLE, trigger="calibration_error > 0.03")
    return replace(made, **fields)  # type: ignore[arg-type]


# ---------------------------------------------------------------- one state at a time


def test_a_trigger_fires_only_when_the_whole_interval_is_beyond_the_bound():
    trigger = parse_trigger("calibration_error > 0.03")
    for low, fires in ((0.029, False), (0.031, True)):
        guard = fired(trigger, replace(RELEASED, quality={"calibration_error": (0.05, low, 0.07)}), START)
        assert guard.passed is fires


def test_a_relative_trigger_is_measured_from_the_released_value():
    trigger = parse_trigger("roc_auc < released - 0.01")
    for high, fires in ((0.731, False), (0.729, True)):
        guard = fired(trigger, replace(RELEASED, quality={"roc_auc": (0.72, 0.71, high)}), START)
        assert guard.passed is fires
        assert guard.threshold == pytest.approx(0.73)


def test_a_schedule_fires_by_the_age_of_the_release():
    trigger = parse_trigger("every 90d")
    for age, fires in ((89, False), (90, True)):
        guard = fired(trigger, replace(RELEASED, last_promotion=START - age * DAY), START)
        assert guard.passed is fires


def test_fresh_labels_fire_by_their_share_of_the_rows_that_the_champion_was_trained_on():
    trigger = parse_trigger("new_labels > 50%")
    for labels, fires in ((500, False), (501, True)):
        guard = fired(trigger, replace(RELEASED, new_labels=labels, trained_rows=1000), START)
        assert guard.passed is fires
    assert not fired(trigger, RELEASED, START).passed
    eighth = parse_trigger("new_labels > 12.5%")
    assert fired(eighth, replace(RELEASED, new_labels=126, trained_rows=1000), START).passed


@pytest.mark.parametrize("mode", ["observe", "suggest"])
def test_without_auto_a_trigger_only_speaks(mode):
    policy = replace(POLICY, mode=mode)
    facts = replace(RELEASED, quality=BAD)
    assert decide(None, (), policy, facts, START).next == "TRIAGE"
    decision = decide(at("TRIAGE"), (), policy, facts, START)
    assert decision.next == "SUPPRESSED"
    assert [e.kind for e in decision.effects] == (["notify"] if mode == "suggest" else [])


def test_a_loop_that_is_off_stays_where_it_is_whatever_happens():
    signal = Signal("p", "proposal", START, {"by": "user:a"})
    facts = replace(RELEASED, quality=BAD, data_incidents=("i",))
    assert decide(None, (signal,), replace(POLICY, mode="off"), facts, START).next == "IDLE"


def test_broken_data_ends_as_an_incident_and_not_as_a_training():
    facts = replace(RELEASED, quality=BAD, data_incidents=("i1",))
    decision = decide(at("TRIAGE"), (), POLICY, facts, START)
    assert decision.next == "DATA_INCIDENT"
    assert {e.kind for e in decision.effects} == {"notify"}
    resolved = decide(at("DATA_INCIDENT"), (), POLICY, replace(facts, data_incidents=()), START)
    assert resolved.next == "SUPPRESSED"


@pytest.mark.parametrize("trigger", ["calibration_error > 0.03", "proposal", "operator"])
def test_labels_that_cannot_be_trusted_stop_a_training_whoever_asks(trigger):
    facts = replace(RELEASED, quality=BAD, label_problem="people who label agree too little")
    decision = decide(at("TRIAGE", trigger=trigger), (), POLICY, facts, START)
    assert decision.next == "SUPPRESSED" and "agree too little" in decision.why
    assert (
        decide(at("TRIAGE", trigger=trigger), (), POLICY, replace(facts, label_problem=None), START).next == "SNAPSHOT"
    )


LAST = at("ROLLOUT", step=2, changes={"version": "v2"})
SERVED = replace(
    RELEASED,
    effects=(EffectState("set_traffic", "done", {}),),
    rollout=Rollout(True, "fine", "", 5000),
)
ASKING = replace(POLICY, parity=1000)


def test_a_canary_whose_features_differ_from_the_tables_is_taken_back():
    facts = replace(SERVED, parity=Parity(1000, 3, "amount in 3 of 1,000 requests", "r"))
    decision = decide(LAST, (), ASKING, facts, START)
    assert decision.next == "ROLLING_BACK" and "amount in 3" in decision.why


def test_a_canary_waits_for_enough_requests_to_compute_again_and_goes_on_unproven_at_the_limit():
    few = replace(SERVED, parity=Parity(400, 0))
    assert decide(LAST, (), ASKING, few, START).next == "ROLLOUT"
    late = START + ASKING.each_at_most
    decision = decide(LAST, (), ASKING, few, late)
    assert decision.next == "WATCH" and decision.changes["changes"]["unproven"] == ["parity"]
    assert decide(LAST, (), replace(ASKING, risk="high"), few, late).next == "ROLLOUT"
    assert decide(LAST, (), ASKING, replace(SERVED, parity=Parity(1000, 0)), START).next == "WATCH"
    assert decide(LAST, (), POLICY, SERVED, START).next == "WATCH"


def test_a_canary_with_a_feature_that_nobody_could_compute_again_waits_and_says_so():
    blind = replace(SERVED, parity=Parity(1000, 0, "not compared in any request: amount (not in the log)", "r", 1))
    waiting = decide(LAST, (), ASKING, blind, START)
    assert waiting.next == "ROLLOUT" and not waiting.guards[-1].passed
    assert "1 of its features could not be computed again" in waiting.why and "amount (not in the log)" in waiting.why
    late = START + ASKING.each_at_most
    decision = decide(LAST, (), ASKING, blind, late)
    assert decision.next == "WATCH" and "parity unproven in 1 features" in decision.why
    assert decide(LAST, (), replace(ASKING, risk="high"), blind, late).next == "ROLLOUT"


def test_what_is_suppressed_for_the_same_reason_is_said_once():
    facts = replace(RELEASED, quality=BAD, last_promotion=START - 3 * DAY)
    said = decide(at("TRIAGE"), (), POLICY, facts, START)
    assert said.next == "SUPPRESSED"
    key = said.changes["changes"]["suppressed"]
    again = decide(None, (), POLICY, replace(facts, suppressed=key), START + DAY)
    assert again.next == "IDLE"
    assert "still suppressed" in again.why


@pytest.mark.parametrize("trigger", ["proposal", "operator"])
def test_a_person_need_not_wait_for_a_cooldown_but_for_the_budget(trigger):
    facts = replace(RELEASED, last_promotion=START - DAY)
    assert decide(at("TRIAGE", trigger=trigger), (), POLICY, facts, START).next == "SNAPSHOT"
    spent = replace(facts, trained_at=tuple(START - n * DAY for n in range(4)))
    refused = decide(at("TRIAGE", trigger=trigger), (), POLICY, spent, START)
    assert refused.next == "SUPPRESSED"
    assert "raise retraining.budget.runs" in refused.why


@pytest.mark.parametrize(("trigger", "spent"), [("operator", 1), ("proposal", 1), ("every 90d", 2)])
def test_a_recipe_that_a_person_has_to_mend_spends_nothing(trigger, spent):
    memory = {"trained_at": ["2030-12-01T00:00:00.000000Z"]}
    memory = remember(memory, at("TRAIN", trigger=trigger), "TRAIN", START, before="SNAPSHOT")
    assert len(memory["trained_at"]) == 2
    assert len(remember(memory, at("FAILED", trigger=trigger), "FAILED", START, before="TRAIN")["trained_at"]) == spent
    assert len(remember(memory, at("FAILED", trigger=trigger), "FAILED", START, before="EVALUATE")["trained_at"]) == 2


def test_only_the_trainings_of_the_budgets_period_count():
    for days, allowed in ((29, False), (30, True)):
        facts = replace(RELEASED, quality=BAD, trained_at=tuple(START - days * DAY for _ in range(POLICY.budget_runs)))
        assert (decide(at("TRIAGE"), (), POLICY, facts, START).next == "SNAPSHOT") is allowed


def test_a_cancelled_canary_is_rolled_back_and_a_cancelled_candidate_is_told():
    cancel = Signal("c", "operator", START, {"do": "cancel", "by": "user:a"})
    rolled = decide(at("ROLLOUT"), (cancel,), POLICY, RELEASED, START)
    assert (rolled.next, [e.kind for e in rolled.effects], rolled.consumed) == ("ROLLING_BACK", ["roll_back"], ("c",))
    gone = decide(at("TRAIN"), (cancel,), POLICY, RELEASED, START)
    assert (gone.next, [e.kind for e in gone.effects], gone.consumed) == ("CANCELLED", ["notify"], ("c",))


def test_a_failed_step_ends_the_cycle_since_its_effect_was_delivered_as_often_as_it_may():
    facts = replace(RELEASED, effects=(EffectState("train", "failed", {"final": True}, "boom"),))
    ended = decide(at("TRAIN"), (), POLICY, facts, START)
    assert (ended.next, ended.why) == ("FAILED", "train failed: boom")
    again = replace(RELEASED, effects=(EffectState("train", "pending", None, "boom"),))
    waits = decide(at("TRAIN"), (), POLICY, again, START)
    assert (waits.next, waits.why) == ("TRAIN", "waiting for train, which is tried again: boom")


def test_an_incident_whose_cycle_was_cancelled_begins_no_cycle_until_another_opens():
    cancel = Signal("c", "operator", START, {"do": "cancel", "by": "user:a"})
    facts = replace(RELEASED, quality=BAD, data_incidents=("i", "j"))
    gone = decide(at("DATA_INCIDENT"), (cancel,), POLICY, facts, START)
    assert gone.next == "CANCELLED"
    after = replace(facts, suppressed=gone.changes["changes"]["suppressed"])
    for open_ones, begins in ((("i", "j"), "IDLE"), (("j",), "IDLE"), (("i", "j", "k"), "TRIAGE")):
        assert decide(None, (), POLICY, replace(after, data_incidents=open_ones), START).next == begins
    asked = Signal("p", "proposal", START, {"by": "user:a"})
    assert decide(None, (asked,), POLICY, after, START).next == "TRIAGE"


def test_a_worse_canary_is_rolled_back_at_any_step_even_when_paused():
    for step in range(3):
        for paused in (False, True):
            effects = (EffectState("deploy" if step == 0 else "set_traffic", "done", {}),)
            facts = replace(RELEASED, effects=effects, rollout=Rollout(True, "worse", "contract", 40))
            decision = decide(at("ROLLOUT", step=step, paused=paused), (), POLICY, facts, START)
            assert decision.next == "ROLLING_BACK"


def test_an_undecided_canary_goes_on_at_the_limit_as_unproven_unless_risk_is_high():
    facts = replace(RELEASED, effects=(EffectState("deploy", "done", {}),), rollout=Rollout(True))
    cycle = at("ROLLOUT")
    assert decide(cycle, (), POLICY, facts, START + DAY).next == "ROLLOUT"
    late = decide(cycle, (), POLICY, facts, START + 2 * DAY)
    assert late.changes["step"] == 1
    assert late.changes["changes"]["unproven"] == [0]
    told = replace(facts, rollout=Rollout(True, "open", "missing: 59 of 988, champion 54 of 980", 988))
    assert (
        "unproven after 2d (missing: 59 of 988, champion 54 of 980) at"
        in decide(cycle, (), POLICY, told, START + 2 * DAY).why
    )
    held = decide(cycle, (), replace(POLICY, risk="high"), facts, START + 9 * DAY)
    assert not held.effects


def test_an_approval_that_nobody_gives_expires():
    decision = decide(at("AWAIT_APPROVAL"), (), POLICY, RELEASED, START + 14 * DAY)
    assert decision.next == "EXPIRED"
    assert decide(at("AWAIT_APPROVAL"), (), POLICY, RELEASED, START + 13 * DAY).next == "AWAIT_APPROVAL"


def test_every_state_of_the_table_can_be_entered_and_left():
    reached = set().union(*NEXT.values())
    assert set(NEXT) | ENDS == set(ENTRY_EFFECTS)
    assert reached == set(ENTRY_EFFECTS) - {"IDLE"}


# ---------------------------------------------------------------- loop-years


class Luck:
    """A world that answers at random, and keeps the book that the laws are read from."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.policy = replace(
            POLICY,
            mode=self.dice.choice(["observe", "suggest", "auto", "auto", "auto"]),
            risk=self.dice.choice(["minimal", "limited", "high"]),
            approvals_needed=self.dice.choice([0, 1, 2]),
            budget_runs=self.dice.randint(1, 5),
            canary=self.dice.choice([(), (0.1,), (0.05, 0.25, 0.5)]),
        )
        self.now, self.memory, self.cycle = START, {}, None
        self.champion, self.promoted = None, None
        self.incident_until = START
        self.trained: list[datetime] = []
        self.done: dict[str, EffectState] = {}
        self.book: list[tuple[Decision, Facts, Cycle | None]] = []

    def facts(self) -> Facts:
        dice, cycle = self.dice, self.cycle
        effects = ()
        if cycle is not None:
            prefix = f"{cycle.id}/{cycle.state}/{cycle.step}/{cycle.attempt}/"
            effects = tuple(state for key, state in self.done.items() if key.startswith(prefix))
        return Facts(
            champion=self.champion,
            released={"roc_auc": 0.74} if self.champion else None,
            quality=dice.choice([GOOD, BAD, None]),
            last_promotion=self.promoted,
            last_rejection=datetime.fromisoformat(self.memory["last_rejection"])
            if "last_rejection" in self.memory
            else None,
            trained_at=tuple(self.trained),
            data_incidents=("i",) if self.now < self.incident_until else (),
            suppressed=self.memory.get("suppressed"),
            effects=effects,
            passed=dice.choice([True, True, False]) if cycle and cycle.state == "GATE" else None,
            failed_gates=("g",),
            approved=dice.random() < 0.5,
            refused="user:b" if dice.random() < 0.05 else None,
            rollout=Rollout(dice.random() < 0.8, dice.choice(["open", "open", "fine", "fine", "worse"])),
        )

    def signals(self) -> tuple[Signal, ...]:
        if self.dice.random() < 0.02:
            return (Signal(f"p{self.now}", "proposal", self.now, {"by": "user:a", "reason": "r"}),)
        if self.dice.random() < 0.02:
            do = self.dice.choice(["pause", "resume", "cancel", "override"])
            return (Signal(f"o{self.now}{do}", "operator", self.now, {"do": do, "by": "user:a"}),)
        return ()

    def live(self, days: int) -> None:
        for _ in range(days):
            self.now += DAY * self.dice.choice([0.25, 1, 1, 1, 3])
            if self.dice.random() < 0.03:
                self.incident_until = self.now + DAY * self.dice.randint(1, 4)
            for _ in range(40):
                if not self.step():
                    break
            else:
                raise AssertionError("does not settle")

    def step(self) -> bool:
        facts, signals = self.facts(), self.signals()
        decision = decide(self.cycle, signals, self.policy, facts, self.now)
        assert decision == decide(self.cycle, signals, self.policy, facts, self.now)
        self.book.append((decision, facts, self.cycle))
        if decision.next == decision.state and not decision.effects and not decision.changes:
            return False
        if self.cycle is None:
            if decision.next == "IDLE":
                return False
            count = self.memory["cycles"] = self.memory.get("cycles", 0) + 1
            self.cycle = Cycle(f"m/{count}", "m", "IDLE", 0, self.now, self.now, "", TABLE)
        for effect in decision.effects:
            assert effect.id not in self.done, f"{effect.id} asked for twice"
            failed = self.dice.random() < 0.1
            self.done[effect.id] = EffectState(
                effect.kind, "failed" if failed else "done", {}, "luck" if failed else None
            )
            if effect.kind == "promote" and not failed:
                self.champion = self.cycle.id
                self.promoted = self.now
        self.cycle = moved(self.cycle, decision, self.now)
        self.memory = remember(self.memory, self.cycle, decision.next, self.now)
        if decision.next == "TRAIN" and decision.state == "SNAPSHOT":
            self.trained.append(self.now)
        if decision.next in ENDS:
            self.cycle = None
        return decision.state != decision.next or bool(decision.effects)


@settings(max_examples=120, deadline=None)
@given(st.integers(0, 2**32))
def test_in_any_luck_the_laws_of_the_loop_hold(seed):
    luck = Luck(seed)
    luck.live(150)
    for decision, facts, cycle in luck.book:
        assert decision.next == decision.state or decision.next in NEXT[decision.state]
        assert {e.kind for e in decision.effects} <= set(ENTRY_EFFECTS[decision.next])
        if decision.next == "SNAPSHOT" and decision.state == "TRIAGE":
            assert not facts.data_incidents
            spent = [at for at in facts.trained_at if luck.now - at < timedelta(0)]
            assert not spent
            asked = cycle.trigger in ("proposal", "operator")
            assert asked or luck.policy.mode == "auto"
        if decision.state == "GATE" and decision.next in ("ROLLOUT", "WATCH", "AWAIT_APPROVAL"):
            assert facts.passed
            assert decision.next == "AWAIT_APPROVAL" or luck.policy.approvals_needed == 0
        if decision.state == "AWAIT_APPROVAL" and decision.next in ("ROLLOUT", "WATCH"):
            assert facts.approved and not facts.refused
        if decision.next == "WATCH" and decision.state in ("GATE", "AWAIT_APPROVAL"):
            assert facts.champion is None or not luck.policy.canary
        if decision.state == "ROLLOUT" and facts.rollout.verdict == "worse" and facts.rollout.applied and facts.effects:
            assert decision.next in ("ROLLING_BACK", "ROLLOUT")
            done = facts.effects[0].status == "done"
            paused_now = decision.changes.get("paused") is not None
            assert decision.next == "ROLLING_BACK" or not done or paused_now


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_no_period_holds_more_trainings_than_the_budget(seed):
    luck = Luck(seed)
    luck.live(200)
    starts, policy = sorted(luck.trained), luck.policy
    for i, first in enumerate(starts):
        inside = [at for at in starts[i:] if at - first < policy.budget_per]
        assert len(inside) <= policy.budget_runs
