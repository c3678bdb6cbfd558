"""Pipelines: plain functions as steps, run once, found again, resumed."""

from loopline.base.lazy import exports

_HOMES = {
    "Answer": "declare",
    "Pipeline": "declare",
    "PipelineRun": "nouns",
    "Step": "declare",
    "StepRun": "nouns",
    "pipeline": "declare",
    "pipeline_run": "verbs",
    "pipeline_runs": "verbs",
    "run_pipeline": "verbs",
    "step": "declare",
    "why_rerun": "verbs",
}

__getattr__, __dir__, __all__ = exports(__name__, _HOMES)
