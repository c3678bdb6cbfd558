"""Spines, kept features and training sets in a real workspace."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from loopline import data, features
from loopline.base.clock import ManualClock
from loopline.base.errors import Invalid
from loopline.data.spec import TableSpec
from loopline.features.nouns import TrainingSet
from loopline.features.past import planned
from loopline.features.spine import decision_times, due
from loopline.features.verbs import materialise
from loopline.framing.spec import FramingSpec
from loopline.training.spec import TrainingSpec
from loopline.workspace import create_workspace

DAY = timedelta(days=1)
START = datetime(2026, 1, 1, tzinfo=UTC)
DAYS = 40
TABLES = {
    "plan": TableSpec(source="plan.csv", event_time="starts", known_at="told", key=("job",)),
    "results": TableSpec(source="results.csv", event_time="ended", known_at="heard", key=("job",)),
}
FRAMING = FramingSpec(label={"table": "results", "value": "late > 5"}, unit="job", decision_time="starts - 2h")
SPEC = features.FeaturesSpec(spine="plan", views="views.py")
TRAINING = TrainingSpec(recipe="train.py:fit", split={"test": "7d"})
VIEWS = """
from loopline.features import view, col, mean, count
@view()
def own():
    return {"size": col("size"), "team_": col("team").category()}
@view(entity="team", source="results")
def past():
    return {"late_3d": mean("late", "3d"), "done_1d": count("1d")}
