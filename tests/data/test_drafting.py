"""A drafted contract is kept by the data it was drafted from."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.base.ids import canonical
from loopline.data import Contract, draft, profile
from loopline.data.contracts.odcs import read_yaml

EPOCH = datetime(1990, 1, 1, tzinfo=UTC)
values = {
    pl.Int64: st.integers(-(2**63), 2**63 - 1),
    pl.Float64: st.floats(),
    pl.String: st.sampled_from(["a", "b", "é", "x: y", "NO", "1"]),
    pl.Boolean: st.booleans(),
    pl.Datetime("us", "UTC"): st.integers(0, 2**40).map(lambda s: EPOCH + timedelta(milliseconds=s)),
    pl.Date: st.dates(),
}


@st.composite
def frames(draw):
    height = draw(st.integers(0, 45))
    series = [
        pl.Series(f"c{i}", draw(st.lists(st.one_of(st.none(), of), min_size=height, max_size=height)), dtype=dtype)
        for i, (dtype, of) in enumerate(values.items())
    ]
    return pl.DataFrame(series)


@settings(max_examples=30, deadline=None)
@given(frames())
def test_data_keeps_the_contract_drafted_from_it(frame):
    drafted = draft(frame, "t")
    assert drafted.check(frame).violations == ()
    again = Contract.from_doc(read_yaml(drafted.to_yaml(), "t.yaml"))
    assert again.id == drafted.id


@settings(max_examples=30, deadline=None)
@given(frames())
def test_a_profile_counts_what_is_there_and_is_plain_json(frame):
    found = profile(frame)
    canonical(
        {
            **found,
            "columns": {
                k: {**v, "min": str(v.get("min")), "max": str(v.get("max"))} for k, v in found["columns"].items()
            },
        }
    )
    for name, column in found["columns"].items():
        present = [v for v in frame[name] if v is not None and v == v]
        assert column["nulls"] == frame.height - len(present)
        assert column["distinct"] == len(set(present))
        if column.get("histogram"):
            assert sum(column["histogram"]["counts"]) == sum(math.isfinite(v) for v in present)
