"""The nouns of pipelines."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from loopline.base.nouns import noun


@noun("step_run")
@dataclass(frozen=True, slots=True)
class StepRun:
    """One step of one run of a pipeline: what it read, what it answered, and why it ran."""

    id: str
    run: str
    pipeline: str
    step: str
    ref: str
    """`file.py:function`."""
    key: str
    """Content id of `parts`: the same key, the same answer."""
    parts: dict[str, Any]
    """Everything the answer depends on: code, distributions, inputs, params, environment, seed, ..."""
    output: Any
    """The answer as a document; its larger parts are blobs of the step store."""
    output_digest: str
    blobs: tuple[str, ...]
    """Blobs that hold the answer."""
    cached: bool
    why: tuple[str, ...]
    """Why it ran; empty where its answer was found."""
    made_by: str
    """Step run whose answer this is: itself, unless it was found."""
    attempts: int
    seconds: float
    cpu_seconds: float
    device: str
    """`cpu`, or the GPU it was given."""
    started_at: datetime
    log: str | None = None
    """Blob digest of what it printed; null where it printed nothing."""
    missed: tuple[str, ...] = ()
    """Modules it really loaded that reading the code does not find; filled by `verify`."""


@noun("pipeline_run")
@dataclass(frozen=True, slots=True)
class PipelineRun:
    """One run of a pipeline that came to its end."""

    id: str
    pipeline: str
    params: dict[str, Any]
    seed: int
    state: str
    """`done` or `failed`."""
    steps: dict[str, str]
    """Step to its step run; steps that did not run are missing."""
    after: dict[str, list[str]]
    """Step to the steps whose answers it reads."""
    failed: dict[str, str]
    """Step to what it raised."""
    answers: Any
    """What the pipeline returns, with `{"$": "answer", ...}` for what its steps answered."""
    executor: str
    source: str
    """`file`, or `notebook`: exploratory, so that nothing is registered from it."""
    commit: str | None
    started_at: datetime
    seconds: float
    resumes: str | None = None
    """Run that was killed before its end, and whose finished steps were kept."""
    tags: dict[str, str] = field(default_factory=dict)
