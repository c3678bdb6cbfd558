"""People are asked about drawn rows; what they agree on is a dated label, and how far they agree is known."""

from __future__ import annotations

import random
import statistics
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline import data
from loopline.base.clock import ManualClock
from loopline.base.errors import Denied, Invalid, NotFound
from loopline.data import labelling
from loopline.data.labelling import audit_queue
from loopline.data.labelling.agreement import agreement, slow_alpha
from loopline.data.labelling.trust import at_most, label_health
from loopline.data.nouns import LabelRound
from loopline.data.spec import TableSpec
from loopline.framing.spec import FramingSpec
from loopline.workspace import Workspace, create_workspace

NOW = datetime(2031, 5, 1, tzinfo=UTC)
TABLES = {"parcels": TableSpec(source="p.csv", event_time="due", known_at="placed", key=("id",))}


@pytest.fixture
def ws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    monkeypatch.setenv("LOOPLINE_KEYS", str(tmp_path / "keys"))
    made = create_workspace(tmp_path / "ws", clock=ManualClock(NOW), actor="user:ada")
    rows = pl.DataFrame({"id": [f"p{n}" for n in range(40)], "weight": range(40)})
    made.tables.append("parcels", rows.with_columns(due=pl.lit(NOW), placed=pl.lit(NOW - timedelta(days=1))))
    yield made
    made.close()


def asked(ws: Workspace, n: int, twice: float, seed: int = 0) -> LabelRound:
    labelling.write_guideline(ws, "late", question="Was it late?", text="Late is after noon.")
    return labelling.ask_rows(ws, ws.root, TABLES, "late", table="parcels", unit="id", n=n, twice=twice, seed=seed)


def say(ws: Workspace, who: str, value: str | None, *, times: int = 1) -> list[str]:
    done = []
    for _ in range(times):
        task = labelling.next_task(ws.acting_as(who), "late")
        if task is None:
            break
        labelling.answer(ws.acting_as(who), task.round, task.unit, value=value)
        done.append(task.unit)
    return done


values = st.one_of(st.integers(0, 3), st.sampled_from("ab"))


@given(st.lists(st.lists(values, max_size=5), max_size=12))
@settings(max_examples=80, deadline=None)
def test_alpha_is_what_its_definition_says(ratings: list[list[object]]) -> None:
    alpha = agreement(ratings).alpha  # type: ignore[arg-type]
    pairable = [value for unit in ratings if len(unit) > 1 for value in unit]
    if len(set(pairable)) < 2:
        assert alpha is None
    else:
        assert alpha == pytest.approx(slow_alpha(ratings), abs=1e-12)  # type: ignore[arg-type]


def test_alpha_of_published_examples() -> None:
    # Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), sections A, B and C.
    meg = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0]
    owen = [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]
    assert agreement(list(zip(meg, owen, strict=True))).alpha == pytest.approx(0.095, abs=0.0005)
    ben = ["a", "a", "b", "b", "d", "c", "c", "c", "e", "d", "d", "a"]
    gerry = ["b", "a", "b", "b", "b", "c", "c", "c", "e", "d", "d", "d"]
    assert agreement(list(zip(ben, gerry, strict=True))).alpha == pytest.approx(0.692, abs=0.0005)
    people = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
        [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
    ]
    units = [[row[n] for row in people if row[n] is not None] for n in range(12)]
    found = agreement(units)
    assert found.alpha == pytest.approx(0.743, abs=0.0005) and (found.units, found.values) == (11, 40)
    assert found.low is not None and found.high is not None and found.low < found.alpha < found.high


def test_the_interval_of_alpha_holds_the_truth_about_as_often_as_it_says() -> None:
    source, inside = random.Random(7), 0
    for trial in range(40):
        units = []
        for _ in range(80):
            truth = source.random() < 0.5
            units.append([truth if source.random() < 0.9 else not truth for _ in range(2)])
        found = agreement(units, seed=trial)
        inside += bool(found.low is not None and found.high is not None and found.low <= 0.64 <= found.high)
    assert inside >= 31, "0.64 = (2 * 0.9 - 1)^2; nine of ten are promised"


