"""The online store kept fresh from a workspace's tables, and logged requests recomputed."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from loopline import features
from loopline.base.clock import ManualClock
from loopline.base.errors import Invalid, NotFound, Unavailable
from loopline.base.ids import canonical
from loopline.data.spec import TableSpec
from loopline.features.nouns import Published, TrainingSet
from loopline.features.online import OnlineFeatures
from loopline.features.proof import ULPS, compare, parity, parity_gate
from loopline.features.publishing import freshness, publish
from loopline.features.requests import request_doc, space_of
from loopline.framing.spec import FramingSpec
from loopline.workspace import create_workspace

HOUR = timedelta(hours=1)
START = datetime(2026, 3, 28, tzinfo=UTC)
DAYS = 4
TABLES = {
    "plan": TableSpec.model_validate(
        {"source": "plan.csv", "event_time": "starts", "known_at": "told", "key": ["job"]}
    ),
    "results": TableSpec.model_validate(
        {"source": "results.csv", "event_time": "ended", "known_at": "heard", "key": ["job"]}
    ),
    "teams": TableSpec.model_validate({"source": "teams.csv", "key": ["team"]}),
}
FRAMING = FramingSpec.model_validate(
    {"label": {"table": "results", "value": "late > 5"}, "unit": "job", "decision_time": "starts - 2h"}
)
SPEC = features.FeaturesSpec(spine="plan", views=("views.py",))
VIEWS = """
from loopline.features import view, col, mean, count, latest, lookup, maximum
@view()
def own():
    return {"size": col("size"), "team_": col("team").category(), "log_size": col("size").log1p()}
@view(entity="team", source="results", refresh="1h", ttl="1d", freshness="12h")
def past():
    most = maximum("late", "2d")
    return {"late_1d": mean("late", "1d"), "done_6h": count("6h"), "last": latest("late"), "most": most}
@view(entity="team", source="teams")
def team():
    return {"head": lookup("head").category()}
