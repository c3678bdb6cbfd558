"""A first contract from data: what its rows have in common, for a person to correct."""

from __future__ import annotations

import math
from typing import Any

import polars as pl

from loopline.data.contract import Contract

FEW = 20
"""Text columns with at most so many values are taken for categories."""


def draft(frame: pl.DataFrame, name: str) -> Contract:
    """A contract that `frame` keeps.

    It is cautious: types; `required` where nothing is missing, else a limit at
    twice the share that is; `unique` for keys; the values of categories; and no
    numeric bound but zero, since tomorrow's greatest value is not known today.
    """
    properties = [_property(frame[column]) for column in frame.columns]
    return Contract.from_doc(
        {
            "apiVersion": "v3.1.0",
            "kind": "DataContract",
            "id": f"{name}-contract",
            "name": name,
            "version": "0.1.0",
            "status": "draft",
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


def _property(series: pl.Series) -> dict[str, Any]:
    kind = logical_type(series.dtype)
    doc: dict[str, Any] = {"name": series.name}
    if kind is not None:
        doc["logicalType"] = kind
    if series.dtype.is_float():
        series = series.fill_nan(None)
    quality: list[dict[str, Any]] = []
    missing = series.null_count()
    if series.len() and not missing:
        doc["required"] = True
    elif missing and missing < series.len():
        share = min(100, math.ceil(200 * missing / series.len()))
        quality.append({"metric": "nullValues", "mustBeLessOrEqualTo": share, "unit": "percent", "severity": "warning"})
    present = series.drop_nulls()
    if kind in ("string", "integer") and present.len() > 1:
        distinct = present.n_unique()
        if distinct == series.len():
            doc["unique"] = True
        elif kind == "string" and distinct <= FEW and distinct * FEW <= present.len():
            values = present.cast(pl.String).unique().sort().to_list()
            quality.append({"metric": "invalidValues", "arguments": {"validValues": values}, "mustBe": 0})
    if kind in ("integer", "number") and present.len():
        least = present.min()
        if isinstance(least, (int, float)) and least >= 0:
            doc["logicalTypeOptions"] = {"minimum": 0}
    if quality:
        doc["quality"] = quality
    return doc
