"""Contracts: 1 M rows x 20 columns under 33 value rules, and one request row of 20 fields.

Beside one hand-written Polars query that counts the same (the counts are compared),
Great Expectations where it is importable or LOOPLINE_BENCH_GX names a Python that
has it, and pydantic for the row. CPU seconds of the whole process, best of a few.
"""

from __future__ import annotations

import os
import re
import string
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import polars as pl
import pydantic
from measure import cpu_seconds, line

from loopline.data.contracts.contract import Contract

ROWS = 1_000_000
FLOATS, INTS, CATEGORIES, CODES, TIMES = 8, 4, 4, 2, 1
LEVELS = [f"level-{i}" for i in range(12)]
PATTERN = "[A-Z]{2}[0-9]{4}"


def table(rows: int, *, dirty: bool) -> pl.DataFrame:
    """A seeded table; some 3 % of its rows break a rule when `dirty`."""
    rng = np.random.default_rng(11)
    bad = (lambda share: rng.random(rows) < share) if dirty else (lambda share: np.zeros(rows, dtype=bool))
    columns: dict[str, pl.Series] = {"id": pl.Series(np.where(bad(0.001), 5, np.arange(rows)))}
    for i in range(FLOATS):
        values = np.where(bad(0.002), 500.0, rng.uniform(0, 100, rows))
        columns[f"f{i}"] = pl.Series(np.where(rng.random(rows) < 0.002, np.nan, values))
    for i in range(INTS):
        columns[f"i{i}"] = pl.Series(np.where(bad(0.002), -1, rng.integers(0, 1000, rows)))
    for i in range(CATEGORIES):
        text = pl.Series([*LEVELS, "elsewhere"]).gather(np.where(bad(0.001), 12, rng.integers(0, 12, rows)))
        columns[f"c{i}"] = text
    letters = np.array(list(string.ascii_uppercase))
    for i in range(CODES):
        pool = ["".join(rng.choice(letters, 2)) + f"{n:04d}" for n in rng.integers(0, 9999, 5000)] + ["x1"]
        columns[f"s{i}"] = pl.Series(pool).gather(np.where(bad(0.001), 5000, rng.integers(0, 5000, rows)))
    moments = pl.Series(1_700_000_000_000_000 + rng.integers(0, 10**13, rows)).cast(pl.Datetime("us", "UTC"))
    columns["t0"] = moments
    return pl.DataFrame(columns)


def contract() -> Contract:
    """33 value rules (16 bounds of floats, 8 of integers, 4 lists, 2 patterns, 1 key, 2 required) and 20 types."""
    props: list[dict[str, Any]] = [{"name": "id", "logicalType": "integer", "required": True, "unique": True}]
    for i in range(FLOATS):
        props.append({"name": f"f{i}", "logicalType": "number", "logicalTypeOptions": {"minimum": 0, "maximum": 100}})
    for i in range(INTS):
        props.append({"name": f"i{i}", "logicalType": "integer", "logicalTypeOptions": {"minimum": 0, "maximum": 999}})
    for i in range(CATEGORIES):
        quality = [{"metric": "invalidValues", "arguments": {"validValues": LEVELS}, "mustBe": 0}]
        props.append({"name": f"c{i}", "logicalType": "string", "quality": quality})
    for i in range(CODES):
        props.append({"name": f"s{i}", "logicalType": "string", "logicalTypeOptions": {"pattern": PATTERN}})
    props.append({"name": "t0", "logicalType": "timestamp", "required": True})
    doc = {"apiVersion": "v3.1.0", "kind": "DataContract", "schema": [{"name": "t", "properties": props}]}
    made = Contract.from_doc(doc)
    values = [r for r in made.rules if r.kind != "logicalType"]
    assert len(values) == 33, len(values)
    return made


def by_hand() -> list[pl.Expr]:
    """What a careful reader of the same rules would write, in the order of the contract."""
    found = [pl.col("id").null_count().alias("id.required")]
    found.append((pl.len() - pl.col("id").n_unique()).alias("id.unique"))
    for i in range(FLOATS):
        x = pl.col(f"f{i}").fill_nan(None)
        found += [(x < 0).sum().alias(f"f{i}.minimum"), (x > 100).sum().alias(f"f{i}.maximum")]
    for i in range(INTS):
        x = pl.col(f"i{i}")
        found += [(x < 0).sum().alias(f"i{i}.minimum"), (x > 999).sum().alias(f"i{i}.maximum")]
    found += [(~pl.col(f"c{i}").is_in(LEVELS)).sum().alias(f"c{i}.validValues") for i in range(CATEGORIES)]
    found += [(~pl.col(f"s{i}").str.contains(f"^(?:{PATTERN})$")).sum().alias(f"s{i}.pattern") for i in range(CODES)]
    return [*found, pl.col("t0").null_count().alias("t0.required")]


def alternating(ours: Callable[[], object], theirs: Callable[[], object], repeats: int = 7) -> tuple[float, float]:
    """Best of each, one after the other, so that a busy machine slows both."""
    pairs = [(cpu_seconds(ours, 1), cpu_seconds(theirs, 1)) for _ in range(repeats)]
    return min(p[0] for p in pairs), min(p[1] for p in pairs)


