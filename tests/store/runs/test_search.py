"""Search finds what comparing every run with the filter finds, in the same order, page by page."""

import base64
import json
import math
import string
import tempfile
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.store.runs.slow import SlowRun, found, like

from loopline.base.errors import Invalid
from loopline.store.runs import tokens
from loopline.store.runs.filters import And, Compare, Or, Term, parse, parse_order
from loopline.store.runs.matching import like as matches
from loopline.store.runs.protocol import Dataset, Point
from loopline.store.runs.sqlite import SqliteRuns

KEYS = st.sampled_from(["a", "b", "a b", "ä.x/y"])
NUMBERS = st.sampled_from([-1e308, -1.5, 0, 0.5, 1, 3, 1e300])
VALUES = st.one_of(NUMBERS, st.sampled_from([math.nan, math.inf, -math.inf]))
SUMMED = VALUES.map(lambda value: value if math.isinf(value) or abs(value) < 1e300 else value / 1e10)
"""A dozen of these can be added up."""
TEXTS = st.sampled_from(["", "x", "X", "xy", "1", "0.5", "1e3", " 3 ", "nan", "it's", 'say "x"', "%", "_", "ab" * 40])
PATTERNS = st.text(alphabet="xX%_a'", max_size=5)
STATUS = st.sampled_from(["RUNNING", "FINISHED", "FAILED"])
IDS = st.sampled_from([f"run{n}" for n in range(8)])


def quoted(value):
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(value)


def key(name):
    return name if all(letter in string.ascii_letters for letter in name) else f"`{name}`"


def written(tree):
    """A tree as the text that says it."""
    if isinstance(tree, Compare):
        name = key(tree.key) if tree.kind != "attribute" else tree.key
        head = name if tree.kind == "attribute" else f"{tree.kind}s.{name}"
        if tree.value is None:
            return f"{head} {tree.op}"
        if isinstance(tree.value, tuple):
            return f"{head} {tree.op} ({', '.join(map(quoted, tree.value))})"
        return f"{head} {tree.op} {quoted(tree.value)}"
    word = " AND " if isinstance(tree, And) else " or "
    return "(" + word.join(written(part) for part in tree.parts) + ")"


def comparing(kind, keys, numbers, texts):
    """Comparisons of a kind: with numbers, with texts, or with both."""
    options = [st.builds(Compare, st.just(kind), keys, st.sampled_from(["IS NULL", "IS NOT NULL"]))]
    for values, ops in ((numbers, []), (texts, ["LIKE", "ILIKE"])):
        if values is None:
            continue
        six = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])
        options.append(st.builds(Compare, st.just(kind), keys, six, values))
        many = st.lists(values, min_size=1, max_size=3).map(tuple)
        options.append(st.builds(Compare, st.just(kind), keys, st.sampled_from(["IN", "NOT IN"]), many))
        if ops:
            options.append(st.builds(Compare, st.just(kind), keys, st.sampled_from(ops), PATTERNS))
    return st.one_of(options)


LEAVES = st.one_of(
    comparing("metric", KEYS, NUMBERS, None),
    comparing("param", KEYS, NUMBERS, TEXTS),
    comparing("tag", KEYS, None, TEXTS),
    comparing("dataset", st.sampled_from(["name", "digest", "context"]), None, TEXTS).filter(
        lambda leaf: leaf.value is not None
    ),
    comparing("attribute", st.sampled_from(["start_time", "end_time"]), st.integers(0, 5), None),
    comparing("attribute", st.just("run_id"), None, IDS),
    comparing("attribute", st.just("run_name"), None, TEXTS),
    comparing("attribute", st.just("status"), None, STATUS),
)
TREES = st.recursive(
    LEAVES,
    lambda parts: st.builds(
        lambda kind, inside: kind(tuple(inside)), st.sampled_from([And, Or]), st.lists(parts, min_size=2, max_size=3)
    ),
    max_leaves=5,
)
TERMS = st.one_of(
    st.builds(Term, st.just("metric"), KEYS, st.booleans()),
    st.builds(Term, st.just("param"), KEYS, st.booleans(), st.booleans()),
    st.builds(Term, st.just("tag"), KEYS, st.booleans()),
    st.builds(
        Term,
        st.just("attribute"),
        st.sampled_from(["start_time", "end_time", "run_name", "run_id", "status"]),
        st.booleans(),
    ),
)
RUNS = st.lists(
    st.fixed_dictionaries(
        {
            "experiment": st.sampled_from(["0", "1"]),
            "start": st.integers(0, 5),
            "end": st.none() | st.integers(0, 5),
            "name": TEXTS,
            "status": STATUS,
            "metrics": st.lists(st.tuples(KEYS, VALUES, st.integers(0, 2), st.integers(-2, 2)), max_size=4),
            "params": st.dictionaries(KEYS, TEXTS, max_size=3),
            "tags": st.dictionaries(KEYS, TEXTS, max_size=3),
            "datasets": st.lists(st.tuples(TEXTS, TEXTS, TEXTS).filter(lambda row: row[0] and row[1]), max_size=2),
        }
    ),
    max_size=8,
)