"""


def frames(days=DAYS):
    n = pl.int_range(days * 24, eager=True)
    starts = pl.select(pl.lit(START) + pl.duration(hours=n)).to_series().dt.cast_time_unit("us")
    plan = pl.DataFrame({"job": n.cast(pl.String), "team": n % 3, "size": n % 7, "starts": starts}).with_columns(
        pl.col("team").cast(pl.String), told=pl.col("starts") - timedelta(days=1)
    )
    late = pl.when(n % 11 == 0).then(None).otherwise((n * 7) % 13)
    results = plan.select("job", "team", late=late, ended=pl.col("starts") + timedelta(minutes=50))
    return {
        "plan": plan,
        "results": results.with_columns(heard=pl.col("ended") + timedelta(minutes=25)),
        "teams": pl.DataFrame({"team": ["0", "1"], "head": ["ann", "bo"]}),
    }


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "views.py").write_text(VIEWS)
    return folder


@pytest.fixture
def ws(tmp_path):
    made = create_workspace(tmp_path / "ws", clock=ManualClock(START + DAYS * 24 * HOUR), actor="user:test")
    yield made
    made.close()


def ingest(ws, low, high):
    """The rows that became known in `(low, high]`."""
    for name, frame in frames().items():
        known = TABLES[name].known_at
        rows = frame if known is None else frame.filter((pl.col(known) > low) & (pl.col(known) <= high))
        if rows.height and (known is not None or low < START):
            ws.tables.append(name, rows)


def published(ws, project, upto, **options):
    (made,) = publish(ws, project, features=SPEC, tables=TABLES, upto=upto, **options)
    return made


def reader(ws, project):
    views = features.load_views(project, SPEC.views)
    return OnlineFeatures(ws.online, views, space=space_of(views))


def offline(ws, project, at):
    """The features of each team at a moment, from the tables."""
    views = features.load_views(project, SPEC.views)
    spine = pl.DataFrame(
        {"job": ["a", "b", "c"], "team": ["0", "1", "2"], "size": [1, 2, 3], "decision_time": [at] * 3},
        schema_overrides={"decision_time": pl.Datetime("us", "UTC")},
    )
    sources = {name: features.history(ws.tables.scan(name).collect(), TABLES[name]) for name in views.tables}
    made = features.compute(views, spine, sources, unit="job")
    return [list(row) for row in made.select("late_1d", "done_6h", "last", "most", "head").iter_rows()]


def online(ws, project, at):
    found = reader(ws, project).read_many([{"team": team} for team in "012"], at)
    return [
        [
            value if value is None or isinstance(value, str) else pl.Series([value]).cast(pl.Float32)[0]
            for value in leaves
        ]
        for leaves, *_ in found
    ]


def test_step_by_step_and_in_new_processes_the_store_holds_what_the_tables_say(ws, project):
    ingest(ws, datetime.min.replace(tzinfo=UTC), START + 30 * HOUR)
    last = START + 30 * HOUR
    published(ws, project, last)
    assert online(ws, project, last) == offline(ws, project, last)
    for hours in (31, 32, 40, 41):
        now = START + hours * HOUR
        ingest(ws, last, now)
        if hours % 2:
            features.publishing._WRITERS.clear()  # as in a new process
        published(ws, project, now)
        assert online(ws, project, now) == offline(ws, project, now)
        last = now


def test_publishing_again_writes_nothing_and_a_backfill_writes_the_same(ws, project):
    ingest(ws, datetime.min.replace(tzinfo=UTC), START + 60 * HOUR)
    now = START + 60 * HOUR
    assert published(ws, project, now).entities == 5
    before = online(ws, project, now)
    assert published(ws, project, now).entities == 0
    assert published(ws, project, now - 10 * HOUR).upto == now
    assert published(ws, project, now, backfill=True).entities == 5
    assert online(ws, project, now) == before


def test_rows_that_came_late_are_counted_at_the_next_publish(ws, project):
    ingest(ws, datetime.min.replace(tzinfo=UTC), START + 30 * HOUR)
    now = START + 30 * HOUR
    published(ws, project, now)
    ws.tables.append(
        "results", frames()["results"].head(1).with_columns(job=pl.lit("late"), ended=now - HOUR, heard=now - HOUR)
    )
    published(ws, project, now)
    assert online(ws, project, now) == offline(ws, project, now)


def test_a_definition_that_changed_is_built_anew_and_says_so_before(ws, project):
    ingest(ws, datetime.min.replace(tzinfo=UTC), START + 30 * HOUR)
    published(ws, project, START + 30 * HOUR)
    (project / "views.py").write_text(VIEWS.replace('count("6h")', 'count("5h")'))
    with pytest.raises(Unavailable, match="holds nothing of view past"):
        online(ws, project, START + 30 * HOUR)
    published(ws, project, START + 30 * HOUR)
    assert online(ws, project, START + 30 * HOUR) == offline(ws, project, START + 30 * HOUR)


def test_nothing_is_published_ahead_of_the_clock_or_from_no_rows(ws, project):
    with pytest.raises(NotFound, match="holds nothing yet"):
        published(ws, project, START)
    with pytest.raises(Invalid, match="cannot be published"):
        published(ws, project, START + 1000 * HOUR)


def test_freshness_is_a_service_level(ws, project):
    now = START + 30 * HOUR
    asked = {"features": SPEC}
    assert [one.late for one in freshness(ws, project, at=now, **asked)] == ["never published"] * 2
    ingest(ws, datetime.min.replace(tzinfo=UTC), now)
    published(ws, project, now)
    past, team = freshness(ws, project, at=now, **asked)
    assert (past.stands_at, past.behind, past.age, past.late) == (now, timedelta(0), timedelta(minutes=70), None)
    assert (team.stands_at, team.late) == (None, None)
    past, _ = freshness(ws, project, at=now + 1.5 * HOUR, **asked)
    assert (past.behind, past.late) == (HOUR, None)
    past, _ = freshness(ws, project, at=now + 3 * HOUR + timedelta(microseconds=491_695), **asked)
    assert past.late == "stands 3 h behind the refresh that is due"
    published(ws, project, now + 20 * HOUR)
    past, _ = freshness(ws, project, at=now + 20 * HOUR, **asked)
    assert "newest event" in past.late


def test_a_store_that_stands_and_lost_its_entities_is_noticed_where_they_are_counted(ws, project):
    ingest(ws, datetime.min.replace(tzinfo=UTC), START + 30 * HOUR)
    now = START + 30 * HOUR
    published(ws, project, now)

    def late(**options):
        return [one.late for one in freshness(ws, project, features=SPEC, at=now, **options)]

    assert late(count=True) == [None, None]
    (kept,) = [reader(ws, project)._kept]
    ws.online.delete(kept[0], "1")
    ws.online.delete(kept[1], "0")
    ws.online.delete(kept[1], "1")
    assert late() == [None, None], "looking at the progress alone is cheap, and does not tell"
    assert late(count=True) == [
        "lost entities: 2 of the 3 that were published are left",
        "lost entities: 0 of the 2 that were published are left",
    ]
    published(ws, project, now, backfill=True)
    assert late(count=True) == [None, None]
    later = START + 80 * HOUR
    ingest(ws, now, later)
    for moment in (START + 60 * HOUR, later):
        features.publishing._WRITERS.clear()  # as in a new process
        published(ws, project, moment)
    assert freshness(ws, project, features=SPEC, at=later, count=True)[0].late is None


def test_a_view_whose_events_are_all_older_than_it_looks_back_says_so(ws, project):
    ingest(ws, datetime.min.replace(tzinfo=UTC), START + 30 * HOUR)
    published(ws, project, START + 90 * HOUR)
    past, _ = freshness(ws, project, features=SPEC, at=START + 90 * HOUR)
    assert past.late == "no event of the last 2 d 2 h, which is all that it keeps; allowed are 12 h"


def answered(ws, project, upto, change=None):
    """A log of one request an hour, with the features that the batch path makes of it."""
    ingest(ws, datetime.min.replace(tzinfo=UTC), START + DAYS * 24 * HOUR)
    views = features.load_views(project, SPEC.views)
    spine = features.spine_rows(FRAMING, frames()["plan"])
    sources = {name: features.history(frames()[name], TABLES[name]) for name in views.tables}
    made = features.compute(views, spine, sources, unit="job").filter(pl.col("decision_time") < upto)
    log = made.select(
        pl.col("job").alias("prediction_id"),
        pl.lit("1").alias("version"),
        pl.lit("champion").alias("role"),
        pl.col("job").alias("entity"),
        "decision_time",
        pl.col("decision_time").alias("recorded_at"),
        pl.lit([], dtype=pl.List(pl.String)).alias("broken"),
        pl.lit(None, pl.String).alias("fallback"),
        pl.col("^.*$").exclude("job", "decision_time"),
    )
    ws.tables.append("predictions/jobs", log if change is None else log.with_columns(change))
    return log.height


def report(ws, project, **options):
    return parity(
        ws, project, framing=FRAMING, features=SPEC, tables=TABLES, endpoint="jobs", **{"rows": 1000, **options}
    )


def trained(ws, project):
    """Version 1 was trained on what the views are now."""
    doc = request_doc(project, ("views.py",), features.load_views(project, SPEC.views), TABLES["plan"], {})
    now = START + 90 * HOUR
    with ws.records.transaction() as tx:
        tx.put(TrainingSet("old", "s", "f", (), (), "v", 0, 0, now, now, {}, ws.blobs.put(canonical(doc))))


def test_requests_answered_as_the_batch_path_would_agree_value_for_value(ws, project):
    n = answered(ws, project, START + 90 * HOUR)
    found = report(ws, project)
    assert (found.rows, found.values, found.mismatches, found.holds) == (n, n * 8, {}, True)
    assert parity_gate(found, needed=n) == (True, f"{n * 8:,} values of {n} requests agree")
    passed, why = parity_gate(found, needed=n + 1)
    assert not passed and "are needed" in why
    assert report(ws, project, rows=10).rows == 10
    assert report(ws, project, since=START + 80 * HOUR).rows == 10


def test_one_value_that_differs_is_found_named_and_blocks(ws, project):
    wrong = pl.when(pl.col("entity") == "50").then(pl.col("late_1d") + 1e-6).otherwise(pl.col("late_1d"))
    answered(ws, project, START + 90 * HOUR, wrong.cast(pl.Float32).alias("late_1d"))
    found = report(ws, project)
    assert found.mismatches == {"late_1d": 1}
    (example,) = found.examples
    assert (example.entity, example.feature) == ("50", "late_1d") and example.served != example.computed
    passed, why = parity_gate(found, needed=10)
    assert not passed and "late_1d (1)" in why


def test_a_null_where_the_batch_path_has_a_value_differs(ws, project):
    n = answered(ws, project, START + 90 * HOUR, pl.lit(None, pl.Float32).alias("done_6h"))
    found = report(ws, project)
    assert found.holds and found.open == ("done_6h",), "nothing tells whether version 1 reads it"
    said = "done_6h (null in every request, and nothing tells whether their versions read it)"
    assert parity_gate(found, needed=10) == (False, f"not compared in any request: {said}")
    assert report(ws, project, reads=["done_6h", "size"]).mismatches["done_6h"] > 80
    assert not report(ws, project, reads=["late_1d", "size"]).unchecked
    trained(ws, project)
    for how in ({"training_sets": {"1": "old"}}, {"training_set": "old"}):
        found = report(ws, project, **how)
        assert found.mismatches == {"done_6h": n} and not parity_gate(found, needed=10)[0]


def test_a_view_that_is_dead_for_all_requests_differs_in_each_of_its_features(ws, project):
    dead = [pl.lit(None, pl.Float32).alias(name) for name in ("late_1d", "done_6h", "last", "most")]
    answered(ws, project, START + 90 * HOUR, [*dead, pl.lit(None, pl.String).alias("head")])
    trained(ws, project)
    found = report(ws, project, training_sets={"1": "old"})
    assert {"late_1d", "done_6h", "most", "head"} <= set(found.mismatches)


def test_a_feature_that_is_null_in_both_paths_agrees_and_one_that_the_log_lacks_is_named(ws, project):
    (project / "views.py").write_text(VIEWS.replace('mean("late", "1d")', 'mean("late", "1s")'))
    n = answered(ws, project, START + 90 * HOUR)
    trained(ws, project)
    found = report(ws, project, training_sets={"1": "old"})
    assert found.holds and not found.open and found.values == n * 8
    asked = [*features.load_views(project, SPEC.views).names, "gone", "version"]
    found = report(ws, project, reads=asked)
    assert found.unchecked == {"gone": "no view makes it", "version": "no view makes it"}
    assert found.open == ("gone", "version") and not parity_gate(found, needed=10)[0]


def test_a_feature_of_which_no_request_can_be_compared_is_not_passed_for_checked(ws, project):
    late = ("late_1d", "done_6h", "last", "most")
    ahead = [pl.lit(None, pl.Float32).alias(name) for name in late]
    answered(ws, project, START + 90 * HOUR, [*ahead, pl.lit(["ahead:past"]).alias("broken")])
    trained(ws, project)
    found = report(ws, project, training_sets={"1": "old"})
    assert found.holds and found.open == late
    passed, why = parity_gate(found, needed=10)
    assert not passed and "the online store stood after their decision time" in why and "and 1 more" in why


def test_categories_that_training_never_saw_are_not_compared(ws, project):
    unseen = pl.col("team_") == "2"
    answered(
        ws,
        project,
        START + 90 * HOUR,
        [
            pl.when(unseen).then(pl.lit(["unseen:team_"])).otherwise(pl.col("broken")).alias("broken"),
            pl.when(unseen).then(None).otherwise(pl.col("team_")).alias("team_"),
        ],
    )
    assert report(ws, project).holds


def test_requests_about_nobody_are_counted_apart(ws, project):
    answered(
        ws,
        project,
        START + 90 * HOUR,
        pl.when(pl.col("entity") == "7").then(pl.lit("x")).otherwise("entity").alias("entity"),
    )
    found = report(ws, project)
    assert found.holds
    assert found.unchecked == {"1 rows": "no row of plan names their entity"}


def test_rows_of_the_spine_that_were_corrected_are_read_as_they_were_known(ws, project):
    n = answered(ws, project, START + 90 * HOUR)
    first = frames()["plan"].filter(pl.col("job") == "50")
    known = pl.col("starts") - timedelta(hours=3)
    ws.tables.append("plan", first.with_columns(size=pl.lit(5, pl.Int64), told=known))
    ws.tables.append("plan", first.with_columns(size=pl.lit(6, pl.Int64), told=known + 2 * HOUR))
    found = report(ws, project)
    assert found.rows == n and found.mismatches == {"size": 1, "log_size": 1}
    assert {one.computed for one in found.examples if one.feature == "size"} == {5.0}


def test_what_the_request_brought_is_read_from_the_log_where_it_holds_it(ws, project):
    brought = [pl.lit(5).alias("request_size"), pl.lit("0").alias("request_team")]
    answered(ws, project, START + 90 * HOUR, brought)
    assert report(ws, project).mismatches["size"] > 50


def test_what_the_log_keeps_as_text_is_read_in_the_type_of_the_spine_and_needs_no_row_of_it(ws, project):
    told = [pl.lit("5.0").alias("request_size"), pl.lit("0").alias("request_team"), pl.lit("nobody").alias("entity")]
    n = answered(ws, project, START + 90 * HOUR, told)
    found = report(ws, project)
    assert found.rows == n and not found.unchecked
    assert {one.computed for one in found.examples if one.feature == "size"} == {5.0}


def test_requests_that_read_nothing_of_a_store_ahead_of_them_are_told_apart(ws, project):
    late = pl.when(pl.col("entity") == "50")
    nothing = [late.then(None).otherwise(pl.col(name)).alias(name) for name in ("late_1d", "done_6h", "last", "most")]
    broken = late.then(pl.lit(["ahead:past"])).otherwise(pl.col("broken")).alias("broken")
    answered(ws, project, START + 90 * HOUR, [*nothing, broken])
    found = report(ws, project)
    assert found.holds and "stood after" in found.unchecked["late_1d of 1 rows"]


def test_each_versions_answers_are_judged_by_its_own_views(ws, project):
    n = answered(ws, project, START + 90 * HOUR)
    docs = request_doc(project, ("views.py",), features.load_views(project, SPEC.views), TABLES["plan"], {})
    now = START + 90 * HOUR
    made = TrainingSet(
        "old", "s", "f", (), (), "v", 0, 0, now, now, {}, ws.blobs.put(canonical(docs))
    )  # fmt: skip
    with ws.records.transaction() as tx:
        tx.put(made)
    (project / "views.py").write_text(VIEWS.replace('count("6h")', 'count("20h")'))
    assert "done_6h" in report(ws, project).mismatches
    for files in (None, ("views.py",)):
        found = report(ws, project, training_sets={"1": "old"}, views=files)
        assert found.holds and found.rows == n
    assert "done_6h" in report(ws, project, training_sets={"2": "old"}, views=("views.py",)).mismatches


def test_a_function_whose_text_changed_is_unchecked_for_the_answers_it_once_made_and_the_rest_is_compared(ws, project):
    called = """