def row_model() -> type[pydantic.BaseModel]:
    """The same row rules in pydantic (strict), which stops at no error either."""
    fields: dict[str, Any] = {"id": (int, ...), "t0": (Any, ...)}
    number = Annotated[float, pydantic.Field(ge=0, le=100, strict=True)]
    whole = Annotated[int, pydantic.Field(ge=0, le=999, strict=True)]
    fields |= {f"f{i}": (number | None, None) for i in range(FLOATS)}
    fields |= {f"i{i}": (whole | None, None) for i in range(INTS)}
    fields |= {f"c{i}": (Literal[tuple(LEVELS)] | None, None) for i in range(CATEGORIES)}
    code = Annotated[str, pydantic.Field(pattern=f"^{PATTERN}$", strict=True)]
    fields |= {f"s{i}": (code | None, None) for i in range(CODES)}
    made: type[pydantic.BaseModel] = pydantic.create_model("Row", **fields)
    return made


def micros(call: Callable[[Any], object], rows: list[Any]) -> float:
    """CPU microseconds a row, best of a few."""
    return cpu_seconds(lambda: [call(row) for row in rows], 15) / len(rows) * 1e6


GX = r"""
import sys, time, pandas as pd, great_expectations as gx
frame = pd.read_parquet(sys.argv[1])
context = gx.get_context(mode="ephemeral")
context.variables.progress_bars = {"globally": False}
batch = context.data_sources.add_pandas("p").add_dataframe_asset("t").add_batch_definition_whole_dataframe("b")
E, suite = gx.expectations, gx.ExpectationSuite(name="s")
levels, pattern = sys.argv[2].split(","), sys.argv[3]
for name in frame.columns:
    if name in ("id", "t0"): suite.add_expectation(E.ExpectColumnValuesToNotBeNull(column=name))
    if name == "id": suite.add_expectation(E.ExpectColumnValuesToBeUnique(column=name))
    if name[0] == "f":
        suite.add_expectation(E.ExpectColumnValuesToBeBetween(column=name, min_value=0))
        suite.add_expectation(E.ExpectColumnValuesToBeBetween(column=name, max_value=100))
    if name[0] == "i" and name != "id":
        suite.add_expectation(E.ExpectColumnValuesToBeBetween(column=name, min_value=0))
        suite.add_expectation(E.ExpectColumnValuesToBeBetween(column=name, max_value=999))
    if name[0] == "c": suite.add_expectation(E.ExpectColumnValuesToBeInSet(column=name, value_set=levels))
    if name[0] == "s": suite.add_expectation(E.ExpectColumnValuesToMatchRegex(column=name, regex="^" + pattern + "$"))
suite = context.suites.add(suite)
check = context.validation_definitions.add(gx.ValidationDefinition(name="v", data=batch, suite=suite))
start = time.process_time()
check.run(batch_parameters={"dataframe": frame}, result_format="SUMMARY")
print("seconds", time.process_time() - start, len(suite.expectations))
"""


def great_expectations(frame: pl.DataFrame) -> float | None:
    """CPU seconds of Great Expectations over the same rules; null where it is not installed."""
    python = os.environ.get("LOOPLINE_BENCH_GX", sys.executable)
    if subprocess.run([python, "-c", "import great_expectations"], capture_output=True, check=False).returncode:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.parquet"
        frame.write_parquet(path)
        done = subprocess.run(
            [python, "-c", GX, str(path), ",".join(LEVELS), PATTERN], capture_output=True, text=True, check=False
        )
    found = re.search(r"seconds ([\d.]+) (\d+)", done.stdout)
    if found is None:
        print(done.stderr[-2000:], file=sys.stderr)
        return None
    return float(found[1])


def main() -> None:
    """Every line; Great Expectations only where it can be run."""
    agreed, hand = contract(), by_hand()
    for dirty in (False, True):
        frame = table(ROWS, dirty=dirty)
        name = "dirty" if dirty else "clean"
        ours_found = agreed.counts(frame.lazy())
        hand_found = frame.lazy().select(hand).collect().row(0, named=True)
        assert {k: v for k, v in ours_found.items() if k in hand_found} == hand_found
        ours, theirs = alternating(lambda: agreed.counts(frame.lazy()), lambda: frame.lazy().select(hand).collect())  # noqa: B023
        line(f"contract-1m-x-20-33-rules-{name}", ours, theirs, "cpu_s", 1.2, ok=ours <= 1.2 * theirs)
    split = cpu_seconds(lambda: agreed.check(frame), 7)
    line("contract-quarantine-1m-x-20", split, theirs, "cpu_s", 0.25)
    if (gx := great_expectations(frame)) is not None:
        line("contract-1m-x-20-beside-great-expectations", ours, gx, "cpu_s", 0.05, ok=ours <= gx / 20)
    else:
        print("Great Expectations is not installed: not compared", file=sys.stderr)
    rows = [r for r in table(2000, dirty=False).fill_nan(None).to_dicts() if None not in r.values()][:1000]
    judge, model = agreed.row_rules(), row_model()
    assert not any(judge(row) for row in rows)
    ours_us, theirs_us = micros(judge, rows), micros(model.model_validate, rows)
    line("contract-one-row-20-fields", ours_us, theirs_us, "cpu_us", 3.0)


if __name__ == "__main__":
    main()