def test_a_guideline_has_versions_and_the_same_words_are_no_new_one(ws: Workspace) -> None:
    first = labelling.write_guideline(ws, "late", question="Late?")
    assert labelling.write_guideline(ws, "late", question="Late?").id == first.id
    assert labelling.write_guideline(ws, "late", question="Late?", text="after noon").number == 2
    for bad in ({"question": " "}, {"question": "x", "answers": ("a",)}, {"question": "x", "answers": ("a", "a")}):
        with pytest.raises(Invalid, match="two different answers"):
            labelling.write_guideline(ws, "late", **bad)  # type: ignore[arg-type]
    with pytest.raises(NotFound, match="no guideline"):
        labelling.ask_rows(ws, ws.root, TABLES, "other", table="parcels", unit="id")


def test_part_goes_to_two_people_and_where_they_differ_a_third_decides(ws: Workspace) -> None:
    made = asked(ws, 10, 0.5)
    assert (made.asked, made.twice, made.strata) == (10, 5, {"all": 40})
    assert len(say(ws, "user:ada", "yes", times=20)) == 10
    assert len(say(ws, "user:bob", "no", times=20)) == 5, "only those that two are asked about"
    assert labelling.label_standing(ws, "late").differing == 5
    task = labelling.next_task(ws.acting_as("user:carl"), "late")
    assert task is not None and task.third and task.left == 5
    say(ws, "user:carl", "no", times=20)
    found = labelling.label_standing(ws, "late")
    assert (found.rows, found.settled, found.differing, found.void) == (10, 10, 0, 0)
    assert found.answers == {"user:ada": 10, "user:bob": 5, "user:carl": 5}
    assert found.agreement.observed == 0.0 and found.agreement.alpha is not None and found.agreement.alpha < 0
    labels = labelling.labels_of(ws, "late")
    assert labels["label"].sum() == 5 and labels.filter("agreed").height == 5
    assert labelling.next_task(ws, "late") is None


def test_the_first_of_two_answers_is_true_and_what_cannot_be_told_is_void(ws: Workspace) -> None:
    asked(ws, 3, 0.0)
    for value in ("yes", "no", None):
        say(ws, "user:ada", value)
    assert sorted(labelling.labels_of(ws, "late")["label"].to_list(), key=str) == [False, None, True]
    assert labelling.label_standing(ws, "late").void == 1


def test_a_person_may_change_their_mind_and_no_machine_may_answer(ws: Workspace) -> None:
    made = asked(ws, 1, 0.0)
    (unit,) = say(ws, "user:ada", "yes")
    (first,) = ws.records.find(data.LabelAnswer)
    assert first.replaces is None and labelling.replaced(ws, first) is None
    again = labelling.answer(ws, made.id, unit, value="no", note="looked again")
    assert again.replaces == first.id, "who says otherwise is told what they replace"
    said = labelling.replaced(ws, again)
    assert said is not None and said.startswith(f"replaces {again.by}'s own answer, yes, of ")
    assert labelling.answer(ws, made.id, unit, value="no", note="looked again") == again
    assert labelling.answer(ws.acting_as("user:bob"), made.id, unit, value="yes").replaces is None
    labelling.answer(ws.acting_as("user:bob"), made.id, unit, value="no")
    assert labelling.labels_of(ws, "late")["label"].to_list() == [False]
    assert len(ws.records.find(data.LabelAnswer)) == 4, "all stay in the records"
    with pytest.raises(Denied, match="labels come from people"):
        labelling.answer(ws.acting_as("service:loop"), made.id, unit, value="no")
    with pytest.raises(Invalid, match="no answer"):
        labelling.answer(ws, made.id, unit, value="maybe")
    with pytest.raises(NotFound, match="not in that round"):
        labelling.answer(ws, made.id, "p-none", value="no")


