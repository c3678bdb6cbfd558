"""Personal data is proposed by its form, settled by people, and kept as declared."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from loopline import data
from loopline.base.clock import ManualClock
from loopline.base.errors import Invalid, NotFound, Unavailable
from loopline.base.keys import key_path
from loopline.data.contracts.contract import Contract
from loopline.data.contracts.odcs import read_yaml
from loopline.data.describing import croissant
from loopline.data.privacy import marks
from loopline.data.privacy import treatments as privacy
from loopline.data.privacy.detectors import (
    MAY,
    VALUES,
    is_credit_card,
    is_email,
    is_iban,
    is_ip,
    is_national_id,
    is_phone,
    luhn,
    propose,
)
from loopline.data.privacy.doorway import discreet
from loopline.data.privacy.pseudonyms import secret
from loopline.data.privacy.treatments import Treatment, token, treated
from loopline.data.spec import TableSpec
from loopline.workspace import Workspace, create_workspace

NOW = datetime(2031, 5, 1, tzinfo=UTC)
PAGE = """\
apiVersion: v3.1.0
kind: DataContract
id: people
version: 1.0.0
status: active
slaProperties: [{property: retention, value: 2, unit: y}]
schema:
  - name: people
    properties:
      - {name: id, logicalType: integer, required: true}
      - name: mail
        logicalType: string
        logicalTypeOptions: {pattern: '[^@]+@[^@]+'}
        classification: restricted
        customProperties: [{property: pii, value: email}, {property: privacy, value: pseudonym}]
      - name: card
        logicalType: string
        customProperties: [{property: pii, value: credit_card}, {property: privacy, value: partial}]
      - name: note
        logicalType: string
        customProperties: [{property: pii, value: free_text}]
