"""The front page: what needs a person, the loop, the champion, the newest decisions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from loopline.evaluation.nouns import Report
from loopline.interfaces.ui import figures
from loopline.interfaces.ui.attention import needs
from loopline.interfaces.ui.context import Here, number_of
from loopline.interfaces.ui.stages import stages
from loopline.interfaces.ui.timeline import news
from loopline.loop import engine
from loopline.registry.nouns import Approval

NEWS = 8


def frame(here: Here, request: Request) -> dict[str, Any]:
    """The page around the live part."""
    return {}


def live(here: Here, request: Request) -> dict[str, Any]:
    """Everything on the page that moves."""
    return {
        "needs": needs(here),
        "stages": stages(here),
        "champion": champion(here),
        "news": news(here, NEWS),
        "number_of": number_of,
        "plan": engine.plan(here.ws, here.project),
        "running": here.cycle(),
    }


@dataclass(frozen=True, slots=True)
class Now:
    """One metric of the champion: as released, and as it does now."""

    metric: str
    released: float | None
    released_low: float | None
    released_high: float | None
    live: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def change(self) -> float | None:
        """Live minus released."""
        return None if self.live is None or self.released is None else self.live - self.released

    @property
    def tone(self) -> str:
        """Tone of the change: judged only when the whole live interval lies beyond the released value."""
        if self.released is None or self.low is None or self.high is None:
            return "quiet"
        return figures.judged(self.metric, self.low - self.released, self.high - self.released)


def champion(here: Here) -> dict[str, Any] | None:
    """The card of the version in production."""
    held = here.champion()
    if held is None:
        return None
    version, release = held
    quality, report = here.quality(), here.known(Report, version.report)
    rows = []
    for metric in figures.leading(here.project.spec.evaluation.primary):
        if version.released.get(metric) is None:
            continue
        judged = report.metrics.get(metric) if report else None
        seen = quality.metrics.get(metric) if quality else None
        rows.append(
            Now(
                metric,
                version.released[metric],
                judged.low if judged else None,
                judged.high if judged else None,
                *(seen or ()),
            )
        )
    return {
        "version": version,
        "release": release,
        "report": report,
        "quality": quality,
        "rows": rows,
        "approvals": [a for a in here.ws.records.find(Approval, version=version.id) if a.decision == "approve"],
    }
