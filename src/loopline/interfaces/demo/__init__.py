"""A project's `scenario.yaml`, played against the real system in accelerated time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol


class Progress(Protocol):
    """Told what is being done, and how far it is."""

    def __call__(self, what: str, done: float | None = None, total: float | None = None) -> None: ...


def play(
    source: Path,
    out: Path,
    seed: int,
    progress: Progress,
    *,
    port: int = 8400,
    policies: Sequence[str] = ("never", "quarterly", "monthly", "loop"),
) -> dict[str, Any]:
    """Play the scenario of the project `source` in the folder `out`.

    Returns what `out/summary.json` holds, with the outcome as `text`. The
    processes that it started are ended before policies are compared.
    """
    from loopline.base.clock import monotonic
    from loopline.interfaces.demo import outcome
    from loopline.interfaces.demo.player import Player
    from loopline.loop.replay import replay

    started = monotonic()
    player = Player(
        source,
        out,
        seed=seed,
        port=port,
        on_day=lambda day, number, total: progress(f"{day}", number, total),
        say=lambda what: progress(what),
    )
    try:
        player.play()
        since, until = outcome.span(player)
        live, logged = outcome.given(player.ws, player.project, since, until)
    finally:
        player.stop()
        player.forget()
    replays = []
    if policies:
        with player.stage("replay of policies"):
            replays = replay(
                player.ws, player.project, policies=tuple(policies), since=since, until=until, progress=progress
            )
    summary = outcome.summarise(player, replays, live, logged, monotonic() - started)
    outcome.write(summary, player)
    player.ws.close()
    return {**summary, "text": outcome.text(summary, player.project)}