def text_of(term):
    head = key(term.key) if term.kind != "attribute" else term.key
    head = head if term.kind == "attribute" else f"{term.kind}s.{head}"
    return f"{head}{' as number' if term.as_number else ''}{' DESC' if term.descending else ''}"


def fill(log, specs):
    """The runs of a world, in the log and in dictionaries."""
    log.create_experiment("other", at_ms=1)
    runs = []
    for n, spec in enumerate(specs):
        run = SlowRun(
            f"run{n}", spec["experiment"], spec["start"], spec["name"], status=spec["status"], end=spec["end"]
        )
        log.create_run(run.experiment, start_ms=run.start, name=run.name, id=run.id)
        for point in spec["metrics"]:
            run.log(*point)
        run.params, run.tags = spec["params"], spec["tags"]
        log.log(run.id, metrics=[Point(*point) for point in spec["metrics"]], params=run.params, tags=run.tags)
        for name, digest, context in spec["datasets"]:
            run.datasets[name, digest] = (name, digest, context)
            log.log_uses(
                run.id, datasets=[Dataset(name, digest, "local", "here", tags={"mlflow.data.context": context})]
            )
        log.change_run(run.id, status=run.status, end_ms=run.end)
        runs.append(run)
    return runs


def ids(page):
    return [json.loads(document)["info"]["run_id"] for document in page.items]


def pages(log, experiments, **asked):
    """All ids, page by page."""
    all_of_them, token = [], None
    while True:
        page = log.search_runs(experiments, token=token, **asked)
        all_of_them += ids(page)
        token = page.token
        if token is None:
            return all_of_them


@settings(max_examples=60, deadline=None)
@given(RUNS, st.lists(st.tuples(TREES | st.none(), st.lists(TERMS, max_size=2)), min_size=1, max_size=8), st.data())
def test_search_finds_what_comparing_every_run_finds(specs, questions, data):
    with tempfile.TemporaryDirectory() as folder:
        log = SqliteRuns(Path(folder) / "runs.db")
        runs = fill(log, specs)
        for tree, terms in questions:
            limit = data.draw(st.integers(1, 4))
            experiments = data.draw(st.sampled_from([["0"], ["1"], ["0", "1"], []]))
            expected = found([run for run in runs if run.experiment in experiments], tree, terms)
            few = data.draw(st.sampled_from([0, 50]))  # either way through the indexes
            asked = {"filter": "" if tree is None else written(tree), "order_by": [text_of(term) for term in terms]}
            with patch("loopline.store.runs.search._FEW", few):
                assert pages(log, experiments, limit=limit, **asked) == expected, asked
            assert log.count_runs(experiments, filter=asked["filter"]) == len(expected)
        log.close()


@given(TREES)
def test_what_is_written_is_read_as_it_was_meant(tree):
    assert parse(written(tree)) == tree


@given(TERMS)
def test_a_term_of_an_order_is_read_as_it_was_meant(term):
    assert parse_order(text_of(term)) == term


@given(st.text(alphabet="aAbß_%.\n", max_size=8), st.text(alphabet="aAb_%.\n", max_size=6), st.booleans())
def test_like_means_what_the_textbook_says(text, pattern, any_case):
    assert matches(text, pattern, any_case) == like(text, pattern, any_case)


