"""Lines of JSON are read as the standard library reads them, and refused where it refuses them."""

import io
import json

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.base.errors import Invalid
from loopline.data.sources import files
from loopline.data.sources.frames import json_lines
from loopline.data.sources.json_types import mixed_columns, rows_frame

numbers = st.integers(-(2**70), 2**70).map(str) | st.from_regex(
    r"-?(0|[1-9][0-9]{0,22})(\.[0-9]{1,20})?(e-?[0-9]{1,3})?"
)
odd = st.sampled_from(["-0", "NaN", "-Infinity", "01", "1.", '"\\ud800"', '"a\tb"', '"\\u0000"', "null", "true", "{}"])
texts = st.text(max_size=3).map(json.dumps)
lines = st.tuples(
    st.sampled_from(["", " ", "\ufeff"]),
    st.lists(st.tuples(texts, numbers | odd | texts), max_size=3),
    st.sampled_from(["\n", "\r\n", "", " x"]),
).map(lambda parts: f"{parts[0]}{{{', '.join(f'{a}: {b}' for a, b in parts[1])}}}{parts[2]}".encode())


def outcome(read, line: bytes) -> str:
    try:
        return repr(read(line))
    except ValueError as error:
        return f"{type(error).__name__}: {error}"


@settings(max_examples=150, deadline=None)
@given(lines)
def test_a_line_is_what_the_standard_library_says_it_is(line: bytes) -> None:
    assert outcome(files._parsed, line) == outcome(
        lambda given: json.loads(given, parse_constant=files._no_number), line
    )


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([1, None], pl.Int64),
        ([1, 2.5], pl.Float64),
        ([2**62, 0.5], pl.Float64),
        (["a"], pl.String),
        ([True], pl.Boolean),
    ],
)
def test_beside_a_column_of_several_types_the_others_keep_the_type_of_their_values(values, dtype) -> None:
    rows = [{"odd": "x" if n else 1, "v": value} for n, value in enumerate([*values, None])]
    assert mixed_columns(rows) == {"odd"}
    frame = rows_frame(rows)
    assert frame["v"].equals(pl.from_dicts([{"v": row["v"]} for row in rows], infer_schema_length=None)["v"])
    assert frame["v"].dtype == dtype and frame["odd"].dtype == pl.String


@pytest.mark.parametrize("line", ['{"a": 1, "b": 2, "a": 3}', '{"a": 1, "\\u0061": 3}'])
def test_a_name_that_stands_twice_in_an_object_is_refused_with_its_line(tmp_path, line):
    (tmp_path / "t.jsonl").write_text('{"a": 4, "b": {"a": 5}}\n' + line + "\n")
    with pytest.raises(Invalid, match="stands there 2 times"):
        list(json_lines(io.BytesIO(line.encode()), "standard input", 5))
    for read in (files.read, lambda *given: list(files.batches(*given, 1))):
        with pytest.raises(Invalid, match=r"line 2, .* stands there 2 times, with the values \[1, 3\]"):
            read(tmp_path / "t.jsonl", "t.jsonl", "JSON lines")
