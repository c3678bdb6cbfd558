"""From the spool to where runs are kept: a workspace on this machine, or a server."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

from loopline.base import settings
from loopline.base.errors import Denied, Invalid, Unavailable
from loopline.base.log import logger
from loopline.training.tracking import frames as framing
from loopline.training.tracking.frames import End, File
from loopline.training.tracking.receiving import Taken, take
from loopline.training.tracking.spool import Waiting, bytes_of, drop_bytes
from loopline.workspace import Workspace, authorise, create_workspace

log = logger(__name__)

PATIENCE_S = 10.0
LONGEST_PAUSE_S = 30.0
ROUTE = "/api/v1/runs/frames/send"


class Target(Protocol):
    """Where frames go. `Unavailable` means: later."""

    def send(self, data: bytes, frames: list[Any], spool: Path) -> Taken: ...

    def close(self) -> None: ...


class Here:
    """A workspace on this machine: one that is open, or a folder that is opened (made, if there is none) when used."""

    def __init__(self, given: Workspace | Path) -> None:
        self._given = given
        self._ws: Workspace | None = None

    def send(self, data: bytes, frames: list[Any], spool: Path) -> Taken:
        """Write frames into its run log."""
        if self._ws is None:
            self._ws = self._given if isinstance(self._given, Workspace) else create_workspace(self._given)
        authorise(self._ws, "training.log")
        return take(self._ws.runs, self._ws.artifacts, frames, spool=spool)

    def close(self) -> None:
        """Close what was opened here."""
        if self._ws is not None and not isinstance(self._given, Workspace):
            self._ws.close()
        self._ws = None


class Server:
    """A server, over one connection that is kept.

    Parameters
    ----------
    address : str
        `http://host:port` or `https://...`; a path before the API is kept.
    """

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Invalid(
                f"{address!r} is no address of a server",
                why="LOOPLINE_TRACKING_URI names a server, or the folder of a workspace",
                fix="set it for example to http://127.0.0.1:8400",
            )
        self.address, self._parts = address, parts
        self._connection: http.client.HTTPConnection | None = None

    def send(self, data: bytes, frames: list[Any], spool: Path) -> Taken:
        """Send frames; the bytes of large files go before the frames that follow them."""
        whole = Taken()
        for part, large in _around_files(data, frames):
            if part:
                answer = json.loads(self._ask("POST", ROUTE, part, "application/x-loopline-frames"))
                whole.frames += int(answer["frames"])
                whole.refused += [str(one) for one in answer["refused"]]
            if large is not None:
                self._put(large, spool, whole)
                whole.frames += 1
        return whole

    def _put(self, frame: File, spool: Path, whole: Taken) -> None:
        path = f"/api/2.0/mlflow-artifacts/artifacts/0/{frame.run}/artifacts/{quote(frame.path)}"
        try:
            with bytes_of(spool, frame.digest).open("rb") as file:
                self._ask("PUT", path, file, "application/octet-stream", size=frame.size)
        except FileNotFoundError:
            whole.refused.append(f"the bytes of {frame.path!r} are gone")
        except Invalid as error:
            whole.refused.append(error.what)

    def _ask(self, method: str, path: str, body: Any, kind: str, *, size: int | None = None) -> bytes:
        headers = {"Content-Type": kind, "Content-Length": str(len(body) if size is None else size)}
        if (token := settings.token()) is not None:
            headers["Authorization"] = f"Bearer {token}"
        try:
            connection = self._connected()
            connection.request(method, self._parts.path.rstrip("/") + path, body, headers)
            response = connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Unavailable(
                f"{self.address} does not answer: {error}",
                why="the server is down, or out of reach",
                fix="nothing is lost: `loopline runs sync` delivers what waits",
            ) from error
        if response.status == 200:
            return answer
        said = answer[:300].decode(errors="replace")
        if response.status in (400, 409, 416, 422):
            raise Invalid(
                f"{self.address} refused: {said}", why=f"it answered {response.status}", fix="mend what it names"
            )
        if response.status in (401, 403):
            raise Denied(
                f"{self.address} lets us not in: {said}",
                why=f"it answered {response.status}",
                fix="set LOOPLINE_TOKEN to its token, then `loopline runs sync`",
            )
        raise Unavailable(
            f"{self.address} answered {response.status}: {said}",
            why="it cannot take runs now, or is no server of Loopline",
            fix="nothing is lost: `loopline runs sync` delivers what waits",
        )

    def _connected(self) -> http.client.HTTPConnection:
        if self._connection is None:
            host, port = self._parts.hostname or "", self._parts.port
            if self._parts.scheme == "https":
                context = ssl.create_default_context()
                self._connection = http.client.HTTPSConnection(host, port, timeout=PATIENCE_S, context=context)
            else:
                self._connection = http.client.HTTPConnection(host, port, timeout=PATIENCE_S)
        return self._connection

    def close(self) -> None:
        """Hang up."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _around_files(data: bytes, frames: list[Any]) -> list[tuple[bytes, File | None]]:
    """The bytes in parts, each with the large file that comes after it."""
    found: list[tuple[bytes, File | None]] = []
    start = at = 0
    for frame in frames:
        length = int.from_bytes(data[at + 4 : at + 8], "little") + 20
        if isinstance(frame, File) and frame.data is None:
            found.append((data[start:at], frame))
            start = at + length
        at += length
    found.append((data[start:at], None))
    return found


