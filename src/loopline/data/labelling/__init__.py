"""Answers: those that the world gives, and those that people are asked for."""

from loopline.base.lazy import exports

_HOMES = {
    "write_guideline": "guidelines",
    "guideline_of": "guidelines",
    "names": "guidelines",
    "ask": "rounds",
    "ask_rows": "rounds",
    "already_asked": "rounds",
    "rounds_of": "rounds",
    "rows_of": "rounds",
    "answers_of": "answers",
    "next_task": "answers",
    "answer": "answers",
    "replaced": "answers",
    "label_standing": "standing",
    "labels_of": "standing",
    "publish": "standing",
}

__getattr__, __dir__, __all__ = exports(__name__, _HOMES)
