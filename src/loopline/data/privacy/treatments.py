"""What a contract says of personal columns, and doing it: masks, pseudonyms, how long rows are kept.

Everything stands in the contract, where the standard has room for it: `classification` and `customProperties` of a
property (`pii`, `privacy`, `privacyAt`), and `slaProperties` of the contract (`retention`).
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, get_args

import polars as pl

from loopline.base.errors import Invalid
from loopline.data.contracts.contract import Contract
from loopline.data.nouns import Violation
from loopline.data.privacy.detectors import CLASSES

How = Literal["keep", "pseudonym", "mask", "partial", "drop"]
At = Literal["ingest", "export"]
MASKED = "***"
POINTER = "pii"
"""Pointers that say what a person said of a column, by `table/column`."""
TOKEN = "p_"
"""Pseudonyms start with it."""
_UNITS = {"d": 1, "day": 1, "days": 1, "w": 7, "m": 30, "month": 30, "months": 30, "y": 365, "year": 365, "years": 365}


@dataclass(frozen=True, slots=True)
class Treatment:
    """What is declared of one personal column.

    `keep` leaves values as they are; `pseudonym` puts a keyed token in the place of
    each (equal values, equal tokens); `mask` writes `***`; `partial` leaves the
    domain of a mail address, the last four characters of other text, the year of a
    date; `drop` leaves null. At `ingest` the plain value never reaches a table; at
    `export` tables hold it, and what leaves the workspace or is shown does not.
    """

    column: str
    pii: str | None
    how: How = "keep"
    at: At = "export"

    @property
    def domain(self) -> str:
        """Equal values of one domain get equal pseudonyms, so that tables can be joined by them."""
        return self.column if self.pii is None or self.pii in ("personal", "free_text") else self.pii


def declared(contract: Contract | None) -> dict[str, Treatment]:
    """The personal columns that a contract declares, by name.

    Raises
    ------
    Invalid
        If a class, a treatment or a moment is none that is known, or a treatment stands without a class.
    """
    return {} if contract is None else {t.column: t for t in _treatments(contract)}


def _treatments(contract: Contract) -> Iterable[Treatment]:
    for prop in _table(contract).get("properties") or ():
        extras = {e.get("property"): e.get("value") for e in prop.get("customProperties") or ()}
        if not {"pii", "privacy", "privacyAt"} & set(extras):
            continue
        column = str(prop.get("name"))
        how = extras.get("privacy", "keep")
        at = extras.get("privacyAt", "ingest" if how == "pseudonym" else "export")
        for key, value, allowed in (
            ("pii", extras.get("pii"), CLASSES),
            ("privacy", how, get_args(How)),
            ("privacyAt", at, get_args(At)),
        ):
            if value not in allowed:
                raise Invalid(
                    f"{contract.name}.{column}: {key} is {value!r}",
                    why=f"it is one of {', '.join(allowed)}",
                    fix=f"customProperties: [{{property: {key}, value: {allowed[0]}}}]",
                )
        yield Treatment(column, str(extras["pii"]), how, at)


def _table(contract: Contract) -> Mapping[str, Any]:
    for table in contract.doc.get("schema") or ():
        if table.get("name") == contract.name:
            return dict(table)
    return {}


def retention(contract: Contract | None) -> timedelta | None:
    """How long rows are kept, by `slaProperties: [{property: retention, value: 2, unit: y}]`; null without it.

    A month counts 30 days and a year 365.

    Raises
    ------
    Invalid
        If it is declared and is no duration.
    """
    for item in (contract.doc.get("slaProperties") or ()) if contract else ():
        if item.get("property") != "retention":
            continue
        value, unit = item.get("value"), str(item.get("unit", "d")).lower()
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0 or unit not in _UNITS:
            raise Invalid(
                f"{contract.name if contract else ''}: retention is {value!r} {unit}",
                why=f"it is a number above 0 with a unit: {', '.join(_UNITS)}",
                fix="slaProperties: [{property: retention, value: 2, unit: y}]",
            )
        return timedelta(days=value * _UNITS[unit])
    return None


def token(secret: bytes, domain: str, value: str) -> str:
    """The pseudonym of `value`: the first 120 bits of HMAC-SHA256 under `secret`, in 24 small letters and digits.

    Without the secret nobody can tell which value it stands for, nor try values out.
    """
    digest = hmac.digest(secret, f"{domain}\0{value}".encode(), "sha256")
    return TOKEN + base64.b32encode(digest[:15]).decode().lower()


def treated(frame: pl.DataFrame, treatments: Iterable[Treatment], secret: bytes | None) -> pl.DataFrame:
    """`frame` with each treated column replaced; columns it lacks are skipped, nulls stay null.

    Parameters
    ----------
    secret : bytes, optional
        Key of the pseudonyms; needed only when one is declared.
    """
    columns = [_column(frame[t.column], t, secret) for t in treatments if t.column in frame.columns and t.how != "keep"]
    return frame.with_columns(columns) if columns else frame


def _column(series: pl.Series, treatment: Treatment, secret: bytes | None) -> pl.Series:
    name, dtype = series.name, series.dtype
    if treatment.how == "drop":
        return pl.Series(name, [None] * series.len(), dtype=dtype)
    if treatment.how == "mask":
        hidden = pl.when(pl.col(name).is_not_null()).then(pl.lit(MASKED))
        return series.to_frame().select(hidden.alias(name)).to_series()
    if treatment.how == "partial":
        return series.to_frame().select(_partial(pl.col(name), dtype, treatment.pii).alias(name)).to_series()
    if dtype.is_float() or dtype.is_nested() or dtype == pl.Boolean:
        raise Invalid(
            f"column {name} is {dtype} and cannot be given pseudonyms",
            why="a pseudonym stands for text, a whole number or a date",
            fix="declare privacy: mask or drop for it",
        )
    if secret is None:
        raise Invalid(f"no key for the pseudonyms of {name}", why="they are keyed", fix="give the workspace's secret")
    texts = series.cast(pl.String).alias(name)
    distinct = texts.drop_nulls().unique()
    tokens = [v if v.startswith(TOKEN) else token(secret, treatment.domain, v) for v in distinct.to_list()]
    return texts.replace_strict(distinct, pl.Series(tokens, dtype=pl.String), default=None, return_dtype=pl.String)


def _partial(value: pl.Expr, dtype: pl.DataType, pii: str | None) -> pl.Expr:
    if dtype.is_temporal() and dtype != pl.Time:
        return value.dt.truncate("1y")
    text = value.cast(pl.String)
    if pii == "email":
        return text.str.replace(r"^[^@]*", MASKED)
    # Four characters of a short text would be most of it.
    return (
        pl.when(text.str.len_chars() > 8)
        .then(pl.lit(MASKED) + text.str.tail(4))
        .when(text.is_not_null())
        .then(pl.lit(MASKED))
    )


def without_examples(violation: Violation, known: Mapping[str, Treatment]) -> Violation:
    """A violation whose examples say nothing of a personal column."""
    columns = {violation.column} if violation.column else set(violation.rule.rpartition(".")[0].split("+"))
    if not columns & set(known) or not violation.examples:
        return violation
    return Violation(violation.rule, violation.column, violation.severity, violation.count, ())


def shown(frame: pl.DataFrame, treatments: Mapping[str, Treatment], secret: bytes | None) -> pl.DataFrame:
    """Rows as they may be shown or leave: treated as declared; personal columns without a treatment are masked."""
    hidden = [t if t.how != "keep" else Treatment(t.column, t.pii, "mask") for t in treatments.values()]
    return treated(frame, hidden, secret)


def hide(profile: Mapping[str, Any], personal: Iterable[str]) -> dict[str, Any]:
    """A profile whose personal columns keep their counts and lose every value."""
    hidden = set(personal)
    columns = {
        name: {k: v for k, v in doc.items() if k in ("type", "nulls", "distinct")} if name in hidden else doc
        for name, doc in (profile.get("columns") or {}).items()
    }
    return {**profile, "columns": columns}
