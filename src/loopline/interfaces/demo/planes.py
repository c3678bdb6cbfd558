"""The control plane and the data plane of a played world, started and asked as any user does."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from loopline import serving
from loopline.base import settings
from loopline.base.clock import monotonic
from loopline.base.errors import FAMILIES, Conflict, Unavailable
from loopline.interfaces.serve import HOST
from loopline.workspace import Workspace

START_S = 60.0
TICK_S = 600.0


class Planes:
    """`loopline up` in a process of its own.

    Parameters
    ----------
    ws : Workspace
        Of the played project.
    project : Path
        Its folder.
    name : str
        Of its endpoint.
    port : int
        Of the control plane; predictions are at `port + 1`.
    """

    def __init__(self, ws: Workspace, project: Path, name: str, port: int) -> None:
        self._ws, self._project, self._name, self.port = ws, project, name, port
        self._control: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the control plane, which starts the data plane where none runs; return when it answers."""
        folder = self._ws.root / "run"
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "loopline", "up", "--project", str(self._project), "--port", str(self.port)]
        with (folder / "control.log").open("ab") as out:
            self._control = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                env=settings.child_environment(LOOPLINE_ACTOR="service:loop"),
            )
        deadline = monotonic() + START_S
        while True:
            try:
                self._get(self.port, "/health")
                return
            except (OSError, http.client.HTTPException):
                if self._control.poll() is not None or monotonic() > deadline:
                    tail = (folder / "control.log").read_text(errors="replace")[-1500:]
                    raise Unavailable(
                        "the control plane did not start", why=tail.strip(), fix="mend this and run the demo again"
                    ) from None
                threading.Event().wait(0.05)

    def kill(self) -> None:
        """Have the control plane die at once; the data plane goes on."""
        if self._control is not None:
            os.kill(self._control.pid, signal.SIGKILL)
            self._control.wait()

    def stop(self) -> None:
        """End both planes."""
        if self._control is not None and self._control.poll() is None:
            self._control.send_signal(signal.SIGTERM)
            try:
                self._control.wait(timeout=40)
            except subprocess.TimeoutExpired:
                self._control.kill()
        pid = serving.supervisor_pid(self._ws, self._name)
        if pid is not None:
            os.kill(pid, signal.SIGTERM)

    def tick(self) -> None:
        """Have the control plane go as far as it can; where it moves already, wait for that."""
        deadline = monotonic() + TICK_S
        while True:
            door = http.client.HTTPConnection(HOST, self.port, timeout=TICK_S)
            try:
                door.request("POST", "/api/v1/loop/tick", b"{}", {"Content-Type": "application/json"})
                answer = door.getresponse()
                doc = json.loads(answer.read())
            finally:
                door.close()
            if answer.status == 409 and monotonic() < deadline:
                threading.Event().wait(0.05)
                continue
            if answer.status >= 400:
                error = doc.get("error", {})
                family = FAMILIES.get(error.get("code", ""), Conflict)
                raise family(error.get("what", str(doc)), why=error.get("why", ""), fix=error.get("fix", ""))
            return

    def inputs(self) -> set[str]:
        """What the endpoint asks for, as its metadata says."""
        doc = self._get(self.port + 1, f"/v2/models/{self._name}")
        return {item["name"] for item in doc["inputs"]}

    def _get(self, port: int, path: str) -> Any:
        door = http.client.HTTPConnection(HOST, port, timeout=10)
        try:
            door.request("GET", path)
            answer = door.getresponse()
            return json.loads(answer.read() or b"{}")
        finally:
            door.close()
