"""Views that read tables travel as documents too."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from loopline.base.errors import Invalid
from loopline.base.ids import canonical
from loopline.base.spec import duration, duration_text
from loopline.features import (
    Views,
    col,
    count,
    distinct,
    last_n,
    latest,
    load_views,
    lookup,
    maximum,
    mean,
    share,
    together,
    view,
)
from loopline.features.program import from_doc, portable, to_doc, written_view


def both() -> Views:
    @view(entity={"shop": "store"}, source="sales", ttl="6h", refresh="1h", freshness="2h", on_stale="default")
    def sold():  # type: ignore[no-untyped-def]
        return {
            "last": latest("amount"),
            "count": count("1d", where=col("amount") > 3),
            "mean": mean(col("amount") * 2, "28d").fill(0),
            "share": share(col("amount") > 1, "1h"),
            "most": maximum("amount", "7d"),
            "kinds": distinct("kind", "7d"),
            "five": last_n("amount", 5, "total"),
        }

    @view(entity="shop", source="shops")
    def where():  # type: ignore[no-untyped-def]
        return {"region": lookup("region").category()}

    @view()
    def own():  # type: ignore[no-untyped-def]
        return {"double": col("amount") * 2}

    return together([sold, where, own])


def test_a_document_of_views_over_tables_gives_the_same_views_back():
    views = both()
    back = from_doc(json.loads(canonical(to_doc(views))))
    assert back.id == views.id and back.names == views.names
    assert [(v.on, v.ttl, v.refresh, v.freshness, v.on_stale) for v in back.views] == [
        (v.on, v.ttl, v.refresh, v.freshness, v.on_stale) for v in views.views
    ]
    assert not portable(views)


def test_what_a_view_says_of_itself_gives_the_same_view_back():
    for one in both().views:
        doc = json.loads(canonical(one.doc()))
        back = written_view(doc, nobody, nobody, name="again")
        assert back.doc() == one.doc()
        assert (back.on, back.ttl, back.refresh, back.freshness, back.on_stale) == (
            one.on, one.ttl, one.refresh, one.freshness, one.on_stale,
        )  # fmt: skip
        for change in ({"later": 1}, {"ttl": "soon"}, {"features": [["a", ["open", "x"]]]}):
            with pytest.raises(Invalid, match="cannot be read"):
                written_view({**doc, **change}, nobody, nobody, name="again")
        del doc["source"]
        with pytest.raises(Invalid, match="cannot be read"):
            written_view(doc, nobody, nobody, name="again")


@pytest.mark.parametrize("length", [timedelta(seconds=1234567), timedelta(days=99, microseconds=1), timedelta(hours=5)])
def test_a_length_of_any_kind_is_written_so_that_it_is_read_back(length):
    assert duration(duration_text(length)) == length


def nobody(doc):  # type: ignore[no-untyped-def]
    raise AssertionError(f"{doc} is not called")


def test_the_views_of_the_example_travel():
    root = Path(__file__).parents[2] / "examples" / "flights"
    views = load_views(root, ("features.py",))
    assert from_doc(json.loads(canonical(to_doc(views)))).id == views.id


@pytest.mark.parametrize(
    "change",
    [
        lambda doc: doc["views"][0][1][0][1].__setitem__(0, "open"),
        lambda doc: doc["views"][0][1][1][1].__setitem__(2, {"us": -5}),
        lambda doc: doc["views"][0][1][1][1].__setitem__(2, "1d"),
        lambda doc: doc["views"][0][2].__setitem__("on_stale", "burn"),
        lambda doc: doc["views"][0][2].__setitem__("refresh", 5),
        lambda doc: doc["views"][0][2].pop("source"),
    ],
)
def test_a_document_that_was_tampered_with_is_refused(change):  # type: ignore[no-untyped-def]
    doc = json.loads(canonical(to_doc(both())))
    change(doc)
    with pytest.raises(Invalid, match="cannot be read"):
        from_doc(doc)
