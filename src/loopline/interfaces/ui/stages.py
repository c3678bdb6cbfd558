"""The eight stages of the loop, each with its state and one figure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from loopline import data, monitoring, serving
from loopline.base.errors import LooplineError
from loopline.evaluation.nouns import Report
from loopline.features.nouns import TrainingSet
from loopline.framing.metrics import best_threshold
from loopline.interfaces.ui import figures, states, words
from loopline.interfaces.ui.context import Here
from loopline.interfaces.ui.states import Said
from loopline.monitoring.nouns import Incident
from loopline.retraining.nouns import Cycle
from loopline.training.nouns import Model, Run

N = TypeVar("N")
NOT_YET = Said("nothing yet", "quiet")


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage as the front page shows it."""

    name: str
    said: Said
    figure: str
    unit: str
    note: str


def stages(here: Here) -> list[Stage]:
    """The eight stages in the order of the loop."""
    cycle, incidents = here.cycle(), monitoring.open_incidents(here.ws)
    return [
        _framing(here),
        _data(here, incidents),
        _training(here, cycle),
        _evaluation(here, cycle),
        _registry(here, cycle),
        _serving(here, cycle),
        _monitoring(here, incidents),
        _retraining(here, cycle),
    ]


def _framing(here: Here) -> Stage:
    framing = here.project.spec.framing
    note = f"{framing.label.value}, per {framing.unit}"
    try:
        return Stage(
            "framing", Said("declared", "good"), words.number(best_threshold(framing.value), 3), "acts from", note
        )
    except LooplineError as error:
        return Stage("framing", Said("not decidable", "bad"), words.NOTHING, "acts from", error.what)


def _data(here: Here, incidents: Iterable[Incident]) -> Stage:
    cards = data.catalogue(here.ws, here.project.spec.data)
    rows = sum(card.rows for card in cards)
    known = max((card.known_to for card in cards if card.known_to), default=None)
    broken = [i for i in incidents if i.area == "data"]
    said = Said("incident open", "bad") if broken else Said("sound", "good") if rows else NOT_YET
    note = f"{words.plural(len(cards), 'table')}, known to {words.told(known)}" if known else "no rows ingested"
    return Stage("data", said, words.number(rows), "rows", note)


def _training(here: Here, cycle: Cycle | None) -> Stage:
    models = _newest(here, Model, "model")
    run = here.known(Run, models[0].run) if models else None
    used = here.known(TrainingSet, models[0].training_set) if models else None
    if models and run and used:
        note = f"{words.number(used.train_rows)} rows, {len(models[0].features)} features"
        stage = Stage("training", Said("done", "good"), words.number(run.seconds, 1), "s, newest run", note)
    else:
        stage = Stage("training", NOT_YET, words.NOTHING, "", f"recipe {here.project.spec.training.recipe}")
    if cycle is not None and cycle.state in ("SNAPSHOT", "TRAIN"):
        return Stage("training", states.state(cycle.state), stage.figure, stage.unit, stage.note)
    return stage


def _evaluation(here: Here, cycle: Cycle | None) -> Stage:
    reports = _newest(here, Report, "report")
    if cycle is not None and cycle.state in ("EVALUATE", "GATE"):
        said = states.state(cycle.state)
    elif reports:
        said = Said("gates passed", "good") if reports[0].passed else Said("rejected on evidence", "no")
    else:
        said = NOT_YET
    metric = here.project.spec.evaluation.primary
    if not reports:
        return Stage("evaluation", said, words.NOTHING, figures.name(metric), "no report")
    value = reports[0].metrics[metric].value if metric in reports[0].metrics else None
    against = reports[0].differences.get(metric)
    note = f"{words.number(reports[0].rows)} held-out rows"
    if against is not None and against.value is not None:
        note += f", {figures.delta(metric, against.value)} to the champion"
    return Stage("evaluation", said, figures.figure(metric, value), f"{figures.name(metric)}, newest", note)


def _newest(here: Here, cls: type[N], what: str) -> list[N]:
    """The newest report (or model) that a cycle made; of no cycle where none did."""
    for cycle in reversed(here.cycles()):
        found = here.known(cls, cycle.changes.get(what))
        if found is not None:
            return [found]
    return here.ws.records.find(cls, limit=1)


def _registry(here: Here, cycle: Cycle | None) -> Stage:
    versions, held = here.versions(), here.champion()
    if cycle is not None and cycle.state == "AWAIT_APPROVAL":
        said = states.state(cycle.state)
    else:
        said = Said("signed", "good") if versions else NOT_YET
    note = f"version {held[0].number} in production" if held else "nothing in production"
    return Stage("registry", said, words.number(len(versions)), "version" if len(versions) == 1 else "versions", note)


def _serving(here: Here, cycle: Cycle | None) -> Stage:
    status = serving.status(here.ws, here.name)
    if status is None:
        return Stage("serving", NOT_YET, words.NOTHING, "", "no endpoint ran")
    alive = serving.supervisor_pid(here.ws, here.name) is not None
    if not alive:
        said = Said("stopped", "bad")
    elif status.error:
        said = Said("last good release", "warn")
    elif cycle is not None and cycle.state in ("ROLLOUT", "WATCH", "ROLLING_BACK"):
        said = states.state(cycle.state)
    else:
        said = Said("answering", "good")
    split = ", ".join(f"version {v.number} {v.share / 100:g} %" for v in status.serving if v.share)
    return Stage("serving", said, words.number(status.requests), "answers", f"traffic: {split or 'nothing served'}")


def _monitoring(here: Here, incidents: Iterable[Incident]) -> Stage:
    metric, quality = here.project.spec.evaluation.primary, here.quality()
    count = len(list(incidents))
    said = Said(words.plural(count, "open incident"), "bad") if count else Said("no incident", "good")
    if quality is None or metric not in quality.metrics:
        unchecked = here.ws.records.meta(f"checked/{here.name}") is None
        said = NOT_YET if unchecked and not count else said
        return Stage("monitoring", said, words.NOTHING, figures.name(metric), "no labelled window of this version yet")
    value = quality.metrics[metric][0]
    held = here.champion()
    base = held[0].released.get(metric) if held else None
    note = f"{words.plural(quality.days, 'labelled day')}"
    if base is not None:
        note += f", {figures.delta(metric, value - base)} to its release"
    return Stage("monitoring", said, figures.figure(metric, value), f"{figures.name(metric)}, trailing", note)


def _retraining(here: Here, cycle: Cycle | None) -> Stage:
    mode = here.project.spec.retraining.mode
    cycles = here.cycles()
    promoted = sum(c.state == "PROMOTED" for c in cycles)
    if cycle is not None:
        said = Said("paused", "warn") if cycle.paused else states.state(cycle.state)
    else:
        said = Said("off", "quiet") if mode == "off" else Said("watching", "good")
    note = f"mode {mode}, {promoted} of {words.plural(len(cycles), 'cycle')} promoted"
    return Stage("retraining", said, words.number(len(cycles)), "cycle" if len(cycles) == 1 else "cycles", note)
