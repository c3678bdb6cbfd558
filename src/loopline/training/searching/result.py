"""What a search found, to look at."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from typing import Any

from loopline.base.errors import Denied, Invalid, NotFound, Unavailable
from loopline.base.nouns import to_doc
from loopline.training.archive import unpack
from loopline.training.bundle import MANIFEST
from loopline.training.nouns import Model, Search, Trial
from loopline.training.searching.choice import best, front, losses
from loopline.training.spec import SearchSpec
from loopline.workspace import Workspace, query


@query("training.searches")
def searches(ws: Workspace) -> list[Search]:
    """Every search, newest first."""
    return ws.records.find(Search)


@query("training.search_result")
def search_result(ws: Workspace, which: str | None = None, *, pick: str = "first") -> dict[str, Any]:
    """What a search found.

    Parameters
    ----------
    which : str, optional
        Its id, or how it begins; the newest by default.
    pick : str
        Rule for one trial of several that none beats: `first` or `balanced`.

    Returns
    -------
    dict
        `search`, `trials` by number, `best` (null where none is complete), `front` (numbers), and to be drawn
        `history` (trial, value, best so far of the first objective), `importance` (share of each param in how the first
        objective varies; empty where Optuna is not installed or fewer than four trials are complete), `slices` (by
        param: its values and the first objective), `pareto` (number and values), and `models` (number of the trial and
        the model that was trained with it).

    Raises
    ------
    NotFound
        If there is none.
    """
    found = _search(ws, which)
    trials = sorted(ws.records.find(Trial, search=found.id), key=lambda one: one.number)
    done = [one for one in trials if one.state == "complete"]
    picked = best(found, trials, pick=pick)
    beaten_by_none = front(found, trials)
    return {
        "search": to_doc(found),
        "trials": [{**to_doc(one), "memory": None} for one in trials],
        "best": picked.number if picked else None,
        "front": [one.number for one in beaten_by_none],
        "history": history(found, done),
        "importance": importance(found, done),
        "slices": {
            name: [[one.params[name], one.values[0]] for one in done] for name in sorted(found.declared["params"])
        },
        "models": models_of(ws, found),
        "pareto": [[one.number, *one.values] for one in done] if len(found.objectives) > 1 else [],
    }


def history(search: Search, done: Sequence[Trial]) -> list[list[float]]:
    """Number, first objective and the best of it so far, of each complete trial."""
    rows: list[list[float]] = []
    so_far: Trial | None = None
    for one in done:
        if so_far is None or losses(search, one)[0] < losses(search, so_far)[0]:
            so_far = one
        rows.append([one.number, one.values[0], so_far.values[0]])
    return rows


def importance(search: Search, done: Sequence[Trial]) -> dict[str, float]:
    """How much each param tells of the first objective, as shares of 1 (PED-ANOVA, Watanabe et al. 2023)."""
    if len(done) < 4 or len({one.values[0] for one in done}) < 2:
        return {}
    try:
        from loopline.training.searching.proposing import Proposals, optuna
    except Unavailable:  # the rest is told all the same
        return {}
    spec = SearchSpec.model_validate(search.declared)
    study = Proposals(spec, [way for _, way in search.objectives], done).whole()
    target = None if len(search.objectives) == 1 else (lambda one: losses(search, one)[0])  # low ones are told of
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        found = optuna.importance.get_param_importances(study, target=target)
    return {name: round(float(value), 6) for name, value in found.items()}


def models_of(ws: Workspace, search: Search) -> list[tuple[int, str]]:
    """Trials that models were trained with, and the ids of these, newest first; a bundle that is gone says nothing."""
    made: list[tuple[int, str]] = []
    for model in ws.records.find(Model, training_set=search.training_set):
        try:
            told = json.loads(unpack(ws.blobs.get(model.bundle))[MANIFEST]).get("search")
        except (NotFound, Invalid, Denied, KeyError, ValueError):
            continue
        if told is not None and told.get("id") == search.id:
            made.append((int(told["trial"]), model.id))
    return made


def _search(ws: Workspace, which: str | None) -> Search:
    if which is not None:
        return ws.records.get(Search, which)
    newest = ws.records.find(Search, limit=1)
    if not newest:
        raise NotFound(
            "nothing was searched yet",
            why="a search runs before a training where training.search is declared",
            fix="loopline search run",
        )
    return newest[0]
