"""A project's `scenario.yaml`, played against the real system in accelerated time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
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

    Returns what `out/summary.json` holds, with the outcome as `text`. What
    calendar policies train is known beforehand, so it is trained while the world
    goes on, in the time that is left over. The processes that it started are
    ended before policies are compared.
    """
    from loopline.base.clock import monotonic
    from loopline.interfaces.demo import outcome
    from loopline.interfaces.demo.player import Player
    from loopline.interfaces.demo.scenario import midnight
    from loopline.loop.candidates import MONTHS, Candidates, due_dates
    from loopline.loop.replay import replay

    def on_day(day: date, number: int, total: int) -> None:
        progress(f"{day}", number, total)
        if midnight(day) in due:
            candidates.ahead(midnight(day))

    started = monotonic()
    player = Player(source, out, seed=seed, port=port, on_day=on_day, say=lambda what: progress(what))
    candidates = Candidates(player.ws, player.project)
    first, last = midnight(player.cast.spec.start), midnight(player.cast.spec.until)
    due = {at for policy in policies if policy in MONTHS for at in due_dates(policy, first, last)}
    try:
        with candidates.working(1, polite=True):
            player.play()
        since, until = outcome.span(player)
        live, logged = outcome.given(player.ws, player.project, since, until)
    finally:
        player.stop()
    replays = []
    if policies:
        with player.stage("replay of policies"):
            replays = replay(
                player.ws,
                player.project,
                policies=tuple(policies),
                since=since,
                until=until,
                progress=progress,
                candidates=candidates,
            )
    summary = outcome.summarise(player, replays, live, logged, monotonic() - started)
    outcome.write(summary, player)
    player.ws.close()
    return {**summary, "text": outcome.text(summary, player.project)}
