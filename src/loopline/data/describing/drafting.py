"""A first contract from data: what its rows have in common, for a person to correct."""

from __future__ import annotations

import math
from typing import Any

import polars as pl

from loopline.data.contracts.baseline import baseline_of
from loopline.data.contracts.contract import Contract
from loopline.data.contracts.rules import EXACT
from loopline.data.privacy.detectors import propose
from loopline.data.privacy.unsaid import proposed_unsaid
from loopline.data.sources.mixed import KINDS, SAMPLE, promised

FEW = 20
"""Text columns with at most so many values are taken for categories."""
FLAG = 2
"""Integer columns with at most so many values are."""
ENOUGH = 100
"""Fewer values than this say nothing of a range, a length or a distribution."""


def draft(frame: pl.DataFrame, name: str, *, baselines: bool = False) -> Contract:
    """A contract that `frame` keeps, each rule with its reason in the description.

    It is cautious: types; `required` where nothing is missing, else a limit at
    twice the share that is, as a warning; `unique` for keys; the values of categories;
    one length where all texts have it; and bounds that leave room for one more range
    of what was seen on each side, or zero, since tomorrow's greatest value is not known
    today. Of columns that look personal no value and no range is told.

    Parameters
    ----------
    baselines : bool
        Limit the drift of each distribution from this one, too (as a warning).
    """
    personal = proposed_unsaid(propose(frame, name))
    properties = [_property(frame[column], baselines, told=column not in personal) for column in frame.columns]
    return Contract.from_doc(
        {
            "apiVersion": "v3.1.0",
            "kind": "DataContract",
            "id": f"{name}-contract",
            "name": name,
            "version": "0.1.0",
            "status": "draft",
            "description": {"purpose": f"Drafted from {frame.height:,} rows; correct what they do not show."},
            "schema": [{"name": name, "properties": properties}],
        },
        file=f"draft of {name}",
    )


def logical_type(dtype: pl.DataType) -> str | None:
    """The contract type of a Polars type; null for types without one."""
    if dtype.is_integer():
        return "integer"
    if dtype.is_numeric():
        return "number"
    if isinstance(dtype, pl.Datetime):
        return "timestamp" if dtype.time_zone else None
    pairs: list[tuple[Any, str]] = [
        (pl.Boolean, "boolean"),
        (pl.Date, "date"),
        (pl.Time, "time"),
        (pl.Struct, "object"),
        (pl.List, "array"),
        (pl.Array, "array"),
        (pl.String, "string"),
        (pl.Categorical, "string"),
        (pl.Enum, "string"),
    ]
    return next((kind for known, kind in pairs if dtype == known), None)


def _property(series: pl.Series, baselines: bool, *, told: bool) -> dict[str, Any]:
    kind = logical_type(series.dtype)
    doc: dict[str, Any] = {"name": series.name}
    if kind is not None:
        doc["logicalType"] = kind
    if series.dtype.is_float():
        series = series.fill_nan(None)
    quality: list[dict[str, Any]] = []
    reasons: list[str] = []
    missing = series.null_count()
    if series.len() and not missing:
        doc["required"] = True
        reasons.append("no value is missing")
    elif missing and missing < series.len():
        share = min(100, math.ceil(200 * missing / series.len()))
        why = f"{missing:,} of {series.len():,} values are missing; the limit is twice that."
        limit = {"metric": "nullValues", "mustBeLessOrEqualTo": share, "unit": "percent", "severity": "warning"}
        quality.append(limit | {"description": why})
    present = series.drop_nulls()
    if kind in ("string", "integer") and present.len() > 1:
        distinct = present.n_unique()
        if distinct == series.len():
            doc["unique"] = True
            reasons.append("no value comes twice")
        elif told and distinct <= (FEW if kind == "string" else FLAG) and distinct * FEW <= present.len():
            values = (present.cast(pl.String) if kind == "string" else present).unique().sort().to_list()
            why = f"{present.len():,} rows have these {distinct} values."
            listed = {"metric": "invalidValues", "arguments": {"validValues": values}, "mustBe": 0}
            quality.append(listed | {"description": why})
        elif kind == "string" and present.len() >= ENOUGH:
            lengths = present.cast(pl.String).str.len_chars().unique().to_list()
            if len(lengths) == 1:
                doc["logicalTypeOptions"] = {"minLength": lengths[0], "maxLength": lengths[0]}
                reasons.append(f"every text has {lengths[0]} characters")
    if told and kind == "string" and present.len() and (meant := promised(present.cast(pl.String).head(SAMPLE))):
        fits = int(present.cast(pl.String).to_frame("v").select(KINDS[meant](pl.col("v")).sum()).item())
        if fits < present.len():
            reasons.append(f"{fits:,} of {present.len():,} values are {meant}; if all are to be, declare that type")
    if told and kind in ("integer", "number") and present.len() and not any("arguments" in rule for rule in quality):
        options, why = _range(present, known=bool(doc.get("unique")))
        if options:
            doc["logicalTypeOptions"] = options
            reasons.append(why)
    if told and baselines and kind in ("integer", "number", "string", "boolean") and present.len() >= ENOUGH:
        found = None if doc.get("unique") else baseline_of(present)
        if found is not None and (kind != "string" or present.n_unique() <= FEW):
            rule = {"type": "custom", "engine": "loopline", "severity": "warning", "implementation": found}
            quality.append(rule | {"description": f"As {present.len():,} rows were distributed."})
    if reasons:
        doc["description"] = f"Drafted: {'; '.join(reasons)}."
    if quality:
        doc["quality"] = quality
    return doc


def _range(present: pl.Series, *, known: bool) -> tuple[dict[str, Any], str]:
    """Bounds with room on each side, and why; nothing where values are too few, or a key."""
    values = present.cast(pl.Float64) if isinstance(present.dtype, pl.Decimal) else present
    least, most = values.min(), values.max()
    assert isinstance(least, (int, float)) and isinstance(most, (int, float))
    floor = {"minimum": 0} if least >= 0 else {}
    if known or present.len() < ENOUGH or not -EXACT < least < most < EXACT:
        return floor, "no value is negative"
    room = most - least
    top = _rounded(most + room)
    bottom = 0 if least >= 0 else -_rounded(room - least)
    if not (bottom > -EXACT and top < EXACT):
        return floor, "no value is negative"
    why = f"values lie in {least:g} to {most:g}, and the bounds leave room for one more such range"
    if values.dtype.is_integer():
        bottom, top = math.floor(bottom), math.ceil(top)
    return {"minimum": bottom, "maximum": top}, why


def _rounded(value: float) -> int | float:
    """A number of two digits at or above `value`, which is positive."""
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    found = math.ceil(value / step) * step
    short = math.ceil(found) if step >= 1 else float(f"{found:.2g}")
    return short if short >= value else value