def test_no_row_is_asked_about_in_two_rounds_and_draws_end(ws: Workspace) -> None:
    first, second = asked(ws, 25, 0.2, seed=1), asked(ws, 25, 0.2, seed=2)
    units = [*labelling.rows_of(ws, first)["id"], *labelling.rows_of(ws, second)["id"]]
    assert len(set(units)) == len(units) == 40
    with pytest.raises(Invalid, match="no row to ask about"):
        asked(ws, 5, 0.2)


def test_published_answers_are_dated_labels_that_a_table_takes_in(ws: Workspace, tmp_path: Path) -> None:
    asked(ws, 4, 0.0)
    say(ws, "user:ada", "yes", times=2)
    path = labelling.publish(ws, tmp_path, "late")
    assert path == tmp_path / "labels" / "late.parquet"
    tables = {
        "late": TableSpec(source="labels/late.parquet", event_time="event_time", known_at="known_at", key=("id",))
    }
    framing = FramingSpec(label={"table": "late", "value": "label"}, unit="id")  # type: ignore[arg-type]
    data.ingest(ws, tmp_path, tables)
    known = data.labels(ws, framing, tables, NOW)
    assert known["label"].to_list() == [True, True] and known["known_at"].unique().to_list() == [NOW]
    assert known["event_time"].unique().to_list() == [NOW]


@given(
    st.dictionaries(st.sampled_from("abcdefgh"), st.tuples(st.integers(1, 300), st.floats(0.15, 0.5)), min_size=1),
    st.integers(1, 400),
)
def test_labels_are_allotted_whole_within_each_stratum(strata: dict[str, tuple[int, float]], n: int) -> None:
    sizes, spread = {k: s for k, (s, _) in strata.items()}, {k: w for k, (_, w) in strata.items()}
    taken = audit_queue.allocated(sizes, spread, n)
    least = sum(min(2, s) for s in sizes.values())
    assert all(min(2, sizes[k]) <= taken[k] <= sizes[k] for k in sizes)
    assert sum(taken.values()) == max(least, min(n, sum(sizes.values())))


def test_the_estimate_from_the_queue_is_unbiased_though_the_scores_are_wrong_and_says_more_than_chance_would() -> None:
    source = random.Random(5)
    score = [source.betavariate(0.3, 2.0) for _ in range(4000)]
    # The model is far too sure: the truth is nearer to the middle than its scores.
    wrong = [source.random() < (0.04 + 0.5 * min(s, 1 - s)) for s in score]
    rows = pl.DataFrame({"score": score, "value": wrong})
    truth = sum(wrong) / len(wrong)
    found, inside, effective = [], 0, []
    for seed in range(150):
        drawn, sizes = audit_queue.drawn(rows, 150, seed=seed)
        assert drawn.height == 150 and sum(sizes.values()) == 4000
        made = audit_queue.estimated(drawn, sizes)
        assert made is not None
        found.append(made.value)
        effective.append(made.effective)
        inside += made.low <= truth <= made.high
    spread = statistics.stdev(found)
    assert abs(statistics.mean(found) - truth) < 3 * spread / 150**0.5, "no bias"
    assert inside >= 125, "nine of ten intervals hold the truth"
    assert audit_queue.estimated(rows.head(0).with_columns(stratum=pl.lit("")), {"1": 3}) is None


def judged(n: int, noise: float, seed: int = 3) -> pl.DataFrame:
    source = random.Random(seed)
    score = [source.random() for _ in range(n)]
    decision = [s > 0.5 for s in score]
    label = [(source.random() < s) if source.random() < noise else d for s, d in zip(score, decision, strict=True)]
    return pl.DataFrame({"score": score, "decision": decision, "label": label})


def test_labels_that_repeat_the_model_stop_retraining_and_true_ones_do_not(ws: Workspace) -> None:
    assert not label_health(ws, judged=judged(2000, 1.0)).stop
    echoed = label_health(ws, judged=judged(2000, 0.0))
    assert echoed.stop and "repeat the model's answers: 0 of 2,000" in echoed.why
    assert not label_health(ws, judged=judged(30, 0.0)).stop, "too few to tell"
    by = pl.DataFrame({"who": ["service:auto"] * 6 + ["user:ada"] * 4})
    assert label_health(ws, labels=by).stop and not label_health(ws, labels=by.tail(5)).stop
    assert not label_health(ws).stop