def target_of(uri: str | None, here: Path) -> Target:
    """Where a tracking URI leads; the workspace `here` where there is none."""
    if uri is None:
        return Here(here)
    if "://" in uri and not uri.startswith("file://"):
        return Server(uri)
    return Here(Path(uri.removeprefix("file://")).expanduser().absolute())


@dataclass(slots=True)
class Delivered:
    """What came of delivering a file of the spool."""

    frames: int = 0
    refused: list[str] = field(default_factory=list)
    ended: bool = False
    """Whether the end of the run is among them."""
    damaged: bool = False
    large: list[str] = field(default_factory=list)
    """Digests of large files that are where they belong now."""


def deliver(
    file: Waiting, target: Target, *, sent: int | None = None, goes_on: Callable[[], bool] = lambda: True
) -> tuple[int, Delivered]:
    """Deliver what is in a file of the spool beyond what was; how far that is now.

    Raises
    ------
    Unavailable, Denied
        If it cannot be delivered now. What was delivered before is noted.
    """
    done = Delivered()
    at = file.sent if sent is None else sent
    while goes_on():
        data = file.read(at)
        found = framing.cut(data)
        if not found.frames:
            done.damaged = found.damaged
            return at, done
        frames = [frame for _, frame in found.frames]
        taken = target.send(data[: found.end], frames, file.path.parent)
        at += found.end
        file.mark(at)
        done.frames += taken.frames
        done.refused += taken.refused
        done.ended |= any(isinstance(frame, End) for frame in frames)
        for frame in frames:
            if isinstance(frame, File) and frame.data is None:
                done.large.append(frame.digest)
    return at, done


class Courier:
    """Delivers what one writer appends, in a thread of its own, as long as somebody takes it."""

    def __init__(self, file: Waiting, target: Target) -> None:
        self._file, self._target = file, target
        self._sent, self._appended = 0, 0
        self._bell = threading.Condition()
        self._stop = False
        self._told: set[str] = set()
        self._pause = self._last_pause = 0.0
        self._failed = 0
        self._large: list[str] = []
        self.ended = False
        self._thread = threading.Thread(target=self._work, name="loopline-courier", daemon=True)
        self._thread.start()

    def appended(self, size: int) -> None:
        """Tell it how large the file is now."""
        with self._bell:
            self._appended = size
            self._bell.notify_all()

    def settle(self, seconds: float) -> bool:
        """Wait until all that was appended is delivered, nobody takes it, or the time is over; whether it is."""
        with self._bell:
            self._pause, failed = 0.0, self._failed
            self._bell.notify_all()
            self._bell.wait_for(lambda: self._sent >= self._appended or self._failed > failed, seconds)
            return self._sent >= self._appended

    def close(self) -> bool:
        """Stop; whether all that was appended is delivered."""
        with self._bell:
            self._stop = True
            self._bell.notify_all()
        self._thread.join(1.0)
        done = self._sent >= self._appended
        if done:
            for digest in self._large:
                drop_bytes(self._file.path.parent, digest)
        return done

    def _work(self) -> None:
        try:
            while True:
                with self._bell:
                    self._bell.wait_for(lambda: self._stop or (self._appended > self._sent and not self._pause), 0.5)
                    if self._stop:
                        return
                    if self._pause:
                        self._bell.wait_for(lambda: self._stop or not self._pause, self._pause)
                    if self._stop:
                        return
                    if self._appended <= self._sent:
                        continue
                self._once()
        finally:
            self._target.close()

    def _once(self) -> None:
        try:
            sent, done = deliver(self._file, self._target, sent=self._sent, goes_on=lambda: not self._stop)
        except Exception as error:
            sent = self._file.sent
            self._say(str(getattr(error, "what", error)), "the run goes on; `loopline runs sync` delivers what waits")
            with self._bell:
                self._pause = min(LONGEST_PAUSE_S, max(0.5, 2 * self._last_pause))
                self._last_pause = self._pause
                self._sent = max(sent, self._sent)
                self._failed += 1
                self._bell.notify_all()
            return
        for one in done.refused:
            self._say(one, "it is left out of the run")
        self._large += done.large
        self.ended |= done.ended
        with self._bell:
            self._sent, self._pause, self._last_pause = sent, 0.0, 0.0
            self._bell.notify_all()

    def _say(self, what: str, then: str) -> None:
        if what not in self._told and len(self._told) < 20:
            self._told.add(what)
            log.warning("%s; %s", what, then)


__all__ = ["Courier", "Delivered", "Denied", "Here", "Server", "Target", "deliver", "target_of"]
