"""The states of a loop in plain words, each with a tone that never stands alone."""

from __future__ import annotations

from dataclasses import dataclass

TONES = {"good": "✓", "bad": "!", "warn": "◆", "busy": "↻", "quiet": "○", "no": "✕"}
"""Tone to the sign that is shown with it, for those who do not see colours."""


@dataclass(frozen=True, slots=True)
class Said:
    """A few words and their tone."""

    words: str
    tone: str

    @property
    def sign(self) -> str:
        """The sign of the tone."""
        return TONES[self.tone]


_STATES = {
    "IDLE": Said("idle", "quiet"),
    "TRIAGE": Said("triage", "busy"),
    "DATA_INCIDENT": Said("held by a data incident", "bad"),
    "SNAPSHOT": Said("freezing rows", "busy"),
    "TRAIN": Said("training", "busy"),
    "EVALUATE": Said("evaluating", "busy"),
    "GATE": Said("at the gates", "busy"),
    "AWAIT_APPROVAL": Said("awaiting approval", "warn"),
    "ROLLOUT": Said("canary", "busy"),
    "WATCH": Said("promoting", "busy"),
    "ROLLING_BACK": Said("rolling back", "bad"),
    "PROMOTED": Said("promoted", "good"),
    "SUPPRESSED": Said("suppressed", "quiet"),
    "ROLLED_BACK": Said("rolled back", "bad"),
    "REJECTED": Said("rejected", "no"),
    "FAILED": Said("failed", "bad"),
    "EXPIRED": Said("expired", "warn"),
    "SUPERSEDED": Said("superseded", "quiet"),
    "CANCELLED": Said("cancelled", "quiet"),
}

_VERDICTS = {
    "bug": Said("bug", "bad"),
    "suspect": Said("suspect", "warn"),
    "real": Said("real", "quiet"),
    "worse": Said("worse", "bad"),
    "fine": Said("not worse", "good"),
    "open": Said("undecided", "quiet"),
}

_LEVELS = {
    4: Said("L4: the same bytes", "good"),
    3: Said("L3: the same scores", "good"),
    2: Said("L2: scores within 1e-6", "good"),
    1: Said("L1: metrics in their intervals", "warn"),
    0: Said("L0: not the same", "bad"),
}


def level(reached: int) -> Said:
    """How near a model came when it was made again."""
    return _LEVELS.get(reached, Said(f"L{reached}", "quiet"))


def state(name: str) -> Said:
    """A state of the loop in words."""
    return _STATES.get(name, Said(name.lower().replace("_", " "), "quiet"))


def verdict(name: str) -> Said:
    """A verdict of a monitor or a guardrail in words."""
    return _VERDICTS.get(name, Said(name, "quiet"))


def gate(passed: bool) -> Said:
    """Whether a gate, a guard or a report passed."""
    return Said("passed", "good") if passed else Said("failed", "no")
