"""Metrics and params: logged one by one and in batches, read as histories."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from loopline.interfaces.mlflow import names, shapes
from loopline.interfaces.mlflow.errors import invalid
from loopline.interfaces.mlflow.operations import Ask, Call, Int64, Operation, Pair, pairs
from loopline.interfaces.mlflow.runs import NAME, run_tags
from loopline.store.runs.protocol import Point

PAGE = 25_000
RUNS_IN_BULK, POINTS_IN_BULK = 100, 2_500


class GivenMetric(Ask):
    key: str | None = None
    value: float | None = None
    timestamp: Int64 | None = None
    step: Int64 | None = None
    model_id: str | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None


class LogMetric(GivenMetric):
    run_id: str | None = None
    run_uuid: str | None = None


class OfRun(Ask):
    run_id: str | None = None
    run_uuid: str | None = None


class LogParam(OfRun):
    key: str | None = None
    value: str | None = None


class LogBatch(OfRun):
    metrics: list[GivenMetric] | None = None
    params: list[Pair] | None = None
    tags: list[Pair] | None = None


class History(OfRun):
    metric_key: str | None = None
    max_results: Int64 | None = None
    page_token: str | None = None


class Bulk(Ask):
    run_id: list[str] | None = None
    metric_key: str | None = None
    max_results: Int64 | None = None


class Interval(Ask):
    run_ids: list[str] | None = None
    metric_key: str | None = None
    start_step: Int64 | None = None
    end_step: Int64 | None = None
    max_results: Int64 | None = None


def log_metric(call: Call, ask: LogMetric) -> dict[str, Any]:
    assert ask.run_id is not None
    call.log.log(names.require_run(ask.run_id), metrics=_points([ask], alone=True))
    return {}


def log_parameter(call: Call, ask: LogParam) -> dict[str, Any]:
    assert ask.run_id is not None and ask.key is not None
    call.log.log(names.require_run(ask.run_id), params={names.require_key(ask.key): (ask.value or "")[: names.PARAM]})
    return {}


def log_batch(call: Call, ask: LogBatch) -> dict[str, Any]:
    assert ask.run_id is not None
    metrics, params, tags = ask.metrics or [], ask.params or [], ask.tags or []
    _require_few("metrics", len(metrics), names.METRICS_AT_ONCE)
    _require_few("params", len(params), names.PARAMS_AT_ONCE)
    _require_few("tags", len(tags), names.TAGS_AT_ONCE)
    _require_few("metrics, params, and tags", len(metrics) + len(params) + len(tags), names.ALL_AT_ONCE)
    points = _points(metrics)
    given: dict[str, str] = {}
    for at, one in enumerate(params):
        if not one.key:
            raise invalid(f"Missing value for required parameter 'params[{at}].key'.")
        value = (one.value or "")[: names.PARAM]
        if given.setdefault(names.require_key(one.key, f"params[{at}].key"), value) != value or len(given) <= at:
            raise invalid(f"Duplicate parameter keys have been submitted: ['{one.key}'].")
    run, told = names.require_run(ask.run_id), run_tags(pairs(tags, "tags"))
    call.log.log(run, metrics=points, params=given, tags=told)
    if told.get(NAME):
        call.log.change_run(run, name=told[NAME], at_ms=call.now_ms)
    return {}


def get_history(call: Call, ask: History) -> dict[str, Any]:
    assert ask.run_id is not None and ask.metric_key is not None
    run = names.require_run(ask.run_id)
    if ask.max_results is None and not ask.page_token:
        return {"metrics": shapes.metrics(_all(call, run, ask.metric_key))}
    limit = names.require_page(ask.max_results, 2**31 - 1, PAGE)
    found = call.log.history(run, ask.metric_key, limit=min(limit, names.RUNS_A_PAGE), token=ask.page_token or None)
    answer: dict[str, Any] = {"metrics": shapes.metrics(found.items)}
    return answer if found.token is None else {**answer, "next_page_token": found.token}


def get_history_bulk(call: Call, ask: Bulk) -> dict[str, Any]:
    runs = ask.run_id or []
    if not runs:
        raise invalid("GetMetricHistoryBulk request must specify at least one run_id.")
    _require_few("run_ids", len(runs), RUNS_IN_BULK)
    left = names.require_page(ask.max_results, 2**31 - 1, PAGE)
    found: list[dict[str, Any]] = []
    for run in sorted(runs):
        points = call.log.history(names.require_run(run), ask.metric_key or "", limit=min(PAGE, left)).items
        found += shapes.metrics(sorted(points, key=lambda p: (p.at_ms, p.step, p.value)), run)
    return {"metrics": found[: min(PAGE, left)]}


def get_history_bulk_interval(call: Call, ask: Interval) -> dict[str, Any]:
    """At most `max_results` points of each run, spread evenly over the steps asked for, first and last with them."""
    runs, first, last = ask.run_ids or [], ask.start_step, ask.end_step
    _require_few("run_ids", len(runs), RUNS_IN_BULK)
    most = names.require_page(ask.max_results, POINTS_IN_BULK, POINTS_IN_BULK)
    if (first is None) != (last is None):
        raise invalid("If either start step or end step are specified, both must be specified.")
    if first is not None and last is not None and first > last:
        raise invalid(f"end_step must be greater than start_step. Found start_step={first} and end_step={last}.")
    found: list[dict[str, Any]] = []
    for run in runs:
        points = [
            point
            for point in _all(call, names.require_run(run), ask.metric_key or "")
            if first is None or last is None or first <= point.step <= last
        ]
        points.sort(key=lambda p: (p.step, p.at_ms, p.value))
        found += shapes.metrics(_spread(points, most), run)
    return {"metrics": found}


def _spread(points: list[Point], most: int) -> list[Point]:
    if len(points) <= most:
        return points
    if most == 1:
        return points[-1:]
    return [points[round(at * (len(points) - 1) / (most - 1))] for at in range(most)]


def _all(call: Call, run: str, key: str) -> list[Point]:
    found, token = list[Point](), None
    while True:
        one = call.log.history(run, key, limit=PAGE, token=token)
        found += one.items
        if (token := one.token) is None:
            return found


def _points(given: Sequence[GivenMetric], *, alone: bool = False) -> list[Point]:
    """Metrics as points, each checked; one that is sent `alone` is told of without its place."""
    found: list[Point] = []
    known: set[str] = set()
    for at, one in enumerate(given):
        key, value, moment = one.key, one.value, one.timestamp
        if not key or value is None or moment is None or moment < 0 or key not in known:
            _check(one, "" if alone else f"metrics[{at}].")
            assert key and value is not None and moment is not None
            known.add(key)
        dataset = (one.dataset_name, one.dataset_digest or "") if one.dataset_name else None
        found.append(Point(key, value, moment, one.step or 0, one.model_id, dataset))
    return found


def _check(given: GivenMetric, place: str) -> None:
    for field in ("key", "value", "timestamp"):
        if getattr(given, field) in (None, ""):
            raise invalid(f"Missing value for required parameter '{place}{field}'.")
    assert given.key is not None and given.timestamp is not None
    if given.timestamp < 0:
        raise invalid(
            f"Invalid value {given.timestamp} for parameter '{place}timestamp' supplied: "
            "Timestamp must be a nonnegative long (64-bit integer)."
        )
    names.require_key(given.key, f"{place}name")


def _require_few(what: str, found: int, most: int) -> None:
    if found > most:
        raise invalid(
            f"A batch logging request can contain at most {most} {what}. Got {found} {what}. Please split up {what} "
            "across multiple requests and try again."
        )


READ, WRITE = "training.runs", "training.log"
OPERATIONS = (
    Operation("POST", "runs/log-metric", LogMetric, log_metric, WRITE, ("run_id", "key")),
    Operation("POST", "runs/log-parameter", LogParam, log_parameter, WRITE, ("run_id", "key")),
    Operation("POST", "runs/log-batch", LogBatch, log_batch, WRITE, ("run_id",)),
    Operation("GET", "metrics/get-history", History, get_history, READ, ("run_id", "metric_key")),
    Operation("GET", "metrics/get-history-bulk", Bulk, get_history_bulk, READ, ("metric_key",)),
    Operation(
        "GET", "metrics/get-history-bulk-interval", Interval, get_history_bulk_interval, READ, ("run_ids", "metric_key")
    ),
)