from loopline.features import row_function
@row_function(inputs=["size"], returns="number")
def weight(size):
    return size * 2
@view()
def called():
    return {"weight": weight, "half": col("size") / 2}
"""
    (project / "views.py").write_text(VIEWS + called)
    n = answered(ws, project, START + 90 * HOUR)
    doc = ws.blobs.put(canonical(features.load_views(project, SPEC.views).doc()))
    now = START + 90 * HOUR
    with ws.records.transaction() as tx:
        tx.put(TrainingSet("old", "s", "f", (), (), doc, 0, 0, now, now, {}))
    same = report(ws, project, training_sets={"1": "old"})
    assert same.holds and not same.unchecked and same.values == n * 10 and same.views == doc
    (project / "views.py").write_text(VIEWS.replace('count("6h")', 'count("20h")') + called.replace("* 2", "* 3"))
    assert {"done_6h", "weight"} == set(report(ws, project).mismatches)
    for how in ({"training_sets": {"1": "old"}}, {"training_set": "old"}):
        found = report(ws, project, **how)
        assert found.holds and found.values == n * 9 and list(found.unchecked) == ["weight"]
        assert "whose code of then is no longer in views.py" in found.unchecked["weight"]
        assert not parity_gate(found, needed=n)[0]


def test_only_inexact_operators_may_differ_and_by_four_units_in_the_last_place():
    one = pl.Series([1.0, 1.0, -0.0, None, 1.0], dtype=pl.Float32)
    other = pl.Series([1.0 + ULPS * 2**-23, 1.0 + 5 * 2**-23, 0.0, None, None], dtype=pl.Float32)
    rules = pl.Series([[]] * 5, dtype=pl.List(pl.String))
    assert compare(one, other, rules, "x", ULPS).to_list() == [True, False, True, True, False]
    assert compare(one, other, rules, "x", 0).to_list() == [False, False, True, True, False]


def test_an_empty_log_is_said(ws, project):
    with pytest.raises(NotFound, match="holds no such request"):
        report(ws, project)


def test_what_was_published_is_recorded(ws, project):
    ingest(ws, datetime.min.replace(tzinfo=UTC), START + 30 * HOUR)
    made = published(ws, project, START + 30 * HOUR)
    assert made.versions == {"results": 0, "teams": 0}
    assert ws.records.find(Published) == [made]