"""
OTHER = "from loopline.features import view, col\n@view()\ndef more():\n    return {'double': col('size') * 2}\n"


def frames():
    n = pl.int_range(DAYS * 4, eager=True)
    starts = pl.select(pl.lit(START) + pl.duration(hours=6) * n).to_series().dt.cast_time_unit("us")
    plan = pl.DataFrame({"job": n.cast(pl.String), "team": n % 3, "size": n % 7, "starts": starts}).with_columns(
        pl.col("team").cast(pl.String), told=pl.col("starts") - DAY
    )
    late = pl.when(n % 11 == 0).then(None).otherwise((n * 7) % 13)
    results = plan.select("job", "team", late=late, ended=pl.col("starts") + timedelta(hours=1))
    return {"plan": plan, "results": results.with_columns(heard=pl.col("ended") + DAY)}


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "views.py").write_text(VIEWS)
    (folder / "other.py").write_text(OTHER)
    return folder


@pytest.fixture
def ws(tmp_path, project):
    made = create_workspace(tmp_path / "ws", clock=ManualClock(START + DAYS * DAY), actor="user:test")
    data.ingest(made, project, TABLES, frames=frames())
    yield made
    made.close()


def cut(ws, project, **options):
    given = {"framing": FRAMING, "features": SPEC, "training": TRAINING, "tables": TABLES, **options}
    made = features.training_set(ws, project, **given)
    return made, pl.read_ipc(ws.blobs.path(made.frame))


def test_day_by_day_and_all_at_once_give_the_same_rows(ws, project):
    views = features.load_views(project, SPEC.views)
    for n in range(DAYS):
        kept = features.materialise(
            ws, project, FRAMING, SPEC, TABLES, since=START + n * DAY, until=START + (n + 1) * DAY, frames=frames()
        )
        assert kept.rows == (4 if n < DAYS - 1 else 3)
    daily = features.read(ws, views).sort("job")
    tables = {name: features.history(frame, TABLES[name]) for name, frame in frames().items() if name in views.tables}
    whole = features.compute(views, features.spine_rows(FRAMING, frames()["plan"]), tables, unit="job")
    whole = whole.filter(pl.col("decision_time").is_between(START, START + DAYS * DAY, closed="left")).sort("job")
    assert daily.equals(whole)


def test_spans_that_overlap_or_come_again_add_nothing_twice(ws, project):
    def keep(low, high):
        return features.materialise(
            ws, project, FRAMING, SPEC, TABLES, since=START + low * DAY, until=START + high * DAY
        )

    first = keep(2, 4)
    assert first.rows == 8 and keep(2, 4) == first
    assert keep(3, 5).rows == 4 and keep(1, 8).rows == 4 + 12
    rows = features.read(ws, features.load_views(project, SPEC.views))
    assert rows["job"].n_unique() == rows.height == 28


def test_rows_whose_record_was_lost_are_not_appended_again_by_a_longer_span(ws, project):
    given = (project, FRAMING, SPEC, TABLES)
    unrecorded = replace(ws, pending=[], notes={})
    assert materialise.__wrapped__(unrecorded, *given, since=START, until=START + 4 * DAY).rows == 16
    assert features.materialise(ws, *given, since=START, until=START + 6 * DAY).rows == 8
    rows = features.read(ws, features.load_views(project, SPEC.views))
    assert rows["job"].n_unique() == rows.height == 24


def test_two_who_keep_spans_that_overlap_at_once_keep_each_row_once(ws, project):
    def keep(days):
        return features.materialise(ws, project, FRAMING, SPEC, TABLES, since=START, until=START + days * DAY).rows

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(keep, (5, 6, 7, 8))) == 32
    rows = features.read(ws, features.load_views(project, SPEC.views))
    assert rows["job"].n_unique() == rows.height == 32


def test_features_of_what_is_not_over_are_refused(ws, project):
    with pytest.raises(Invalid, match="cannot be computed"):
        features.materialise(ws, project, FRAMING, SPEC, TABLES, since=START, until=START + (DAYS + 1) * DAY)


def test_rows_beyond_one_for_each_unit_are_counted(ws, project):
    later = replace(ws, clock=lambda: START + (DAYS + 1) * DAY)
    again = frames()["plan"].head(5).with_columns(told=pl.lit(ws.clock() + DAY / 2).dt.cast_time_unit("us"))
    data.ingest(later, project, {"plan": TABLES["plan"]}, frames={"plan": again})
    made, _ = cut(later, project)
    assert made.excluded["same_unit"] == 5
    first, second = features.left_out(made)
    total = made.train_rows + made.test_rows + sum(made.excluded.values())
    assert first.startswith(f"{sum(made.excluded.values()):,} of {total:,} rows are left out: ")
    assert "have an answer that is void" in first and first.endswith("5 share their unit with another row")
    assert "earlier versions" in second and "framing.unit" in second


def test_what_is_left_out_is_told_where_anything_is():
    none = TrainingSet("i", "s", "f", (), (), "v", 30, 10, START, START, {"void": 0, "same_unit": 0})
    assert features.left_out(none) == ()
    few = replace(none, excluded={"unlabelled": 2, "outside_window": 1_000})
    assert features.left_out(few) == (
        "1,002 of 1,042 rows are left out: 2 have no answer yet, 1,000 are older than training.window",
    )
    (_, many) = features.left_out(replace(none, excluded={"unlabelled": 41}))
    assert many.startswith("more rows have no answer than have one")


def test_the_test_part_is_the_last_labelled_week_and_every_row_is_accounted_for(ws, project):
    made, frame = cut(ws, project, evaluation_slices=("team", "size"))
    test, train = (frame.filter(pl.col("split") == part) for part in ("test", "train"))
    assert made.test_to == frame["decision_time"].max() and made.train_to == made.test_to - 7 * DAY
    assert test["decision_time"].min() >= made.train_to > train["decision_time"].max()
    assert (made.train_rows, made.test_rows) == (train.height, test.height)
    due_by_now = (pl.col("starts") - timedelta(hours=2)) < ws.clock()
    rows = frames()["plan"].filter(due_by_now).join(frames()["results"], on="job")
    known = rows.filter(pl.col("heard") <= ws.clock())
    assert made.excluded == {
        "unlabelled": rows.height - known.height,
        "void": known["late"].null_count(),
        "incident": 0,
        "outside_window": 0,
    }
    assert frame.height == known["late"].count()
    assert made.features == ("size", "team_", "late_3d", "done_1d") and made.categorical == ("team_",)
    truth = dict(known.select("job", pl.col("late") > 5).iter_rows())
    assert all(truth[job] == label for job, label in frame.select("job", "label").iter_rows())
    assert {"team", "size"} <= set(frame.columns)


def test_the_same_question_has_the_same_answer_and_the_past_does_not_move(ws, project):
    early = START + 20 * DAY
    first, frame = cut(ws, project, at=early)
    assert cut(ws, project, at=early)[0] == first
    assert frame["decision_time"].max() < early
    assert first.id != cut(ws, project)[0].id


def test_incidents_and_old_rows_stay_out_and_are_counted(ws, project):
    whole, frame = cut(ws, project)
    bad = (START + 10 * DAY, START + 12 * DAY)
    made, rows = cut(ws, project, excluded_windows=[bad])
    assert made.excluded["incident"] == frame.filter(pl.col("decision_time").is_between(*bad, closed="left")).height > 0
    assert rows.filter(pl.col("decision_time").is_between(*bad, closed="left")).height == 0
    short, recent = cut(ws, project, training=TrainingSpec(recipe="t.py:f", split={"test": "7d"}, window="10d"))
    assert recent["decision_time"].min() >= short.train_to - 10 * DAY
    assert short.excluded["outside_window"] == whole.train_rows - short.train_rows > 0


def test_a_slice_that_is_no_column_is_refused(ws, project):
    with pytest.raises(Invalid, match="nowhere"):
        cut(ws, project, evaluation_slices=("nowhere",))


def test_one_table_with_a_label_column_is_enough(tmp_path):
    spec = {"data": TableSpec(source="c.csv")}
    framing = FramingSpec(label="gone", unit="id")
    shop = pl.DataFrame(
        {
            "id": range(50),
            "age": [float(n) for n in range(50)],
            "city": ["x", "y"] * 25,
            "gone": [n % 3 == 0 for n in range(50)],
            "since": [START] * 50,
        }
    )
    ws = create_workspace(tmp_path / "ws", clock=ManualClock(START + DAY), actor="user:test")
    data.ingest(ws, tmp_path, spec, frames={"data": shop})
    wish = TrainingSpec(recipe="t.py:f", split={"by": "random", "test": 0.2})
    given = {"framing": framing, "features": features.FeaturesSpec(spine="data"), "tables": spec}
    made, frame = cut(ws, tmp_path, training=wish, **given)
    assert made.features == ("age", "city") and made.categorical == ("city",)
    assert (made.train_rows, made.test_rows) == (40, 10)
    later = replace(ws, clock=ManualClock(START + 9 * DAY))
    assert cut(ws, tmp_path, training=wish, **given)[0] == cut(later, tmp_path, training=wish, **given)[0] == made
    assert frame.filter(pl.col("split") == "test")["id"].to_list() != list(range(10))
    with pytest.raises(Invalid, match="at random"):
        cut(ws, tmp_path, training=TRAINING, **given)


def test_a_decision_time_alone_makes_the_split_follow_time(tmp_path):
    spec = {"data": TableSpec(source="c.csv", event_time="seen", known_at="seen")}
    framing = FramingSpec(label="gone", unit="id", decision_time="seen")
    seen = [START + n * timedelta(hours=1) for n in range(50)]
    shop = pl.DataFrame({"id": range(50), "age": range(50), "gone": [n % 3 == 0 for n in range(50)], "seen": seen})
    ws = create_workspace(tmp_path / "ws", clock=ManualClock(START + 10 * DAY), actor="user:test")
    data.ingest(ws, tmp_path, spec, frames={"data": shop})
    wish = TrainingSpec(recipe="t.py:f", split={"test": 0.2})
    given = {"framing": framing, "features": features.FeaturesSpec(spine="data"), "tables": spec}
    made, frame = cut(ws, tmp_path, training=wish, **given)
    assert frame.filter(pl.col("split") == "test")["id"].to_list() == list(range(40, 50)) and made.features == ("age",)


def test_a_decision_time_is_a_column_and_a_shift():
    assert due("starts - 2h") == ("starts", timedelta(hours=-2)) and due("starts") == ("starts", timedelta(0))
    with pytest.raises(Invalid, match="2 hours"):
        due("starts - 2 hours")
    with pytest.raises(Invalid, match="zone"):
        decision_times(FRAMING, pl.DataFrame({"starts": [datetime(2026, 1, 1)]}))  # noqa: DTZ001


def test_of_a_plan_that_changed_the_version_known_when_the_prediction_was_due_counts():
    spec = TableSpec(source="p.csv", event_time="starts", known_at="told", key=("job",))
    told = [START - DAY, START - timedelta(hours=3), START - timedelta(hours=1), START + DAY]
    spine = pl.DataFrame({"job": ["1", "1", "1", "2"], "size": [1, 2, 3, 4], "told": told, "starts": [START] * 4})
    spine = spine.with_columns(decision_time=pl.col("starts") - timedelta(hours=2))
    assert planned(spine, spec, "job").select("job", "size").rows() == [("1", 2), ("2", 4)]


def test_how_sure_a_label_is_stands_beside_it_and_is_no_feature(tmp_path):
    spec = {"data": TableSpec(source="c.csv")}
    framing = FramingSpec(label={"value": "gone", "confidence": "sure"}, unit="id")
    sure = [None if n % 5 == 0 else n / 50 for n in range(50)]
    shop = pl.DataFrame({"id": range(50), "age": range(50), "gone": [n % 3 == 0 for n in range(50)], "sure": sure})
    ws = create_workspace(tmp_path / "ws", clock=ManualClock(START + DAY), actor="user:test")
    data.ingest(ws, tmp_path, spec, frames={"data": shop})
    wish = TrainingSpec(recipe="t.py:f", split={"by": "random", "test": 0.2})
    given = {"framing": framing, "features": features.FeaturesSpec(spine="data"), "tables": spec}
    made, frame = cut(ws, tmp_path, training=wish, **given)
    assert made.features == ("age",)
    told = dict(frame.select("id", "label_confidence").rows())
    assert told == {n: 1.0 if one is None else one for n, one in enumerate(sure)}
