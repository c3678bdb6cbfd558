"""Data that a run was given, by name and digest; figures as bytes."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loopline.base.errors import Invalid
from loopline.base.ids import digest as digest_of
from loopline.base.ids import file_digest
from loopline.base.nouns import kind_of


@dataclass(frozen=True, slots=True)
class Described:
    """What is kept of data."""

    name: str
    digest: str
    source_type: str
    source: str
    schema: str | None = None
    profile: str | None = None
    tag: tuple[str, str] | None = None
    """What the run is found by, for nouns of Loopline."""


def described(data: Any, *, name: str | None = None, digest: str | None = None) -> Described:
    """Name, digest and shape of data.

    Raises
    ------
    Invalid
        If it is nothing that a digest can be made of, and none is given.
    """
    kind = kind_of(data)
    if kind is not None:
        rows = getattr(data, "rows", None) or getattr(data, "train_rows", None)
        profile = json.dumps({"num_rows": rows}) if rows is not None else None
        own = name or str(getattr(data, "source", "") or kind)
        return Described(
            own, digest or data.id, "loopline", f"{kind}:{data.id}", None, profile, (f"loopline.{kind}", data.id)
        )
    if isinstance(data, (str, Path)):
        path = Path(data)
        if not path.is_file() and digest is None:
            raise Invalid(
                f"{path} is no file", why="its digest is made of its bytes", fix="name a file, or give digest="
            )
        found = digest or file_digest(path)
        return Described(name or path.name, found, "local", json.dumps({"uri": str(path)}))
    frame, shape, columns = _table(data)
    if frame is None and digest is None:
        raise Invalid(
            f"no digest can be made of a {type(data).__name__}",
            why="data are noted by name and digest",
            fix="log a frame, an array or a file, or give digest=",
        )
    profile = json.dumps({"num_rows": shape[0], "num_elements": _product(shape)}) if shape else None
    return Described(
        name or type(data).__name__,
        digest or digest_of(frame or b""),
        "code",
        json.dumps({"tags": {}}),
        columns,
        profile,
    )


def _table(data: Any) -> tuple[bytes | None, tuple[int, ...], str | None]:
    """Bytes that stand for the content, its shape, and its columns as JSON."""
    polars, numpy = sys.modules.get("polars"), sys.modules.get("numpy")
    if polars is not None and isinstance(data, polars.DataFrame):
        columns = {column: str(kind) for column, kind in data.schema.items()}
        hashed = data.hash_rows(seed=0).to_numpy().tobytes() if data.width else b""
        return json.dumps(columns).encode() + hashed, data.shape, json.dumps(columns)
    if hasattr(data, "dtypes") and hasattr(data, "to_numpy") and hasattr(data, "columns"):  # pandas
        columns = {str(column): str(kind) for column, kind in data.dtypes.items()}
        from pandas.util import hash_pandas_object

        hashed = hash_pandas_object(data).to_numpy().tobytes()
        return json.dumps(columns).encode() + hashed, data.shape, json.dumps(columns)
    if numpy is not None and isinstance(data, numpy.ndarray) and data.dtype != object:
        head = f"{data.dtype.str}{data.shape}".encode()
        return head + numpy.ascontiguousarray(data).tobytes(), data.shape, json.dumps({"dtype": data.dtype.str})
    return None, (), None


def _product(shape: tuple[int, ...]) -> int:
    found = 1
    for one in shape:
        found *= int(one)
    return found


def figure_bytes(figure: Any, path: str) -> bytes:
    """A figure in the format that the end of `path` names.

    Raises
    ------
    Invalid
        If it is no figure of matplotlib or plotly, nor a picture of PIL.
    """
    kind = path.rpartition(".")[2].lower()
    out = io.BytesIO()
    if hasattr(figure, "savefig"):
        figure.savefig(out, format=kind)
    elif hasattr(figure, "to_html") and hasattr(figure, "to_plotly_json"):
        text: str = figure.to_html() if kind == "html" else figure.to_json()
        return text.encode()
    elif hasattr(figure, "save") and hasattr(figure, "getbbox"):
        figure.save(out, format={"jpg": "JPEG"}.get(kind, kind.upper()))
    else:
        raise Invalid(
            f"a {type(figure).__name__} is no figure", why="figures are of matplotlib, plotly or PIL",
            fix="write it to a file and use log_artifact",
        )  # fmt: skip
    return out.getvalue()
