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

    Returns what `out/summary.json` holds, with the outcome as `text`. Policies are
    replayed while the world goes on, as far as it has come, in the time that is
    left over; what calendar policies train is known beforehand. The processes
    that it started are ended before the rest is replayed.
    """
    from loopline.base.clock import monotonic
    from loopline.interfaces.demo import outcome
    from loopline.interfaces.demo.player import Player
    from loopline.interfaces.demo.scenario import midnight
    from loopline.loop.candidates import MONTHS, Candidates, due_dates
    from loopline.loop.replay import Replays

    def on_day(day: date, number: int, total: int) -> None:
        progress(f"{day}", number, total)
        if midnight(day) in due:
            candidates.ahead(midnight(day))
            candidates.beside(replays.go_on, midnight(day))

    started = monotonic()
    player = Player(source, out, seed=seed, port=port, on_day=on_day, say=lambda what: progress(what))
    candidates = Candidates(player.ws, player.project)
    first, last = midnight(player.cast.spec.start), midnight(player.cast.spec.until)
    due = {at for policy in policies if policy in MONTHS for at in due_dates(policy, first, last)}
    replays = Replays(candidates, policies, first, last)
    try:
        with candidates.working(1, polite=True):
            player.play()
        since, until = outcome.span(player)
        live, logged = outcome.given(player.ws, player.project, since, until)
    finally:
        player.stop()
    compared = []
    if policies:
        with player.stage("replay of policies"):
            compared = replays.finish(progress)
    summary = outcome.summarise(player, compared, live, logged, monotonic() - started)
    outcome.write(summary, player)
    player.ws.close()
    return {**summary, "text": outcome.text(summary, player.project)}
