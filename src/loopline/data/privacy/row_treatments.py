"""Personal columns of one request, treated as the doorway treats those of a table: before anything reads them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import UTC, date, datetime
from typing import Any

from loopline.data.contracts.contract import Contract
from loopline.data.privacy.treatments import MASKED, TOKEN, Treatment, declared

Row = Mapping[str, Any]


def compile_row_treatment(
    contract: Contract | None, columns: Collection[str], moments: Mapping[str, Any]
) -> Callable[[Row], Row] | None:
    """A function that treats what a request brings of `columns`; null where nothing is to be done.

    Parameters
    ----------
    contract : Contract, optional
        Its columns that are treated at ingest; those treated at export stay as they are.
    moments : mapping
        The columns that hold moments.

    Notes
    -----
    The key of pseudonyms stays where tables are filled: a request brings the pseudonym itself, and any other text in
    its place counts as missing.
    """
    chosen = [t for t in declared(contract).values() if t.at == "ingest" and t.how != "keep" and t.column in columns]
    if not chosen:
        return None

    def treat(row: Row) -> Row:
        return {**row, **{t.column: _treated(row[t.column], t, t.column in moments) for t in chosen if t.column in row}}

    return treat


def _treated(value: Any, treatment: Treatment, moment: bool) -> Any:
    """One value as `privacy.treated` leaves it."""
    if value is None or treatment.how == "drop":
        return None
    if treatment.how == "mask":
        return MASKED
    if treatment.how == "pseudonym":
        return value if isinstance(value, str) and value.startswith(TOKEN) else None
    if moment:
        return _year(value)
    text = _text(value)
    if treatment.pii == "email":
        return MASKED + text[text.index("@") :] if "@" in text else MASKED
    return MASKED + text[-4:] if len(text) > 8 else MASKED


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _year(value: Any) -> Any:
    """The first moment of its year; what is none is masked, for the contract to refuse."""
    text = value.isoformat() if isinstance(value, date) else str(value).strip()
    try:
        return date.fromisoformat(text).replace(month=1, day=1).isoformat()
    except ValueError:
        pass
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return MASKED
    found = found if found.tzinfo is None else found.astimezone(UTC)
    return found.replace(month=1, day=1, hour=0, minute=0, second=0, microsecond=0).isoformat()