def test_many_wildcards_take_no_time():
    assert not matches("a" * 100_000, "%a" * 300 + "b", 0)


@pytest.fixture
def log(tmp_path):
    log = SqliteRuns(tmp_path / "runs.db")
    yield log
    log.close()


ORDERS = [[], ["metrics.m"], ["metrics.m DESC"], ["params.p"], ["params.p AS NUMBER DESC"], ["start_time ASC"]]


@pytest.mark.parametrize("order_by", ORDERS, ids=str)
def test_pages_cover_what_was_there_once_while_runs_come_and_go(log, order_by):
    for n in range(300):
        run = log.create_run("0", start_ms=n % 17, id=f"run{n}")
        if n % 3:
            value = math.nan if n % 5 == 0 else n % 11
            log.log(run.id, metrics=[Point("m", value, 0, 0)], params={"p": str(n % 13)})
    seen, token, n = [], None, 300
    while True:
        page = log.search_runs(["0"], order_by=order_by, limit=23, token=token)
        seen += ids(page)
        for _ in range(7):
            new = log.create_run("0", start_ms=n % 19, id=f"run{n}")
            log.log(new.id, metrics=[Point("m", n % 12, 0, 0)], params={"p": str(n % 14)})
            n += 1
        log.change_run(seen[-1], stage="deleted", at_ms=1)
        token = page.token
        if token is None:
            break
    assert len(set(seen)) == len(seen)
    assert {f"run{n}" for n in range(300)} <= set(seen)


@pytest.mark.parametrize("order_by", ORDERS, ids=str)
def test_both_ways_through_the_indexes_find_the_same(log, order_by, monkeypatch):
    for n in range(400):
        run = log.create_run("0", start_ms=n % 17, id=f"run{n}")
        log.log(run.id, metrics=[Point("m", n % 7, 0, 0), Point("x", n, 0, 0)], params={"p": str(n % 13)})
    question = {"filter": "metrics.x >= 100 AND params.p = '5'", "order_by": order_by, "limit": 9}
    selected = pages(log, ["0"], **question)
    monkeypatch.setattr("loopline.store.runs.search._rarest", lambda *_: (None, 10**9))
    assert pages(log, ["0"], **question) == selected
    assert len(selected) == len([n for n in range(100, 400) if n % 13 == 5])


def nested(levels):
    """AND within OR within AND, so many levels high."""
    text = "metrics.a = 1"
    for level in range(levels):
        text = f"metrics.a >= 0 {'AND' if level % 2 else 'OR'} ({text})"
    return text


def test_the_deepest_and_the_widest_filter_there_may_be_is_answered(log):
    run = log.create_run("0", start_ms=1).id
    log.log(run, metrics=[Point("a", 1, 1, 1)], params={"p": "x" * 1_000})
    many = ", ".join(quoted(str(n)) for n in range(9_999))
    texts = [
        nested(20),
        " OR ".join(["metrics.a = 2"] * 299 + ["metrics.a = 1"]),
        "(" * 50 + "metrics.a = 1" + ")" * 50,
        "params.p LIKE '" + "_" * 1_000 + "'",
        f"run_id IN ({many}, '{run}')",
    ]
    for text in texts:
        assert ids(log.search_runs(["0"], filter=text, order_by=["metrics.a"] * 20)) == [run]


@pytest.mark.parametrize(
    "text",
    [
        "metrics.a",
        "metrics.a =",
        "metrics. = 1",
        "= 1",
        "metrics.a = 1 AND",
        "metrics.a = 1 metrics.b = 2",
        "metrics.a = 1; DROP TABLE runs",
        "metrics.a = 1 -- away",
        "metrics.a = 'x'",
        "metrics.a = nan",
        "metrics.a LIKE 'x'",
        "metrics.a LIKE 1",
        "metrics.a IN ()",
        "metrics.a IN (1, 'x')",
        "params.a IS 1",
        "tags.a = 1",
        "params.a = `x`",
        "(metrics.a = 1",
        "metrics.a = 1)",
        "nothing = 1",
        "start_time = 'x'",
        "run_id = 1",
        "datasets.size = 'x'",
        "things.a = 1",
        "metrics.`a = 1",
        "metrics.a = 1 OR OR metrics.b = 1",
        "metrics.a = 1 NOT metrics.b = 1",
        "params.a = 'x",
        "(" * 60 + "metrics.a = 1" + ")" * 60,
        " AND ".join(["metrics.a = 1"] * 400),
        nested(21),
        "params.a LIKE '" + "_" * 1_001 + "'",
        "x" * 200_000,
        "params.a = '\ud800'",
    ],
)
def test_a_filter_that_cannot_be_is_refused_even_where_nothing_could_fit(log, text):
    with pytest.raises(Invalid):
        log.search_runs(["0"], filter=text)
    with pytest.raises(Invalid):
        log.count_runs(["0"], filter=text)


