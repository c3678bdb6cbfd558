"""Where a version's files come from: addresses that clients give, checked."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from loopline.interfaces.mlflow import names
from loopline.interfaces.mlflow.errors import invalid
from loopline.interfaces.mlflow.operations import Call
from loopline.interfaces.mlflow.registry_bundle import show
from loopline.registry.shelf import Entry, entries, entry, pointed_at, shelf
from loopline.store.runs.artifacts import clean

ELSEWHERE = frozenset({"s3", "gs", "abfs", "abfss", "wasb", "wasbs", "hdfs", "r2", "b2", "https", "dbfs", "oci"})
"""Schemes that a version may point at without its bytes being here."""
_MODEL = re.compile(r"/?(m-[0-9a-f]{32})(?:/(.*))?", re.DOTALL)
_VERSION = re.compile(r"/?([^/@]+)/(\d{1,18})/?", re.DOTALL)
_ALIAS = re.compile(r"/?([^/@]+)@([\w-]+)/?", re.DOTALL)


class Source(NamedTuple):
    """Whose files they are, below which folder; no owner where the bytes lie elsewhere."""

    owner: str | None
    path: str = ""
    run: str | None = None
    model: str | None = None


def source(call: Call, given: str, run: str | None, model: str | None) -> Source:
    """What an address stands for.

    Raises
    ------
    Refusal
        For files on this machine's disk, addresses that lead upwards, and schemes nobody knows.
    """
    _require_straight(given)
    parts = urlsplit(given)
    scheme = parts.scheme.lower()
    rest = given[len(parts.scheme) + 1 :]
    if scheme == "models":
        return _of_models(call, given, rest, run, model)
    if scheme == "runs":
        owner, _, path = rest.lstrip("/").partition("/")
        if parts.netloc or (run and owner != run):
            raise _wrong(given, "its run is not the one that run_id names")
        return _kept(call, owner, path, run or owner, model)
    if scheme == "mlflow-artifacts" or (scheme in ("http", "https") and "/mlflow-artifacts/artifacts/" in parts.path):
        path = parts.path.partition("/mlflow-artifacts/artifacts/")[2] if scheme != "mlflow-artifacts" else parts.path
        owner, below = names.address(path.strip("/"))
        return _kept(call, owner, below, run, model)
    if scheme in ELSEWHERE and parts.netloc:
        return Source(None, run=run, model=model)
    raise _wrong(
        given,
        "files on a server's disk are never registered, and an address begins with models:, runs:, "
        "mlflow-artifacts: or the scheme of an object store",
    )


def _kept(call: Call, owner: str, path: str, run: str | None, model: str | None) -> Source:
    """Files among the artifacts, of an owner that exists."""
    if owner.startswith("m-"):
        found = call.log.model(owner)
        return Source(owner, _folder(path), run or found.run, model or owner)
    call.log.run(owner)
    return Source(owner, _folder(path), run or owner, model)


def _folder(path: str) -> str:
    return clean(path.rstrip("/")) if path.rstrip("/") else ""


def _of_models(call: Call, given: str, rest: str, run: str | None, model: str | None) -> Source:
    if rest.startswith("//"):
        raise _wrong(given, "it names another server")
    if (logged := _MODEL.fullmatch(rest)) is not None:
        if model and logged[1] != model:
            raise _wrong(given, "its model is not the one that model_id names")
        return _kept(call, logged[1], logged[2] or "", run, logged[1])
    found: Entry | None = None
    if (numbered := _VERSION.fullmatch(rest)) is not None:
        found = entry(call.ws, unquote(numbered[1]), int(numbered[2]))
    elif (aliased := _ALIAS.fullmatch(rest)) is not None:
        on = shelf(call.ws, unquote(aliased[1]))
        found = pointed_at(entries(call.ws, on.name), on.aliases.get(aliased[2], "-"))
    if found is None:
        raise _wrong(given, "it is models:/<name>/<version>, models:/<name>@<alias> or models:/m-<id>")
    if found.deposit is None:
        assert found.version is not None
        return Source(show(call.ws, found.version), "", run, model)
    if not found.deposit.files:
        return Source(None, run=run or found.run, model=model or found.deposit.logged_model)
    return Source(found.deposit.id[:32], "", run or found.run, model or found.deposit.logged_model)


def _require_straight(given: str) -> None:
    bare = given
    for _ in range(8):
        if (again := unquote(bare)) == bare:
            break
        bare = again
    else:
        raise _wrong(given, "it is encoded many times over")
    for text in (given, bare):
        if any(ord(letter) < 32 or letter in "\\\x7f" for letter in text) or any(
            part in (".", "..") for part in re.split(r"[/?#]", text)
        ):
            raise _wrong(given, "it holds '.', '..', a backslash or a control character, which lead elsewhere")
    if len(given) > 2_000:
        raise _wrong(given, "it has more than 2,000 characters")


def _wrong(given: str, why: str) -> Exception:
    return invalid(f"Invalid model version source: {given[:200]!r}. {why[0].upper()}{why[1:]}.")
