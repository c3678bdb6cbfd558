"""One worker: a program that its supervisor starts with the listening socket.

It goes on alone when the supervisor dies; the next supervisor asks it for the
socket and then has it drain.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import functools
import gc
import json
import os
import signal
import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
import uvloop

from loopline.base.errors import LooplineError
from loopline.base.log import logger
from loopline.base.nouns import from_doc
from loopline.interfaces.inference.app import App
from loopline.interfaces.inference.children import worker_door
from loopline.interfaces.inference.messages import Reader
from loopline.interfaces.inference.protocol import InferenceProtocol, Turn
from loopline.serving.engine import Engine
from loopline.serving.nouns import DesiredState
from loopline.serving.route import Loaded, Route
from loopline.serving.state import Place, short_path
from loopline.training.bundle import Bundle, load_bundle
from loopline.training.packages.trust import Trust
from loopline.workspace import Stores

REPORT_S = 0.1
SWEEP_S = 5.0
DRAIN_S = 0.5
ALONE_S = 300.0
"""How long a worker serves without a supervisor."""

_log = logger(__name__)


class Server(uvicorn.Server):
    """uvicorn's server, which closes connections with their next answer before it stops."""

    def __init__(self, config: uvicorn.Config, turn: Turn) -> None:
        super().__init__(config)
        self._turn = turn

    def handle_exit(self, sig: int, frame: Any) -> None:
        if self._turn.draining:
            self.should_exit = True
        self._turn.draining = True
        threading.Timer(DRAIN_S, self._stop).start()

    def _stop(self) -> None:
        self.should_exit = True


class Worker:
    """The process: control on one side, requests on the other."""

    def __init__(self, place: Place, listener: socket.socket, control: socket.socket) -> None:
        self._place, self._listener, self._control = place, listener, control
        self._engine = Engine(place.endpoint, place.segments, f"{os.getpid()}-{os.urandom(4).hex()}")
        self.turn = Turn(self._engine)
        config = uvicorn.Config(
            App(self.turn, place.folder / "metrics.json"),
            http=functools.partial(InferenceProtocol, self.turn),  # type: ignore[arg-type]
            loop="none",
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=20,
        )
        self._server = Server(config, self.turn)
        self._bundles: dict[str, Bundle] = {}
        self._stores = Stores(place.workspace)
        self._door = worker_door(place, os.getpid())

    async def run(self) -> None:
        """Serve until told to stop."""
        reader, self._out = await asyncio.open_connection(sock=self._control)
        await self._take(json.loads(await reader.readline()))
        threading.Thread(target=self._give_socket, daemon=True).start()
        tasks = [asyncio.create_task(self._follow(reader)), asyncio.create_task(self._tick())]
        gc.collect()
        gc.freeze()
        try:
            await self._server.serve(sockets=[self._listener])
        finally:
            for task in tasks:
                task.cancel()
            self.turn.flush()
            self._engine.close()
            self._report()
            with suppress(OSError):
                await self._out.drain()
            self._door.unlink(missing_ok=True)

    async def _follow(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            await self._take(json.loads(line))
        _log.warning("the supervisor is gone; serving on for %d s", ALONE_S)
        await asyncio.sleep(ALONE_S)
        self._server.handle_exit(signal.SIGTERM, None)

    async def _take(self, message: dict[str, Any]) -> None:
        """Load what the message names, in a thread, and swap to it; say what came of it."""
        reply: dict[str, Any] = {"seq": message["seq"]}
        try:
            if message["desired"] is None:
                route, door = None, Reader(None)
            else:
                loop = asyncio.get_running_loop()
                route, door = await loop.run_in_executor(None, self._load, message)
                reply["slack"] = route.slack
            self._report()
            self.turn.swap(route, door)
        except LooplineError as error:
            reply["error"] = error.what
        except Exception as error:  # whatever a damaged bundle does, the last good one is served
            _log.exception("a route could not be loaded")
            reply["error"] = f"{type(error).__name__}: {error}"
        self._say(reply)

    def _load(self, message: dict[str, Any]) -> tuple[Route, Reader]:
        desired = from_doc(DesiredState, message["desired"])
        kept: dict[str, Bundle] = {}
        trust = Trust.of(message.get("trust"))
        for variant in desired.variants:
            known = self._bundles.get(variant.bundle)
            kept[variant.bundle] = known or load_bundle(Path(message["bundles"][variant.bundle]), trust)
        store = self._stores.online if desired.online else None
        loaded = [Loaded.of(variant, kept[variant.bundle], store) for variant in desired.variants]
        for item in loaded:
            item.bundle.score(np.zeros((1, len(item.bundle.inputs)), np.float32))
        route = Route(desired, loaded)
        door = Reader(route)
        self._bundles = kept
        return route, door

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        swept = loop.time()
        while True:
            await asyncio.sleep(REPORT_S)
            self._engine.killed = self._place.killed.exists()
            self._report()
            if loop.time() - swept > SWEEP_S:
                swept = loop.time()
                for connection in list(self._server.server_state.connections):
                    if isinstance(connection, InferenceProtocol):
                        connection.sweep(swept)

    def _report(self) -> None:
        counts = self._engine.report()
        if counts.requests or counts.refused or counts.blocks:
            route = self._engine.route
            self._say({"generation": route.generation if route else 0, "counts": dataclasses.asdict(counts)})

    def _say(self, message: dict[str, Any]) -> None:
        if not self._out.is_closing():
            with suppress(OSError, RuntimeError):
                self._out.write(json.dumps(message).encode() + b"\n")

    def _give_socket(self) -> None:
        """Hand the listening socket to the next supervisor, and drain when it says so."""
        self._door.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
            with short_path(self._door) as name:
                door.bind(name)
            door.listen(1)
            while True:
                caller, _ = door.accept()
                with caller, suppress(OSError):
                    socket.send_fds(caller, [b"1"], [self._listener.fileno()])
                    if caller.recv(5) == b"drain":
                        os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Entry point; the supervisor alone calls it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--listen-fd", type=int, required=True)
    parser.add_argument("--control-fd", type=int, required=True)
    given = parser.parse_args()
    np.seterr(all="ignore")
    gc.set_threshold(50_000, 20, 100)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    worker_place = Place(given.workspace.absolute(), given.endpoint)
    listener, control = socket.socket(fileno=given.listen_fd), socket.socket(fileno=given.control_fd)

    async def serve() -> None:
        await Worker(worker_place, listener, control).run()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())


if __name__ == "__main__":
    main()
