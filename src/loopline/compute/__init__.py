"""Run a step: in a fresh process, or several at once. Nothing forks, nothing is pickled."""

from loopline.base.lazy import exports

_HOMES = {
    "Executor": "protocol",
    "Needs": "protocol",
    "Place": "executor",
    "Pool": "pool",
    "StepFailed": "process",
    "StepSpec": "spec",
    "open_executor": "executor",
    "run_step": "process",
}

__getattr__, __dir__, __all__ = exports(__name__, _HOMES)
