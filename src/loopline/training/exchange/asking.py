"""Requests to the one server that whoever imports has named, and to no other."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from loopline.base import settings
from loopline.base.errors import Denied, Invalid, NotFound, Unavailable

PATIENCE_S = 60.0
TRIES = 4
LARGEST = 256 << 20
"""Bytes of an answer in JSON."""
CHUNK = 1 << 20
PAGES = 1_000_000


class Asking:
    """One connection, kept open. Redirects are told, not followed; answers are bounded.

    Credentials come from the environment as MLflow's client takes them: `MLFLOW_TRACKING_TOKEN`, or
    `MLFLOW_TRACKING_USERNAME` and `MLFLOW_TRACKING_PASSWORD`.
    """

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        try:
            port = parts.port
        except ValueError:
            port = 0
        if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or parts.query or parts.fragment:
            raise Invalid(
                f"{address!r:.200} is no address of a server", why="it is like https://host:port/path", fix="give one"
            )
        if parts.username or parts.password:
            raise Invalid(
                "the address holds a name or a password",
                why="addresses are shown and recorded",
                fix="set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN",
            )
        self.secure, self.host, self.port = parts.scheme == "https", parts.hostname, port
        self.base = parts.path.rstrip("/")
        self.address = f"{parts.scheme}://{parts.netloc}{self.base}"
        self._headers = {"Accept": "application/json", "User-Agent": "loopline"}
        name, password, token = settings.mlflow_credentials()
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        elif name and password:
            self._headers["Authorization"] = "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()
        self._door: http.client.HTTPConnection | None = None

    def is_same(self, netloc: str) -> bool:
        """Whether an address with this host and port is that of the server."""
        found = urlsplit(f"//{netloc}")
        usual = 443 if self.secure else 80
        try:
            return found.hostname == self.host and (found.port or usual) == (self.port or usual)
        except ValueError:
            return False

    def get(self, path: str, /, **given: Any) -> dict[str, Any]:
        """The JSON answer to a GET."""
        return self._json("GET", path + ("?" + urlencode(given, quote_via=quote) if given else ""), None)

    def post(self, path: str, /, **fields: Any) -> dict[str, Any]:
        """The JSON answer to a POST."""
        return self._json("POST", path, json.dumps(fields).encode())

    def pages(self, path: str, items: str, method: str = "POST", /, **fields: Any) -> Iterator[dict[str, Any]]:
        """Items of every page, until there is no further token."""
        token: str | None = None
        seen: set[str] = set()
        while True:
            asked = fields if token is None else {**fields, "page_token": token}
            answer = self.post(path, **asked) if method == "POST" else self.get(path, **asked)
            found = answer.get(items)
            for item in found if isinstance(found, list) else []:
                if isinstance(item, dict):
                    yield item
            following = answer.get("next_page_token")
            if not isinstance(following, str) or not following:
                return
            if following in seen or len(seen) > PAGES:
                raise Unavailable(
                    f"{self.address} sends the same page again", why="its pages go in a circle", fix="update the server"
                )
            seen.add(following)
            token = following

    def stream(self, path: str) -> Iterator[bytes]:
        """The bytes of a file, a piece at a time."""
        reply = self._sent("GET", path, None)
        try:
            while piece := reply.read(CHUNK):
                yield piece
        except (http.client.HTTPException, OSError) as error:
            raise OSError(f"the server broke off: {error}") from error
        finally:
            if not reply.isclosed():
                self.close()

    def _json(self, method: str, path: str, body: bytes | None) -> dict[str, Any]:
        try:
            data = self._sent(method, path, body).read(LARGEST + 1)
            if len(data) > LARGEST:
                raise ValueError(f"it has more than {LARGEST:,} bytes")
            doc = json.loads(data)
            if not isinstance(doc, dict):
                raise ValueError("it is no object")
        except (ValueError, RecursionError, http.client.HTTPException, OSError) as error:
            self.close()
            raise Unavailable(
                f"{self.address} gave no answer to {path[:80]}: {error}",
                why="it should be JSON",
                fix="see that it is a tracking server",
            ) from error
        return doc

    def _sent(self, method: str, path: str, body: bytes | None) -> http.client.HTTPResponse:
        headers = self._headers | ({"Content-Type": "application/json"} if body is not None else {})
        last = ""
        for attempt in range(TRIES):
            if attempt:
                time.sleep(0.2 * 2**attempt)
            try:
                door = self._opened()
                door.request(method, self.base + path, body=body, headers=headers)
                reply = door.getresponse()
            except (http.client.HTTPException, OSError) as error:
                self.close()
                last = str(error)
                continue
            if reply.status == 200:
                return reply
            said = reply.read(2_000).decode("utf-8", "replace")
            self.close()
            if reply.status in (401, 403):
                raise Denied(
                    f"{self.address} refuses: {reply.status}",
                    why="it wants credentials, or others",
                    fix="set MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
                )
            if 300 <= reply.status < 400:
                raise Invalid(
                    f"{self.address} sends on to {reply.headers.get('Location', 'elsewhere')!r:.200}",
                    why="only the server that was named is asked",
                    fix="give the address that it sends to",
                )
            if reply.status == 429 or reply.status >= 500:
                last = f"{reply.status} {said[:200]}"
                continue
            raise NotFound(
                f"{self.address} answers {reply.status} to {path[:80]}: {said[:200]}",
                why="it knows no such thing",
                fix="see that it is a tracking server",
            )
        raise Unavailable(
            f"{self.address} does not answer: {last}",
            why=f"{TRIES} tries failed",
            fix="start it, then do the same again; what came stays",
        )

    def _opened(self) -> http.client.HTTPConnection:
        if self._door is None:
            if self.secure:
                context = ssl.create_default_context()
                self._door = http.client.HTTPSConnection(self.host, self.port, timeout=PATIENCE_S, context=context)
            else:
                self._door = http.client.HTTPConnection(self.host, self.port, timeout=PATIENCE_S)
        return self._door

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._door is not None:
            self._door.close()
            self._door = None