@pytest.mark.parametrize("value", ["' OR 1=1 --", "'; DROP TABLE runs; --", "x') OR ('1'='1", "?1", "%s", "\x00"])
def test_a_text_that_tries_to_inject_is_only_a_text(log, value):
    name = value.replace("\x00", "zero")
    good, bad = log.create_run("0", start_ms=1, id="good"), log.create_run("0", start_ms=2, id="bad")
    log.log(good.id, params={"p": "plain"}, tags={"t": "plain"})
    log.log(bad.id, params={"p": value, name: "x"}, tags={"t": value})
    for filter in (f"params.p = {quoted(value)}", f"tags.t IN ({quoted(value)})", f"params.`{name}` = 'x'"):
        assert ids(log.search_runs(["0"], filter=filter)) == ["bad"]
    assert ids(log.search_runs(["0"], order_by=[f"params.`{value}`"])) == ["bad", "good"]


def test_a_token_counts_only_for_its_question(log):
    for n in range(5):
        log.create_run("0", start_ms=n)
    token = log.search_runs(["0"], limit=2).token
    assert len(log.search_runs(["0"], limit=3, token=token).items) == 3
    for asked in ({"filter": "start_time > 0"}, {"order_by": ["run_name"]}, {"view": "all"}):
        with pytest.raises(Invalid, match="page token"):
            log.search_runs(["0"], limit=2, token=token, **asked)


@given(st.text(max_size=60) | st.binary(max_size=40).map(lambda raw: base64.b64encode(raw).decode()))
def test_a_token_from_elsewhere_is_refused(token):
    with pytest.raises(Invalid):
        tokens.read(token, "question", [float, str])


def test_a_token_with_other_types_is_refused():
    for place in (["x", "y"], [1, 2], [True, "y"], [None, "y"], [1], [1, "y", 2], [2**70, "y"], [1, "\ud800"]):
        with pytest.raises(Invalid):
            tokens.read(tokens.write("q", place), "q", [float, str])
    assert tokens.read(tokens.write("q", [math.inf, "ü"]), "q", [float, str]) == [math.inf, "ü"]


