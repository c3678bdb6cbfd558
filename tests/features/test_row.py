# ruff: noqa: RUF005
"""A row program says of one row what the batch says of many, bit for bit."""

import json
import struct
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from loopline.base.errors import Invalid
from loopline.base.ids import canonical
from loopline.features import col, compute, together, view, when
from loopline.features.expr import Expr, greatest, least, literal, minutes_between, minutes_since
from loopline.features.functions import row_function
from loopline.features.operators import OPERATORS
from loopline.features.program import from_doc, to_doc
from loopline.features.row import compile_row

AT = datetime(2026, 3, 29, 0, 59, 59, 999_999, tzinfo=UTC)
EDGES = [0, -1, 1, 2, 2**24 + 1, 2**53 - 1, 2**53, 2**53 + 1, 2**62 + 1, -(2**63), 2**63 - 1]
FLOATS = [0.0, -0.0, 1.0, 0.1, 2.5, -2.7, 1e-5, 1.5e-7, 5e-324, 1e16, 2.0**53, 2.0**63, 1e19, 1e39, 3.5e38, 1e300]
FLOATS += [-1.0, -1e300, float("nan"), float("inf"), float("-inf"), -0.9999999999999999]
TEXTS = ["", "a", "A", "a\n", " 3", "3", "-3.5", "+1e5", "1_0", "inf", "nan", "٣", "1e400", "9" * 19, "0" * 30 + "7"]
TEXTS += ["ΑΣ", "İ", " \u2003x\x1c\t", "ß", "x\x00y", "🛫", "true"]

