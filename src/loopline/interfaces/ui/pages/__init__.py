"""Which address shows what: the pages, their live parts, the figures of their charts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from starlette.requests import Request

from loopline.interfaces.ui.context import Here
from loopline.interfaces.ui.pages import (
    datasets,
    declared,
    evaluation,
    front,
    labelling,
    lineage,
    made,
    monitoring,
    pipelines,
    registry,
    retraining,
    searches,
    serving,
    worth,
)

Show = Callable[[Here, Request], dict[str, Any]]

PAGES: tuple[tuple[str, str, Show], ...] = (
    ("/", "front.html", front.frame),
    ("/framing", "framing.html", declared.framing),
    ("/data", "data.html", made.data),
    ("/data/proposals/{id}", "proposal.html", datasets.proposal),
    ("/data/{name}", "dataset.html", datasets.dataset),
    ("/data/{name}/quarantine", "quarantine.html", datasets.quarantine),
    ("/labelling", "labelling.html", labelling.overview),
    ("/labelling/{name}", "label.html", labelling.page),
    ("/features", "features.html", made.features),
    ("/training", "training.html", made.training),
    ("/training/pipelines", "pipelines.html", pipelines.listing),
    ("/training/pipelines/{run}", "pipeline_run.html", pipelines.frame),
    ("/training/pipelines/{run}/{step:path}", "pipeline_step.html", pipelines.step_frame),
    ("/training/searches", "searches.html", searches.listing),
    ("/training/searches/{id}", "search.html", searches.search),
    ("/evaluation", "evaluation.html", evaluation.reports),
    ("/evaluation/{id}", "report.html", evaluation.report),
    ("/registry", "registry.html", registry.versions),
    ("/registry/{number:int}", "version.html", registry.version),
    ("/serving", "serving.html", serving.frame),
    ("/monitoring", "monitoring.html", monitoring.page),
    ("/retraining", "retraining.html", retraining.page),
    ("/retraining/{number:int}", "cycle.html", retraining.cycle),
    ("/lineage", "lineage.html", lineage.live),
    ("/lineage/{number:int}", "lineage.html", lineage.of),
    ("/worth", "worth.html", worth.page),
)
"""(address, template, what it shows)."""

PARTS: Mapping[str, tuple[str, Show]] = {
    "/live/front": ("live_front.html", front.live),
    "/live/pipelines": ("live_pipelines.html", pipelines.live_listing),
    "/live/pipelines/{run}": ("live_pipeline.html", pipelines.live),
    "/live/pipelines/{run}/{step:path}": ("live_step.html", pipelines.step),
    "/live/searches": ("live_searches.html", searches.live_listing),
    "/live/searches/{id}": ("live_search.html", searches.live),
    "/live/serving": ("live_serving.html", serving.live),
}
"""Address of a part that asks again by itself, to its template and what it shows."""

SERIES: tuple[tuple[str, Show], ...] = (
    ("/monitoring/quality.json", monitoring.series),
    ("/worth/months.json", worth.series),
)
"""(address, figures of a chart)."""
