"""The semantics of every operator, pinned."""

from datetime import UTC, datetime

import polars as pl
import pytest

from loopline.base.errors import Invalid
from loopline.features import col, compute, latest, minutes_between, together, view, when
from loopline.features.expr import literal

WINTER = datetime(2026, 1, 5, 4, 30, tzinfo=UTC)
SUMMER = datetime(2026, 7, 5, 4, 30, tzinfo=UTC)


def value(tree, **columns):
    """The value of an expression on one spine row; a column of None is a number."""
    spine = pl.DataFrame({"unit": ["1"], "decision_time": [WINTER], **{k: [v] for k, v in columns.items()}})
    spine = spine.with_columns(pl.col(pl.Null).cast(pl.Float64))
    return compute(together([view()(lambda: {"x": tree})]), spine, {})["x"][0]


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        (col("a") + 1, 4.0),
        (1 - col("a"), -2.0),
        (col("a") * 2, 6.0),
        (col("a") / 2, 1.5),
        (-col("a"), -3.0),
        (col("a") / 0, None),
        (col("a") / col("zero"), None),
        ((col("a") / col("zero")).fill(7), 7.0),
        (literal(-1).log1p().fill(7), 7.0),
        (col("none") + 1, None),
        (col("nan") + 1, None),
        (col("nan").is_null(), 1.0),
        (col("a") > 2, 1.0),
        (col("a") == 3, 1.0),
        (col("a") != 3, 0.0),
        (col("none") > 2, None),
        ((col("none") > 2) & (col("a") > 5), 0.0),
        ((col("none") > 2) | (col("a") > 2), 1.0),
        ((col("none") > 2) & (col("a") > 2), None),
        (~(col("a") > 2), 0.0),
        (col("none").fill(7), 7.0),
        (when(col("none") > 2, 1, 2), 2.0),
        (when(col("a") > 2, col("a"), 0), 3.0),
        (col("text").cast("float"), 1.5),
        (col("word").cast("float"), None),
        (literal(-2.7).cast("int"), -2.0),
        (col("zero").log1p(), 0.0),
        (literal(-1).log1p(), None),
        (col("big") * col("big"), None),
        (minutes_between(col("winter"), col("later")), 90.0),
        (minutes_between(col("later"), col("winter")), -90.0),
        (col("winter").hour("America/New_York"), 23.0),
        (col("summer").hour("America/New_York"), 0.0),
        (col("winter").minute_of_day("America/New_York"), 1410.0),
        (col("winter").weekday("UTC"), 1.0),
        (col("winter").weekday("America/New_York"), 7.0),
        (col("summer").month("UTC"), 7.0),
        (col("winter").day_of_year("America/New_York"), 4.0),
        (col("word").category(), "w"),
        (col("a").category(), "3"),
    ],
)
def test_an_operator_means_what_its_page_says(tree, expected):
    columns = {
        "a": 3,
        "zero": 0,
        "none": None,
        "nan": float("nan"),
        "text": "1.5",
        "word": "w",
        "big": 1e300,
        "winter": WINTER,
        "summer": SUMMER,
        "later": WINTER.replace(hour=6, minute=0),
    }
    found = value(tree, **columns)
    assert found == (pytest.approx(expected) if isinstance(expected, float) else expected)


def test_an_expression_refuses_to_be_true_or_false():
    with pytest.raises(Invalid, match=r"write &, \| and ~"):
        bool(col("a") > 1 and col("b") > 1)


def test_a_lookup_cannot_stand_inside_a_lookup():
    with pytest.raises(Invalid, match="inside another"):
        latest(latest("v"))


def test_an_unknown_zone_is_refused_where_it_is_written():
    with pytest.raises(Invalid, match="Mars"):
        col("t").hour("Mars/Olympus")


def test_equal_trees_have_equal_documents():
    assert (col("a") + 1).doc() == (col("a") + 1).doc() != (col("a") + 2).doc()


def test_a_number_that_fills_a_page_is_refused_in_one_line():
    for number in (10**400, -(10**5000)):
        with pytest.raises(Invalid) as caught:
            col("a") + number
        assert "a whole number of" in caught.value.what and len(caught.value.what) < 80


def test_a_column_of_another_kind_is_named_as_it_is():
    with pytest.raises(Invalid, match=r'col\("alpha"\): a text stands where a number is due'):
        value(col("alpha") + 1, alpha="text")
