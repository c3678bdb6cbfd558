"""What a contract says of personal columns holds for requests: before features, the log, and what is shown of it."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopline.base.clock import ManualClock
from loopline.base.ids import canonical
from loopline.data.contracts.contract import Contract
from loopline.data.privacy.row_treatments import _treated, compile_row_treatment
from loopline.data.privacy.treatments import Treatment, token, treated
from loopline.data.spec import TableSpec
from loopline.features.requests import request_doc
from loopline.features.views import load_views
from loopline.governance.predictions import discreet
from loopline.serving.assembled import AssembledInputs
from loopline.store.online.sqlite import SqliteOnline
from loopline.testing.inference import linear_bundle
from loopline.training.bundle import read_bundle
from loopline.training.encoding import Input
from loopline.workspace import create_workspace

FILE = """
from loopline.features import col, view

@view()
def own():
    return {"post": col("mail").category(), "year": col("born").weekday("UTC"), "who": col("card").category(),
            "size": col("size"), "plan": col("plan").category()}
"""
PAGE = """
apiVersion: v3.1.0
kind: DataContract
id: people
version: 1.0.0
status: active
schema:
  - name: people
    properties:
      - name: mail
        logicalType: string
        customProperties: [{property: pii, value: email}, {property: privacy, value: partial},
                           {property: privacyAt, value: ingest}]
      - name: born
        logicalType: timestamp
        customProperties: [{property: pii, value: birth_date}, {property: privacy, value: partial},
                           {property: privacyAt, value: ingest}]
      - name: card
        logicalType: string
        customProperties: [{property: pii, value: credit_card}, {property: privacy, value: pseudonym}]
      - {name: plan, logicalType: string, customProperties: [{property: pii, value: personal}]}
      - {name: size, logicalType: number}
"""
SCHEMA = {"mail": pl.String, "born": pl.Datetime("us", "UTC"), "card": pl.String, "plan": pl.String, "size": pl.Float64}
FIRST, LAST = (datetime(year, 1, 1, tzinfo=UTC).replace(tzinfo=None) for year in (1900, 2100))
CARD = token(b"k" * 32, "credit_card", "4111111111111111")
INPUTS = [
    Input("post", "category", ("***@x.org",), True, 0.1),
    Input("year", "number", (), True, 0.0, 0.0, 7.0),
    Input("who", "category", (CARD,), True, 0.1),
    Input("size", "number", (), True, 0.0, 0.0, 9.0),
    Input("plan", "category", ("gold",), True, 0.1),
]


@pytest.fixture
def doc(tmp_path: Path) -> Any:
    (tmp_path / "views.py").write_text(FILE)
    (tmp_path / "people.yaml").write_text(PAGE)
    spec = TableSpec(source="people.csv", contract="people.yaml")
    made = request_doc(tmp_path, ["views.py"], load_views(tmp_path, ["views.py"]), spec, SCHEMA)
    return json.loads(canonical(made))


values = st.none() | st.text(max_size=20) | st.emails() | st.integers(-(2**60), 2**60) | st.booleans()


@given(st.sampled_from(["mask", "partial", "drop"]), st.sampled_from(["email", "credit_card", "personal"]), values)
def test_a_value_of_a_request_is_treated_as_a_value_of_a_table(how: Any, pii: str, value: Any) -> None:
    treatment = Treatment("x", pii, how, "ingest")
    of_table = treated(pl.DataFrame({"x": [value]}), [treatment], None)["x"][0]
    assert _treated(value, treatment, False) == of_table


@given(st.datetimes(FIRST, LAST), st.integers(-14, 14))
def test_of_a_moment_the_year_is_left(moment: datetime, hours: int) -> None:
    treatment = Treatment("x", "birth_date", "partial", "ingest")
    text = f"{moment.isoformat()}{hours:+03d}:00"
    known = datetime.fromisoformat(text).astimezone(UTC)
    of_table = treated(pl.DataFrame({"x": [known]}), [treatment], None)["x"][0]
    assert datetime.fromisoformat(_treated(text, treatment, True)) == of_table
    day = treated(pl.DataFrame({"x": [moment.date()]}), [treatment], None)["x"][0]
    assert date.fromisoformat(_treated(moment.date().isoformat(), treatment, True)[:10]) == day
    assert _treated("some day", treatment, True) == "***"


def test_features_and_log_see_the_treated_values(doc: Any, tmp_path: Path) -> None:
    bundle = read_bundle(linear_bundle(INPUTS, [0.1] * len(INPUTS)))
    bundle.manifest["request"] = doc
    inputs = AssembledInputs(bundle, SqliteOnline(tmp_path / "online.db"))
    row = {"mail": "ada@x.org", "born": "1990-07-02T10:00:00Z", "card": CARD, "plan": "gold", "size": 2.0}
    judged = inputs.judge(row)
    assert judged.row is not None and not judged.hard
    assert judged.row["mail"] == "***@x.org" and judged.row["card"] == CARD
    assert "07-02" not in str(judged.row["born"]) and "1990" in str(judged.row["born"])
    assert judged.values == (0.0, float(date(1990, 1, 1).isoweekday()), 0.0, 2.0, 0.0)
    plain = inputs.judge({**row, "card": "4111111111111111"}).row
    assert plain is not None and plain["card"] is None, "a plain value is never kept where a pseudonym is declared"
    assert not AssembledInputs(bundle, SqliteOnline(tmp_path / "online.db")).plain


def test_nothing_is_done_where_nothing_is_declared_at_ingest() -> None:
    open_page = PAGE.replace("value: ingest}", "value: export}").replace("{property: privacy, value: pseudonym}", "")
    contract = Contract.from_doc(_yaml(open_page.replace("},\n                           ]", "}]").replace(", ]", "]")))
    assert compile_row_treatment(contract, SCHEMA, {}) is None
    assert compile_row_treatment(None, SCHEMA, {}) is None


def _yaml(text: str) -> Any:
    import yaml

    return yaml.safe_load(text)


def test_an_answer_that_is_shown_hides_what_is_personal_of_its_request(doc: Any, tmp_path: Path) -> None:
    ws = create_workspace(tmp_path / "ws", clock=ManualClock(datetime(2031, 5, 1, tzinfo=UTC)), actor="user:ada")
    made: Any = SimpleNamespace(request=ws.blobs.put(canonical(doc)))
    answer = {"entity": "u", "request_plan": "gold", "request_card": CARD, "request_size": "2.0", "request_mail": None}
    found = discreet(ws, answer, made)
    assert found == {**answer, "request_plan": "***", "request_card": "***"}
    assert discreet(ws, answer, None) == answer
    ws.close()