@pytest.mark.parametrize("value", [math.inf, math.nan, 1e300, -5, 7, 2**63 - 1, "x", None])
def test_a_forged_place_is_refused_or_leads_to_a_page(log, value):
    run = log.create_run("0", start_ms=1).id
    log.log(run, metrics=[Point("m", 1.0, 1, 1)])
    asked = tokens.question("history", run, "m")
    question = tokens.question("run", [str((0, "active"))], "", [str(parse_order("metrics.m"))], ())
    calls = [lambda: log.history(run, "m", token=tokens.write(asked, [value]))]
    for place in ([value, 1.0, 1, "x"], [0, value, 1, "x"], [0, 1.0, value, "x"], [0, 1.0, 1, value]):
        token = tokens.write(question, place)
        calls.append(lambda token=token: log.search_runs(["0"], order_by=["metrics.m"], token=token))
    for call in calls:
        try:
            call()
        except Invalid as error:
            assert "question" not in str(error)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("metrics.m != 1", ["nan", "two"]),
        ("metrics.m NOT IN (1, 2)", ["nan"]),
        ("metrics.m < 9e99", ["one", "two"]),
        ("metrics.m IS NOT NULL", ["nan", "one", "two"]),
        ("metrics.m IS NULL", ["none"]),
        ("params.p != 1", ["nan", "two"]),
        ("params.p NOT IN (1)", ["nan", "two"]),
        ("params.p = 1", ["one"]),
        ("params.p = '1'", []),
        ("params.p = '1.0'", ["one"]),
        ("params.p != '1.0'", ["nan", "two"]),
        ("params.p < '1'", ["two"]),
        ("params.p IN (1, 2.5)", ["one", "two"]),
        ("end_time IS NULL OR end_time != 5", ["nan", "none", "one", "two"]),
        ("end_time != 5", []),
        ("attributes.run_id LIKE 'n%' AND `run_name` = ''", ["nan", "none"]),
        ("datasets.name IS NULL", ["nan", "none", "one"]),
        ("datasets.context IS NOT NULL", ["two"]),
    ],
)
def test_what_the_page_says_of_missing_values_and_of_what_is_no_number(log, text, expected):
    for id, value, param in (("one", 1.0, "1.0"), ("two", 2.0, " 2.5 "), ("nan", math.nan, "nan")):
        log.create_run("0", start_ms=1, id=id)
        log.log(id, metrics=[Point("m", value, 1, 1)], params={"p": param})
    log.create_run("0", start_ms=1, id="none")
    log.log_uses("two", datasets=[Dataset("d", "x", "s", "{}", tags={"mlflow.data.context": "train"})])
    assert ids(log.search_runs(["0"], filter=text)) == expected
    with patch("loopline.store.runs.search._FEW", 0):
        assert (
            ids(log.search_runs(["0"], filter=text, order_by=["metrics.m"], limit=1))
            == [id for id in ("one", "two", "nan", "none") if id in expected][:1]
        )


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from("01"), st.sampled_from([None, "a", "b", "a b'"]), st.lists(SUMMED, min_size=0, max_size=1)
        ),
        max_size=12,
    ),
    st.sampled_from(["params.`a b`", "tags.kind", "status"]),
)
def test_groups_are_what_putting_every_run_beside_its_like_gives(given_runs, by):
    with tempfile.TemporaryDirectory() as folder:
        log = SqliteRuns(Path(folder) / "runs.db")
        log.create_experiment("second", at_ms=1)
        heaps: dict[str | None, list[list[float]]] = {}
        for place, (experiment, shared, values) in enumerate(given_runs):
            run = log.create_run(experiment, start_ms=place).id
            log.log(run, metrics=[Point("m", value, 1, 1) for value in values])
            if shared is not None:
                log.log(run, params={"a b": shared}, tags={"kind": shared})
            heaps.setdefault("RUNNING" if by == "status" else shared, []).append(values)
        groups = log.group_runs(["0", "1"], by=by, metrics=["m", "nothing"])
        assert [group.runs for group in groups] == sorted((len(heap) for heap in heaps.values()), reverse=True)
        assert {group.value: group.runs for group in groups} == {key: len(heap) for key, heap in heaps.items()}
        for group in groups:
            known = [value for values in heaps[group.value] for value in values if not math.isnan(value)]
            assert list(group.metrics) == (["m"] if known else [])
            if known:
                spread = group.metrics["m"]
                assert (spread.n, spread.least, spread.most) == (len(known), min(known), max(known))
                endless = {value for value in known if math.isinf(value)}
                mean = sum(known) / len(known) if not endless else endless.pop() if len(endless) == 1 else math.nan
                assert spread.mean == pytest.approx(mean, nan_ok=True)
        if by == "tags.kind":
            asked = log.group_runs(["0", "1"], by=by, filter="tags.kind = 'a b'''")
            own = [(value, len(heap)) for value, heap in heaps.items() if value == "a b'"]
            assert [(one.value, one.runs) for one in asked] == own
        log.close()


def test_nothing_but_a_text_is_grouped_by(tmp_path):
    log = SqliteRuns(tmp_path / "runs.db")
    for by in ("metrics.auc", "datasets.name", "params.", "a b"):
        with pytest.raises(Invalid):
            log.group_runs(["0"], by=by)
    with pytest.raises(Invalid):
        log.group_runs(["0"], by="params.a", metrics=[f"m{n}" for n in range(21)])
    log.close()
