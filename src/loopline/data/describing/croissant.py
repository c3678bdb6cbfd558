"""A table as a Croissant 1.0 document: what the field's catalogues read.

https://docs.mlcommons.org/croissant/docs/croissant-spec.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import polars as pl

from loopline.base.errors import Conflict, NotFound
from loopline.base.ids import file_digest
from loopline.data.describing.dataset import Dataset, show
from loopline.data.history.known import known
from loopline.data.privacy.marks import visible
from loopline.data.privacy.pseudonyms import secret
from loopline.data.privacy.treatments import shown
from loopline.data.spec import TableSpec
from loopline.workspace import Workspace, query

CONTEXT: Mapping[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
Form = Literal["parquet", "csv"]
MEDIA = {".parquet": "application/x-parquet", ".csv": "text/csv"}
UNKNOWN_LICENSE = "https://spdx.org/licenses/LicenseRef-unknown"


@query("data.croissant")
def croissant(ws: Workspace, tables: Mapping[str, TableSpec], project: Path, name: str) -> dict[str, Any]:
    """The Croissant document of a table, without a file of its rows and so without its columns."""
    return document(show(ws, tables, project, name), tables[name], url="", file=None)


def export(
    ws: Workspace, tables: Mapping[str, TableSpec], project: Path, name: str, out: Path, *, form: Form = "parquet"
) -> dict[str, Any]:
    """Write the rows of a table as known now beside a Croissant document that describes them.

    Rows go to a file with the document's name, personal columns treated as the
    contract declares and masked where it declares nothing. CSV keeps no lists.

    Raises
    ------
    NotFound
        If there is no such table, or it holds nothing yet.
    Conflict
        If one of the two files is there already.
    """
    dataset = show(ws, tables, project, name)
    if ws.tables.version(name) is None:
        raise NotFound(f"table {name} holds nothing yet", why="no rows were ingested", fix="loopline data ingest")
    rows = out.with_suffix(f".{form}")
    for path in (out, rows):
        if path.exists():
            raise Conflict(f"{path} is already there", why="nothing is overwritten", fix="choose another name")
    found = visible(ws, name, tables[name], project)
    key = secret(ws) if any(t.how == "pseudonym" for t in found.values()) else None
    frame = shown(known(ws, name, tables[name], ws.clock()).collect(), found, key)
    out.parent.mkdir(parents=True, exist_ok=True)
    if form == "csv":
        frame = frame.drop([column for column, dtype in frame.schema.items() if dtype.is_nested()])
        frame.write_csv(rows)
    else:
        frame.write_parquet(rows)
    doc = document(dataset, tables[name], url=rows.name, file=rows, types=dict(frame.schema))
    out.write_text(json.dumps(doc, indent=2, ensure_ascii=False) + "\n")
    return doc


def document(
    dataset: Dataset,
    spec: TableSpec,
    *,
    url: str,
    file: Path | None,
    types: Mapping[str, pl.DataType] | None = None,
) -> dict[str, Any]:
    """What is known of a table in the words of Croissant; its file as the one source of the fields."""
    name = dataset.card.name
    doc: dict[str, Any] = {
        "@context": dict(CONTEXT),
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": name,
        "description": dataset.description or f"Table {name}.",
        "license": UNKNOWN_LICENSE,
        "url": url or name,
        "version": _semantic(dataset.contract_version),
        "isLiveDataset": True,
    }
    if dataset.owner:
        doc["creator"] = {"@type": "sc:Organization", "name": dataset.owner}
    if dataset.card.known_to:
        doc["datePublished"] = dataset.card.known_to.date().isoformat()
        doc["dateModified"] = dataset.card.known_to.date().isoformat()
    personal = [c for c in dataset.columns if c.personal is not None and c.personal.pii is not None]
    if personal:
        doc["rai:personalSensitiveInformation"] = [
            f"{c.name}: {c.personal.pii} ({c.personal.state})" for c in personal if c.personal
        ]
    if file is not None:
        doc["distribution"] = [
            {
                "@type": "cr:FileObject",
                "@id": "rows",
                "name": "rows",
                "contentUrl": url,
                "contentSize": f"{file.stat().st_size} B",
                "encodingFormat": MEDIA[file.suffix],
                "sha256": file_digest(file),
            }
        ]
    columns = [c for c in dataset.columns if types is None or c.name in types]
    fields = [_field(c.name, str((types or {}).get(c.name, c.type)), c.description, file is not None) for c in columns]
    record: dict[str, Any] = {"@type": "cr:RecordSet", "@id": name, "name": name, "field": fields}
    if spec.key and all(key in {c.name for c in columns} for key in spec.key):
        record["key"] = [{"@id": f"{name}/{key}"} for key in spec.key]
    for item in fields:
        item["@id"] = f"{name}/{item['name']}"
    return doc | {"recordSet": [record]} if fields and file is not None else doc


def _field(name: str, type: str, description: str, sourced: bool) -> dict[str, Any]:
    field: dict[str, Any] = {"@type": "cr:Field", "@id": name, "name": name, "dataType": _data_type(type)}
    if description:
        field["description"] = description
    if sourced:
        field["source"] = {"fileObject": {"@id": "rows"}, "extract": {"column": name}}
    return field


def _data_type(type: str) -> str:
    if type.startswith("List("):
        return _data_type(type[5:-1])
    if type.startswith(("Int", "UInt")):
        return "sc:Integer"
    if type.startswith(("Float", "Decimal")):
        return "sc:Float"
    if type.startswith("Datetime"):
        return "sc:DateTime"
    return {"Boolean": "sc:Boolean", "Date": "sc:Date"}.get(type, "sc:Text")


def _semantic(version: str | None) -> str:
    """A version of three numbers, which the format asks for."""
    parts = [p for p in (version or "").split(".") if p.isdigit()][:3]
    return ".".join([*parts, "0", "0", "0"][:3]) if parts else "1.0.0"
