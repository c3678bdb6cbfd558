"""Answers requests, logs them, and moves traffic between versions on evidence."""

from loopline.base.lazy import exports

_HOMES = {
    "deploy": "verbs",
    "flush": "verbs",
    "kill": "verbs",
    "status": "verbs",
    "predictions": "verbs",
    "supervisor_pid": "supervised",
    "workers_left": "supervised",
    "DesiredState": "nouns",
    "EndpointStatus": "nouns",
    "Guardrail": "nouns",
    "Variant": "nouns",
    "ReleaseSpec": "spec",
    "ServingSpec": "spec",
}

__getattr__, __dir__, __all__ = exports(__name__, _HOMES)