"""


@pytest.fixture
def ws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    monkeypatch.setenv("LOOPLINE_KEYS", str(tmp_path / "keys"))
    made = create_workspace(tmp_path / "ws", clock=ManualClock(NOW), actor="user:ada")
    yield made
    made.close()


@pytest.fixture
def contract(tmp_path: Path) -> Contract:
    (tmp_path / "people.yaml").write_text(PAGE)
    return Contract.load(tmp_path / "people.yaml")


@given(st.integers(10**11, 10**17))
def test_exactly_one_last_digit_passes_luhn_and_a_slip_of_one_digit_fails(number: int) -> None:
    good = [f"{number}{d}" for d in range(10) if luhn(f"{number}{d}")]
    assert len(good) == 1
    slipped = str((int(good[0][0]) + 1) % 10) + good[0][1:]
    assert not luhn(slipped)


@pytest.mark.parametrize(
    ("test", "yes", "no"),
    [
        (is_email, ["ada@example.org", "a.b+c@x-y.co.uk"], ["ada@", "@example.org", "ada@example", "a b@c.de"]),
        (is_iban, ["DE89 3704 0044 0532 0130 00", "GB82WEST12345698765432"], ["DE88370400440532013000", "AB12"]),
        (is_credit_card, ["4111 1111 1111 1111", "378282246310005"], ["4111111111111112", "1234567812345670", "41"]),
        (is_ip, ["192.0.2.1", "2001:db8::1"], ["192.0.2", "1.2.3.4.5", "12:30", "256.1.1.1"]),
        (is_phone, ["+49 30 901820", "(030) 90 18 20", "+15551234567"], ["2031-05-01", "12345678", "17", "01.05.2031"]),
        (
            is_national_id,
            ["123-45-6789", "12345678Z", "X1234567L", "86095742719", "811218-9876", "255081416802538"],
            ["666-45-6789", "12345678A", "86095742718", "811218-9875", "255081416802539", "12345678901"],
        ),
    ],
)
def test_a_class_is_told_by_its_form_and_its_check_digit(test: object, yes: list[str], no: list[str]) -> None:
    assert [t for t in yes if not test(t)] == [] and [t for t in no if test(t)] == []  # type: ignore[operator]


def test_columns_are_proposed_by_values_by_names_and_by_what_stands_inside_texts() -> None:
    found = propose(
        pl.DataFrame(
            {
                "flight_id": [17, 18],
                "contact": ["ada@example.org", "bob@example.org"],
                "customerName": ["Ada", "Bob"],
                "remark": ["write to ada@example.org", "nothing"],
                "story": ["he came late again this day", "she was there before all others"],
                "tailnum": ["N101", "N102"],
                "carrier_name": ["A", "B"],
                "birth_date": [date(1990, 1, 2), None],
                "sent": ["2031-05-01", "2031-05-02"],
            }
        ),
        "people",
    )
    assert {p.column: p.pii for p in found} == {
        "contact": "email",
        "customerName": "name",
        "remark": "free_text",
        "story": "free_text",
        "birth_date": "birth_date",
    }
    assert not any("ada@" in p.why for p in found)


@example(["ada@x.org", "ada@x.com", None], b"k" * 32)
@given(st.lists(st.one_of(st.none(), st.text(max_size=6)), max_size=20), st.binary(min_size=32, max_size=32))
def test_pseudonyms_are_equal_exactly_where_values_are_and_need_the_key(values: list[str | None], key: bytes) -> None:
    frame = pl.DataFrame({"x": pl.Series(values, dtype=pl.String)})
    made = treated(frame, [Treatment("x", "email", "pseudonym")], key)["x"].to_list()
    assert [m is None for m in made] == [v is None for v in values]
    plain = {v: m for v, m in zip(values, made, strict=True) if v is not None and not v.startswith("p_")}
    assert len(set(plain.values())) == len(plain)
    assert all(m == token(key, "email", v) != token(b"0" * 31 + b"1", "email", v) for v, m in plain.items())
    again = treated(pl.DataFrame({"x": pl.Series(made, dtype=pl.String)}), [Treatment("x", "email", "pseudonym")], key)
    assert again["x"].to_list() == made, "a pseudonym is left as it is, so a retry is safe"


def test_masks_leave_what_they_say_and_nothing_more() -> None:
    frame = pl.DataFrame(
        {"m": ["ada@x.org", None], "c": ["4111111111111111", "12"], "b": [date(1990, 7, 2), None], "n": [1, None]}
    )
    made = treated(
        frame,
        [
            Treatment("m", "email", "partial"),
            Treatment("c", "credit_card", "partial"),
            Treatment("b", "birth_date", "partial"),
            Treatment("n", "personal", "drop"),
            Treatment("absent", "personal", "mask"),
        ],
        None,
    )
    assert made.rows() == [("***@x.org", "***1111", date(1990, 1, 1), None), (None, "***", None, None)]
    assert treated(frame, [Treatment("n", "personal", "mask")], None)["n"].to_list() == ["***", None]
    with pytest.raises(Invalid, match="cannot be given pseudonyms"):
        treated(pl.DataFrame({"f": [1.5]}), [Treatment("f", "personal", "pseudonym")], b"k")


def test_a_contract_declares_treatment_and_retention_and_unknown_words_are_refused(contract: Contract) -> None:
    found = privacy.declared(contract)
    assert {(t.column, t.pii, t.how, t.at) for t in found.values()} == {
        ("mail", "email", "pseudonym", "ingest"),
        ("card", "credit_card", "partial", "export"),
        ("note", "free_text", "keep", "export"),
    }
    assert privacy.retention(contract) == timedelta(days=730)
    for old, new in (("value: email", "value: mail"), ("value: pseudonym", "value: hash"), ("unit: y", "unit: eon")):
        doc = Contract.from_doc(read_yaml(PAGE.replace(old, new), "p"), file="p")
        with pytest.raises(Invalid, match=r"is one of|with a unit"):
            privacy.declared(doc)
            privacy.retention(doc)


def test_plain_values_reach_neither_table_nor_quarantine_nor_records(
    ws: Workspace, contract: Contract, tmp_path: Path
) -> None:
    tables = {"people": TableSpec(source="p.csv", contract="people.yaml")}
    page = (
        PAGE.replace("        logicalTypeOptions: {pattern: '[^@]+@[^@]+'}\n", "")
        .replace(
            "- {name: id, logicalType: integer, required: true}",
            "- {name: id, logicalType: integer, logicalTypeOptions: {maximum: 5}}",
        )
        .replace(
            "name: card\n        logicalType: string", "name: card\n        logicalType: string\n        required: true"
        )
    )
    (tmp_path / "people.yaml").write_text(page)
    rows = pl.DataFrame({"id": [1, 9], "mail": ["ada@x.org", "bob@x.org"], "card": ["41", "42"], "note": ["a", "b"]})
    (found,) = data.ingest(ws, tmp_path, tables, frames={"people": rows})
    assert (found.rows, found.quarantined) == (1, 1)
    mails = [ws.tables.scan(t).collect()["mail"].to_list() for t in ("people", "quarantine/people")]
    assert mails == [[token(secret(ws), "email", f"{who}@x.org")] for who in ("ada", "bob")]
    assert ws.tables.scan("people").collect()["card"].to_list() == ["41"], "declared for export only"
    frozen = data.snapshot(ws, tables, project=tmp_path)
    columns = json.loads(ws.blobs.get(frozen.manifest))["tables"]["people"]["profile"]["columns"]
    assert set(columns["card"]) == {"type", "nulls", "distinct"}, "nor the manifest of a snapshot"
    assert "max" in columns["id"]
    (again,) = data.ingest(ws, tmp_path, tables, frames={"people": rows[:1]})
    assert again.rows == 0, "a pseudonym is the same each time, so a row that is there is known again"
    spoken = data.Violation("card.pattern", "card", "error", 1, ("4111",))
    hidden = privacy.without_examples(spoken, privacy.declared(contract))
    assert (hidden.examples, hidden.count) == ((), 1)
    plain = data.Violation("id.maximum", "id", "error", 1, (9,))
    assert privacy.without_examples(plain, privacy.declared(contract)) is plain


@pytest.mark.parametrize("pii", VALUES)
@given(pages=st.lists(st.text(st.sampled_from("0123456789 -+()./:@ABTRWXYZabc")) | st.text(), max_size=20))
@example(pages=["a@b.co", "DE89 3704 0044 0532 0130 00", "X1234567L", "12345678Z", "4111 1111 1111 1111", "::1"])
@example(pages=["900101-0017", "123-45-6789", "86 095 742 719", "10.0.0.1", "+44 20 7946 0958"])
def test_a_text_that_is_of_a_class_is_never_left_out_before_its_test(pii: str, pages: list[str]) -> None:
    texts = pl.DataFrame({"text": pages}, schema={"text": pl.String})
    may = texts.select(MAY[pii].alias("may"))["may"].to_list()
    assert all(may[place] for place, text in enumerate(pages) if VALUES[pii](text))


def test_a_person_settles_what_detectors_propose(ws: Workspace, contract: Contract, tmp_path: Path) -> None:
    tables = {"people": TableSpec(source="p.csv", contract="people.yaml"), "other": TableSpec(source="o.csv")}
    ws.tables.append("other", pl.DataFrame({"phone": ["+49 30 901820"], "who": ["x"], "first_name": ["Ada"]}))
    before = {(c.table, c.column): c.state for c in marks.personal(ws, tables, tmp_path)}
    assert before[("people", "mail")] == "declared"
    assert before[("other", "phone")] == before[("other", "first_name")] == "proposed"
    marks.mark(ws, tables, "other", "phone", pii="phone", reason="it rang")
    marks.mark(ws, tables, "other", "first_name", pii=None, reason="names of ships")
    marks.mark(ws, tables, "other", "who", pii="personal")
    after = {c.column: (c.pii, c.state, c.by) for c in marks.personal(ws, tables, tmp_path, table="other")}
    assert after["phone"] == ("phone", "confirmed", "user:ada")
    assert after["first_name"] == (None, "rejected", "user:ada") and after["who"][1] == "confirmed"
    assert marks.sample(ws, "other", tables["other"], tmp_path, 5).rows() == [("***", "***", "Ada")]
    assert [e["action"] for e in ws.records.entries()].count("data.mark") == 3
    with pytest.raises(NotFound, match="no column 'gone'"):
        marks.mark(ws, tables, "other", "gone", pii="phone")
    with pytest.raises(Invalid, match="no class"):
        marks.mark(ws, tables, "other", "who", pii="secret")


def test_the_key_of_pseudonyms_lies_outside_the_workspace_and_is_never_made_twice(ws: Workspace) -> None:
    first = secret(ws)
    path = key_path(f"pseudonyms-{ws.id}")
    assert path.exists() and ws.root not in path.parents and secret(ws) == first
    kept = path.read_bytes()
    path.unlink()
    with pytest.raises(Unavailable, match="not on this machine"):
        secret(ws)
    path.write_bytes(kept)
    assert secret(ws) == first


def test_a_hidden_profile_keeps_counts_and_loses_values() -> None:
    doc = data.profile(pl.DataFrame({"mail": ["ada@x.org", None], "n": [1, 2]}))
    hidden = privacy.hide(doc, {"mail"})
    assert hidden["columns"]["mail"] == {"type": "String", "nulls": 1, "distinct": 1}
    assert hidden["columns"]["n"] == doc["columns"]["n"]


def test_what_may_be_personal_is_masked_until_a_person_says_that_it_is_not(ws: Workspace, tmp_path: Path) -> None:
    tables = {"other": TableSpec(source="o.csv")}
    ws.tables.append(
        "other",
        pl.DataFrame({"contact": ["ada@example.org", "bob@example.org"], "n": [1, 2]}).with_columns(known_at=NOW),
    )
    refused = pl.DataFrame({"n": ["x"], "phone": ["+49 30 901820"], "broken_rules": ["n.type"], "refused_at": [NOW]})
    ws.tables.append("quarantine/other", refused)
    columns = {c.column: c for c in marks.personal(ws, tables, tmp_path)}
    assert set(columns) == {"contact", "phone"}, "columns that only refused rows have are looked at too"
    assert columns["contact"].now == "masked" and "rejected: shown" in columns["contact"].after
    assert set(marks.visible(ws, "other", tables["other"], tmp_path)) == {"contact", "phone"}
    croissant.export(ws, tables, tmp_path, "other", tmp_path / "first.json", form="csv")
    assert (tmp_path / "first.csv").read_text().startswith("contact,n,known_at\n***,1,")
    marks.mark(ws, tables, "other", "contact", pii=None, reason="mail of shops")
    assert {c.column: c.now for c in marks.personal(ws, tables, tmp_path)}["contact"] == "shown"
    croissant.export(ws, tables, tmp_path, "other", tmp_path / "second.json", form="csv")
    assert "ada@example.org" in (tmp_path / "second.csv").read_text()


def test_what_is_protected_names_nobody_and_is_shown_unless_a_contract_hides_it(ws: Workspace, tmp_path: Path) -> None:
    tables = {"other": TableSpec(source="o.csv")}
    ws.tables.append("other", pl.DataFrame({"age": [30, 40], "race": ["x", "y"]}))
    found = {c.column: c.now for c in marks.personal(ws, tables, tmp_path)}
    assert found == {"age": "shown; runs tell which features read it", "race": "masked"}
    marks.mark(ws, tables, "other", "age", pii="protected")
    assert marks.sample(ws, "other", tables["other"], tmp_path, 5).rows() == [(30, "***"), (40, "***")]


def test_examples_of_broken_rules_say_nothing_that_may_be_personal(ws: Workspace) -> None:
    broken = (
        data.Violation("contact.pattern", "contact", "error", 1, ("ada@example.org",)),
        data.Violation("plan.validValues", "plan", "error", 1, ("gold",)),
    )
    made = data.Ingestion("i", "other", 1, 1, 2, None, NOW, violations=broken)
    assert [v.examples for v in discreet(ws, made, None).violations] == [(), ("gold",)]
    ws.tables.append("other", pl.DataFrame({"contact": ["x"]}))
    marks.mark(ws, {"other": TableSpec(source="o.csv")}, "other", "contact", pii=None)
    assert discreet(ws, made, None) == made, "a person said that it is not"


@pytest.mark.parametrize(
    ("column", "pii"),
    [
        ("sex", "protected"), ("Gender", "protected"), ("age", "protected"), ("ageGroup", "protected"),
        ("patient_age", "protected"), ("marital_status", "protected"), ("is_married", "protected"),
        ("nationality", "protected"), ("race", "special"), ("ethnicity", "special"), ("religion", "special"),
        ("disability", "special"), ("has_disability", "special"),
        ("account_age", None), ("page", None), ("stage", None), ("sexy_deals_page", None), ("image_age", None),
    ],
)  # fmt: skip
def test_attributes_by_which_people_must_not_be_treated_differently_are_proposed_by_name(
    column: str, pii: str | None
) -> None:
    for values in ([1, 2], ["a", "b"], [True, False]):
        assert next((p.pii for p in propose(pl.DataFrame({column: values}), "people")), None) == pii