whole = st.none() | st.sampled_from(EDGES) | st.integers(-(2**63), 2**63 - 1) | st.integers(-9, 9)
real = st.none() | st.sampled_from(FLOATS) | st.floats() | st.floats(-9, 9).map(lambda x: round(x, 1))
truth = st.none() | st.booleans()
text = st.none() | st.sampled_from(TEXTS) | st.text(st.characters(exclude_categories=("Cs", "Cn")), max_size=6)
moment = st.none() | st.floats(-2.5e9, 4.4e9).map(lambda s: datetime.fromtimestamp(s, UTC)) | st.sampled_from(
    [
        AT,
        AT + timedelta(microseconds=1),
        datetime(2026, 10, 25, 1, 30, tzinfo=ZoneInfo("Europe/Vienna"), fold=1),
        datetime(2026, 3, 8, 2, 30, tzinfo=ZoneInfo("America/New_York")),
        datetime(2026, 3, 8, 2, 30, tzinfo=timezone(timedelta(hours=5, minutes=45))),
        datetime(2099, 12, 31, 23, 59, tzinfo=UTC),
    ]
)  # fmt: skip
COLUMNS = {
    "i": (whole, pl.Int64),
    "j": (whole, pl.Int64),
    "f": (real, pl.Float64),
    "g": (real, pl.Float64),
    "b": (truth, pl.Boolean),
    "c": (truth, pl.Boolean),
    "s": (text, pl.String),
    "t": (text, pl.String),
    "m": (moment, pl.Datetime("us", "UTC")),
    "n": (moment, pl.Datetime("us", "UTC")),
}
i, j, f, g, b, c, s, t, m, n = (col(name) for name in COLUMNS)
ZONES = ("UTC", "Europe/Vienna", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Casablanca")


@row_function(inputs=("s", "i", f / 3, "m"), returns="number")
def weight(word, whole, real, at):
    if word is None or whole is None:
        return None
    return len(word) * whole + (real or 0) + (at.hour if at else 0)


@row_function(inputs=("i", "b"), returns="text")
def worded(whole, truth):
    return f"{whole}{truth}"


PAIRS = [(f, g), (i, f), (i, j), (b, f), (f, literal(3)), (literal(0.1), i), (i, literal(2**53 - 1)), (f + i, j)]
LIKE = [*PAIRS, (s, t), (s, literal("a")), (m, n), (m, literal(AT)), (b, c), (b, literal(True)), (b, i)]


def compared(op):
    return [Expr(op, pair) for pair in LIKE]


TREES = {
    "col": [f, i, b],
    "lit": [literal(3), literal(-0.0), literal(True), literal(None), when(b, literal("x"), None).category()],
    **{op: [Expr(op, pair) for pair in PAIRS] + [Expr(op, (Expr(op, (f, g)), i))] for op in "+-*"},
    "/": [Expr("/", pair) for pair in PAIRS]
    + [f / 49 == 1, (f / 49).floor(), f / g == 1, f / (g * g), (f * f) / g, f / 0, i // j, f / (f - f)],
    "%": [Expr("%", pair) for pair in PAIRS] + [f % 1, f % -0.3, i % 7, (f * g) % 5, f % 0],
    "abs": [abs(f), abs(i), (f * g).abs(), b.abs()],
    "floor": [f.floor(), i.floor(), (f * g).floor()],
    "least": [least(*pair) for pair in PAIRS] + [f.clip(0, 10), i.clip(high=5), least(f * g, i)],
    "greatest": [greatest(*pair) for pair in PAIRS] + [f.clip(low=-1)],
    "log1p": [f.log1p(), i.log1p(), (f * g).log1p()],
    **{op: compared(op) for op in ("<", "<=", ">", ">=", "==", "!=")},
    "and": [b & c, (f > 1) & b, (f > g) & (s == "a")],
    "or": [b | c, (f > 1) | b, (i > 2) | (f < 3)],
    "not": [~b, ~(f > 1)],
    "is_null": [col(name).is_null() for name in COLUMNS] + [(f / g).is_null(), (f * g).is_null(), literal(1).is_null()],
    "is_in": [
        f.is_in([1, 2.5, 0]),
        i.is_in([1, 2**53 - 1]),
        s.is_in(["a", "3"]),
        b.is_in([True]),
        (f * g).is_in([0.0]),
    ],
    "fill": [f.fill(7), i.fill(j), f.fill(i), b.fill(False), b.fill(0), (f / g).fill(i), s.fill(t).category()]
    + [
        i.fill(f).category(),
        i.fill(j).category(),
        m.fill(n).hour("UTC"),
        (f * g).fill(1).fill(2),
        f.fill(None),
        literal(None).fill(i),
    ],
    "when": [when(b, f, g), when(f > 1, i, 2), when(c, s, t).category(), when(b, b, c), when(b, m, n).month("UTC")]
    + [
        when(b, i, f).category(),
        when(b, i, j).category(),
        when(f > g, f - g, None),
        when(b, s, None).category(),
        when(b, c, 0),
        when(b, i, j),
    ],
    "cast": [x.cast("float") for x in (f, i, b, s, t)]
    + [x.cast("int") for x in (f, i, b, s)]
    + [x.cast("text").category() for x in (f, i, b, s)]
    + [(f * g).cast("int"), f.cast("int") == i, s.cast("int").category(), s.cast("float") + 1],
    "category": [x.category() for x in (f, i, b, s, f * g, f > 1, i + 0, s.lower(), i.cast("float"))],
    "lower": [s.lower().category(), s.lower() == t],
    "strip": [s.strip().category(), s.strip().length()],
    "length": [s.length(), s.length().category(), s.length() / t.length()],
    "starts_with": [s.starts_with("a"), s.starts_with(""), s.lower().starts_with("a")],
    "minutes": [minutes_between(m, n), minutes_since(m), minutes_between(m, AT)],
    "local": [
        getattr(m, part)(zone)
        for zone in ZONES
        for part in ("hour", "minute_of_day", "weekday", "month", "day_of_year")
    ]
    + [col("decision_time").hour("Europe/Vienna"), m.hour("UTC") * f],
    "call": [weight, weight * 2, worded.category(), worded.length(), (weight > 1).category()],
}
LEAVES = {"latest", "lookup", "last_n", "count", "total", "mean", "share", "minimum", "maximum", "distinct"}


def viewed(trees):
    return together([view()(lambda: {f"x{k}": tree for k, tree in enumerate(trees)})])


def batch(views, rows):
    rows = [{k: v.astimezone(UTC) if isinstance(v, datetime) else v for k, v in row.items()} for row in rows]
    frame = pl.DataFrame({k: [row[k] for row in rows] for k in COLUMNS}, {k: v[1] for k, v in COLUMNS.items()})
    keys = {"unit": [str(k) for k in range(len(rows))], "decision_time": [AT] * len(rows)}
    return compute(views, pl.DataFrame(keys).hstack(frame), {}).select(views.names).rows()


def bits(value):
    return struct.pack("f", value) if isinstance(value, float) else value


ROWS = st.lists(st.fixed_dictionaries({k: v[0] for k, v in COLUMNS.items()}), min_size=1, max_size=12)
VIEWS = {op: viewed(trees) for op, trees in TREES.items()}
PROGRAMS = {op: compile_row(views) for op, views in VIEWS.items()}


def test_every_operator_is_here():
    assert set(TREES) | LEAVES == set(OPERATORS)


@pytest.mark.parametrize("op", [op for op in TREES if op != "log1p"])
@settings(max_examples=40, deadline=None)
@given(rows=ROWS)
@example(rows=[{**dict.fromkeys(COLUMNS), "f": x, "g": y} for x, y in ((3.1156097335207948e16, 3.0), (49.0, 49.0))])
@example(rows=[{**dict.fromkeys(COLUMNS), "i": 2**53 + 1, "j": 2**53 + 1}])
def test_a_row_says_what_the_batch_says_bit_for_bit(op, rows):
    for row, expected in zip(rows, batch(VIEWS[op], rows), strict=True):
        found = PROGRAMS[op](row, AT)
        for tree, one, other in zip(TREES[op], found, expected, strict=True):
            assert bits(one) == bits(other) and type(one) is type(other), (tree.doc(), row)


@settings(max_examples=60, deadline=None)
@given(rows=ROWS)
@example(rows=[{**dict.fromkeys(COLUMNS), "f": -0.9999999999999999}])
def test_log1p_agrees_within_four_units_in_the_last_place(rows):
    for row, expected in zip(rows, batch(VIEWS["log1p"], rows), strict=True):
        for one, other in zip(PROGRAMS["log1p"](row, AT), expected, strict=True):
            assert (one is None) == (other is None)
            assert one is None or abs(steps(one) - steps(other)) <= 4


def steps(value):
    """The place of a float32 among all of them."""
    place = struct.unpack("i", struct.pack("f", value))[0]
    return place if place >= 0 else -(place & 0x7FFFFFFF)


trees = st.recursive(
    st.sampled_from([f, g, i, j, b.cast("float"), literal(2), literal(0.5), literal(None)]),
    lambda of: (
        st.builds(lambda op, x, y: Expr(op, (x, y)), st.sampled_from("+-*/%"), of, of)
        | st.builds(lambda op, x, y: Expr(op, (x, y)), st.sampled_from(["fill", "least", "greatest"]), of, of)
        | st.builds(lambda op, x, y, z: when(Expr(op, (x, y)), y, z), st.sampled_from(["<", ">=", "=="]), of, of, of)
        | st.builds(lambda x: x.floor(), of)
        | st.builds(lambda x: abs(x), of)
    ),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(made=st.lists(trees, min_size=1, max_size=3), rows=ROWS)
def test_any_tree_of_numbers_says_the_same_in_both(made, rows):
    views = viewed(made)
    program = compile_row(views)
    for row, expected in zip(rows, batch(views, rows), strict=True):
        for tree, one, other in zip(made, program(row, AT), expected, strict=True):
            assert bits(one) == bits(other), (tree.doc(), row)


@pytest.mark.parametrize(
    ("tree", "value", "said"),
    [
        (col("x") + 1, "1", "x is '1', not a number"),
        (col("x").lower().category(), 1, "not a text"),
        (~col("x"), 1, "not a truth"),
        (col("x").hour("UTC"), datetime(2026, 1, 1), "zone"),  # noqa: DTZ001,
        (col("x").hour("UTC"), "noon", "not a moment"),
        (col("x") == col("y"), "1", "one kind"),
        (col("x").category(), [1], "not a number"),
    ],
)
def test_a_value_of_another_kind_is_refused(tree, value, said):
    with pytest.raises(Invalid, match=said):
        compile_row(viewed([tree]))({"x": value, "y": 1}, AT)


@pytest.mark.parametrize(
    "tree",
    [s + 1, ~i, i & j, f.lower(), s, m, s == 1, f.hour("UTC"), when(b, s, 1).category(), when(f, 1, 2), m.category()],
)
def test_what_one_refuses_the_other_refuses_too(tree):
    row = dict.fromkeys(COLUMNS) | {"s": "1", "i": 1, "j": 1, "f": 1.0, "b": True, "m": AT}
    with pytest.raises(Invalid):
        batch(viewed([tree]), [row])
    with pytest.raises(Invalid):
        compile_row(viewed([tree]))(row, AT)


def test_json_is_read_as_columns_are():
    program = compile_row(viewed([col("x").hour("Europe/Vienna"), col("n").category(), col("n") / 2, col("big") * 1]))
    row = {"x": "2026-07-01T22:30:00Z", "n": 3.0, "big": 10**400}
    assert program(row, AT) == (0.0, "3", 1.5, None)
    assert program({"n": 3}, AT) == (None, "3", 1.5, None)


def test_a_row_function_that_raises_or_lies_is_named():
    @row_function(inputs=("i",), returns="number")
    def wrong(value):
        return str(value)

    for run in (
        lambda: compile_row(viewed([wrong]))({"i": 1}, AT),
        lambda: batch(viewed([wrong]), [dict.fromkeys(COLUMNS)]),
    ):
        with pytest.raises(Invalid, match="wrong returned"):
            run()


def test_the_id_of_a_row_function_is_its_text():
    @row_function(inputs=("i",), returns="number")
    def one(value):
        return value

    first = viewed([one]).id

    @row_function(inputs=("i",), returns="number")
    def one(value):
        return value * 2

    assert viewed([one]).id != first


@pytest.mark.parametrize("op", [op for op in TREES if op != "call"])
def test_trees_come_back_from_their_document_as_they_were(op):
    back = from_doc(json.loads(canonical(to_doc(VIEWS[op]))))
    assert back.id == VIEWS[op].id and back.names == VIEWS[op].names
    row = {"i": 3, "j": 2, "f": 0.5, "g": 4.0, "b": True, "c": None, "s": " Ab", "t": "x", "m": AT, "n": None}
    assert compile_row(back)(row, AT) == PROGRAMS[op](row, AT)


@pytest.mark.parametrize(
    "tree",
    [
        ["exec", ["col", "x"]],
        ["+", ["lit", 1]],
        ["local", ["col", "m"], "hour.real", "UTC"],
        ["col"],
        ["lit", [1]],
        "x",
        3,
    ]
    + [
        ["cast", ["col", "x"], "bool"],
        ["local", ["col", "m"], "hour", "../../etc/passwd"],
        ["count", ["lit", 1], {"us": 1}],
    ],
)
def test_a_document_that_holds_anything_else_is_refused(tree):
    with pytest.raises(Invalid):
        from_doc({"format": 1, "id": "", "views": [["v", [["x", tree]]]]})


def test_a_document_whose_trees_were_changed_is_refused():
    doc = to_doc(viewed([f + 1]))
    doc["views"][0][1][0][1][2] = ["lit", 2]
    with pytest.raises(Invalid, match="other expressions"):
        from_doc(doc)