@given(st.lists(st.floats(0, 1), min_size=1, max_size=10), st.integers(0, 10))
def test_the_bound_on_few_wrong_answers_is_never_too_small(chances: list[float], wrong: int) -> None:
    exact = [1.0]
    for p in chances:
        exact = [a * (1 - p) + b * p for a, b in zip([*exact, 0.0], [0.0, *exact], strict=True)]
    assert at_most(chances, wrong) >= sum(exact[: wrong + 1]) - 1e-9


def test_few_rows_never_speak_for_labels_and_stop_where_people_clearly_differ(ws: Workspace) -> None:
    asked(ws, 12, 1.0)
    assert (
        label_health(ws).verdict == "unknown" and "two people saw 0 rows of late, 20 are needed" in label_health(ws).why
    )
    for n in range(12):
        task = labelling.next_task(ws, "late")
        assert task is not None
        value = "yes" if n % 2 else "no"
        labelling.answer(ws.acting_as("user:ada"), task.round, task.unit, value=value)
        labelling.answer(ws.acting_as("user:bob"), task.round, task.unit, value="no" if n % 2 else "yes")
    found = label_health(ws)
    assert found.stop and "agree too little: alpha -0.9" in found.why and "over 12 rows of late" in found.why
    labelling.write_guideline(ws, "damaged", question="Damaged?")
    labelling.ask_rows(ws, ws.root, TABLES, "damaged", table="parcels", unit="id", n=24, twice=1.0)
    for n in range(24):
        task = labelling.next_task(ws, "damaged")
        assert task is not None
        for who in ("user:ada", "user:bob"):
            labelling.answer(ws.acting_as(who), task.round, task.unit, value="yes" if n % 2 else "no")
    assert label_health(ws, name="damaged").verdict == "good"
    assert label_health(ws).stop, "a labelling that people agree on does not make up for another"


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 5))
def test_as_many_rows_are_drawn_as_are_asked_for(rows: int, n: int, seed: int) -> None:
    source = random.Random(seed)
    frame = pl.DataFrame({"score": [source.random() for _ in range(rows)]})
    made, sizes = audit_queue.drawn(frame, n, seed=seed)
    assert made.height == min(n, rows) and sum(sizes.values()) == rows
    assert (made["chance"] > 0).all()


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), min_size=1, max_size=12),
    st.integers(12, 3000),
)
def test_a_share_and_its_interval_lie_between_0_and_1(labels: list[tuple[str, bool]], size: int) -> None:
    found = audit_queue.estimated(
        pl.DataFrame(labels, schema=["stratum", "value"], orient="row"), dict.fromkeys("abcd", size)
    )
    assert found is not None and 0 <= found.low <= found.value <= found.high <= 1
    assert found.low < found.high, "so few labels leave it open"


def test_falling_agreement_stops_retraining(ws: Workspace) -> None:
    asked(ws, 40, 1.0)
    source = random.Random(1)
    clock = ws.clock
    assert isinstance(clock, ManualClock)
    for n in range(40):
        task = labelling.next_task(ws, "late")
        assert task is not None
        truth = "yes" if source.random() < 0.5 else "no"
        other = truth if n < 20 else source.choice(["yes", "no"])
        clock.advance(timedelta(minutes=1))
        labelling.answer(ws.acting_as("user:ada"), task.round, task.unit, value=truth)
        labelling.answer(ws.acting_as("user:bob"), task.round, task.unit, value=other)
        if n == 19:
            assert label_health(ws, name="late").verdict == "good"
    found = label_health(ws)
    assert found.stop and "agree" in found.why
    assert found.newest is not None and found.newest.units == 20 and found.before is not None
    assert found.before.alpha == 1.0
