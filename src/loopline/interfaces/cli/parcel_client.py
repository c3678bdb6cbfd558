"""A server that parcels are fetched from and brought to."""

from __future__ import annotations

import http.client
import json
import ssl
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from loopline.base import settings
from loopline.base.errors import FAMILIES, Denied, Invalid, Unavailable

ABOVE = "/api/v1/runs/parcels"
PATIENCE_S = 600.0
LARGEST_ANSWER = 1 << 28
_CHUNK = 1 << 20


class Server:
    """A running Loopline, over one connection; LOOPLINE_TOKEN lets us in."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        try:
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        if not host:
            raise Invalid(f"{address!r} is no address of a server", why="it has no host", fix="http://host:8400")
        self.address, self._above = address, parts.path.rstrip("/")
        if parts.scheme == "https":
            context = ssl.create_default_context()
            self._connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, port, timeout=PATIENCE_S, context=context
            )
        else:
            self._connection = http.client.HTTPConnection(host, port, timeout=PATIENCE_S)

    def inventory(self) -> dict[str, Any]:
        """What is there."""
        return self._document(self._ask("GET", "inventory"))

    def take(self, path: Path) -> dict[str, Any]:
        """Bring a parcel; what came of it."""
        with path.open("rb") as parcel:
            size = str(path.stat().st_size)
            return self._document(self._ask("POST", "take", parcel, {"Content-Length": size}))

    def give(self, have: dict[str, Any], into: Path, *, at_most: int) -> None:
        """Fetch a parcel with what is not in `have`."""
        response = self._ask("POST", "give", json.dumps(have).encode(), {"Content-Type": "application/json"})
        size = 0
        try:
            with into.open("wb") as file:
                while part := response.read(_CHUNK):
                    size += len(part)
                    if size > at_most:
                        raise Invalid(
                            f"{self.address} sends more than {at_most:,} bytes",
                            why="--at-most says so",
                            fix="allow more",
                        )
                    file.write(part)
        except (OSError, http.client.HTTPException) as error:
            raise self._silent(error) from error

    def _ask(
        self, method: str, what: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> http.client.HTTPResponse:
        sent = dict(headers or {})
        if (token := settings.token()) is not None:
            sent["Authorization"] = f"Bearer {token}"
        try:
            self._connection.request(method, f"{self._above}{ABOVE}/{what}", body, sent)
            response = self._connection.getresponse()
            if response.status == 200:
                return response
            answer = response.read(1 << 16)
        except (OSError, http.client.HTTPException) as error:
            raise self._silent(error) from error
        if response.status in (401, 403):
            raise Denied(
                f"{self.address} lets us not in",
                why=f"it answered {response.status}",
                fix="set LOOPLINE_TOKEN to its token",
            )
        try:
            told = json.loads(answer)["error"]
            family, what, why, fix = FAMILIES[told["code"]], str(told["what"]), str(told["why"]), str(told["fix"])
        except (ValueError, KeyError, TypeError):
            family, what, why = Unavailable, f"{self.address} answered {response.status}", "it is no Loopline of today"
            fix = "check the address, and that it is up to date"
        raise family(what, why=why, fix=fix)

    def _document(self, response: http.client.HTTPResponse) -> dict[str, Any]:
        try:
            doc = json.loads(response.read(LARGEST_ANSWER))
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._silent(error) from error
        if not isinstance(doc, dict):
            raise self._silent(ValueError("no JSON object"))
        return doc

    def _silent(self, error: Exception) -> Unavailable:
        return Unavailable(
            f"{self.address} does not answer as it should: {error}",
            why="the server is down, out of reach, or another program",
            fix="do the same again: what arrived before is kept",
        )

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._connection.close()
