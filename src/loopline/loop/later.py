"""Keys and values of `loop.yaml` that a later version brings: refused by name, never ignored."""

from __future__ import annotations

from typing import Any

Path = tuple[str | int, ...]

KEYS: dict[str, str] = {
    "data.*.time": "the log of a model that is served elsewhere",
    "data.*.version": "the log of a model that is served elsewhere",
    "data.*.score": "the log of a model that is served elsewhere",
    "data.*.decision": "the log of a model that is served elsewhere",
    "data.*.inputs": "the log of a model that is served elsewhere",
    "data.*.only_when": "outcomes that are only seen for some decisions",
    "training.resources": "resource hints",
    "training.timeout": "time limits of steps",
    "training.retries": "retries of steps",
    "evaluation.fairness": "fairness gates",
    "evaluation.stability": "stability tests",
    "evaluation.robustness": "robustness tests",
    "registry.policy": "policies in CEL",
    "serving.shadow": "shadow releases",
    "serving.bandit": "bandit releases",
    "serving.experiment": "A/B experiments",
    "serving.interleave": "interleaved rankings",
    "serving.holdout": "a random holdout",
    "serving.batch": "scheduled batch scoring",
    "serving.stream": "stream scoring",
    "serving.edge": "edge packages",
    "serving.replicas": "many replicas",
    "serving.grpc": "the gRPC door",
    "monitoring.slo": "service levels",
    "monitoring.business": "business metrics",
    "monitoring.estimate": "label-free estimates of quality",
    "monitoring.playbooks": "playbooks of your own",
    "llm": "loops for prompt applications",
    "governance": "evidence packs",
}
"""Dotted keys (`*` stands for any name) and what they belong to."""

TASKS = ("multiclass", "regression", "ranking", "forecasting", "forecast", "multilabel", "survival", "clustering")


def topic(path: Path, value: Any) -> str | None:
    """What a later version will do with this key or value; null if none is planned."""
    if not path or any(isinstance(part, int) for part in path):
        return None
    words = [str(part) for part in path]
    wild = ["*" if at == 1 and words[0] == "data" else word for at, word in enumerate(words)]
    if found := KEYS.get(".".join(wild)):
        return found
    match wild:
        case ["serving"] if value == "external":
            return "a model that is served elsewhere (`serving: external`)"
        case ["monitoring", "reference"] if isinstance(value, str) and "/" in value:
            return "a reference between two fixed dates"
        case ["framing", "task"] if value in TASKS:
            return f"the task {value!r}"
    return None
