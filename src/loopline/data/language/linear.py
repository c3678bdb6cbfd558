"""Matching that takes time in proportion to the text, whatever the pattern.

Python's own engine tries the ways in which a pattern can match one after the other,
and `(a+)+` has more of them than a request can wait for. Where every character leaves
one way only, that engine is linear and is used; else the pattern is run as an
automaton that keeps all its ways at once (Thompson 1968), over the positions of the
pattern (Glushkov 1961), with each step remembered.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

POSITIONS, STEPS = 5_000, 200_000
"""Most characters of a pattern, repetitions written out, and most pairs that can follow each other."""
REMEMBERED = 20_000

Ranges = tuple[tuple[int, int], ...]
_LAST = 0x10FFFF
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v"}


def matcher(text: str) -> Callable[[str], object]:
    """A function that says whether a whole text matches `text`, a pattern in portable form.

    Raises
    ------
    ValueError
        If the pattern is too large once its repetitions are written out.
    """
    automaton = _Builder(text).build()
    return automaton.run if automaton.ambiguous else re.compile(text).fullmatch


@dataclass(slots=True)
class _Part:
    """A piece of a pattern: whether it can be empty, and where it begins and ends."""

    empty: bool
    first: list[int]
    last: list[int]


@dataclass(slots=True)
class Automaton:
    """Positions of a pattern, what may follow each, and the steps taken so far."""

    chars: list[Ranges]
    follow: list[list[int]]
    first: list[int] = field(default_factory=list)
    final: frozenset[int] = frozenset()
    empty: bool = False
    ambiguous: bool = False
    _edges: list[int] = field(default_factory=list)
    _states: dict[frozenset[int], int] = field(default_factory=dict)
    _steps: list[dict[int, int]] = field(default_factory=list)
    _sets: list[frozenset[int]] = field(default_factory=list)

    def run(self, text: str) -> bool:
        """Whether the whole of `text` matches."""
        if len(self._sets) > REMEMBERED or not self._sets:
            self._forget()
        state, steps, edges = 0, self._steps, self._edges
        for char in text:
            kind = bisect_right(edges, ord(char))
            after = steps[state].get(kind)
            if after is None:
                after = self._step(state, kind, ord(char))
            if after < 0:
                return False
            state = after
        return self.empty if state == 0 else not self.final.isdisjoint(self._sets[state])

    def _forget(self) -> None:
        if not self._edges:
            self._edges = sorted({end for ranges in self.chars for low, high in ranges for end in (low, high + 1)})
        self._states, self._steps, self._sets = {frozenset({-1}): 0}, [{}], [frozenset({-1})]

    def _step(self, state: int, kind: int, char: int) -> int:
        places = self._sets[state]
        onward = self.first if state == 0 else {q for p in places for q in self.follow[p]}
        reached = frozenset(q for q in onward if any(low <= char <= high for low, high in self.chars[q]))
        after = -1
        if reached:
            after = self._states.setdefault(reached, len(self._sets))
            if after == len(self._sets):
                self._sets.append(reached)
                self._steps.append({})
        self._steps[state][kind] = after
        return after


class _Builder:
    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0
        self.made = Automaton([], [])
        self.steps = 0

    def build(self) -> Automaton:
        whole = self.alternatives()
        made = self.made
        made.first, made.final, made.empty = whole.first, frozenset(whole.last), whole.empty
        if not made.ambiguous:
            made.ambiguous = any(self.overlap(after) for after in [whole.first, *made.follow])
        return made

    def overlap(self, places: list[int]) -> bool:
        if len(places) < 2:
            return False
        ranges = sorted(pair for place in places for pair in self.made.chars[place])
        return any(low <= high for (_, high), (low, _) in pairwise(ranges))

    def alternatives(self) -> _Part:
        parts = [self.sequence()]
        while self.at < len(self.text) and self.text[self.at] == "|":
            self.at += 1
            parts.append(self.sequence())
        return _Part(
            any(p.empty for p in parts), [q for p in parts for q in p.first], [q for p in parts for q in p.last]
        )

    def sequence(self) -> _Part:
        whole = _Part(True, [], [])
        while self.at < len(self.text) and self.text[self.at] not in "|)":
            whole = self.then(whole, self.repeated())
        return whole

    def then(self, left: _Part, right: _Part) -> _Part:
        self.link(left.last, right.first)
        first = left.first + right.first if left.empty else left.first
        last = right.last + left.last if right.empty else right.last
        return _Part(left.empty and right.empty, first, last)

    def link(self, ends: list[int], starts: list[int]) -> None:
        self.steps += len(ends) * len(starts)
        if self.steps > STEPS:
            raise ValueError("the pattern is too large once its repetitions are written out")
        for end in ends:  # a place that follows in two ways stands there twice, and overlaps itself
            self.made.follow[end] += starts

    def repeated(self) -> _Part:
        begin = self.at
        part = self.atom()
        end = self.at
        least, most = self.counts()
        after = self.at
        if (least, most) == (1, 1):
            return part
        if (most is None or most > 1) and part.empty:
            self.made.ambiguous = True

        def again() -> _Part:
            self.at = begin
            made = self.atom()
            assert self.at == end
            return made

        whole = _Part(True, [], [])
        if most is None:
            tail = part
            self.link(tail.last, tail.first)
            tail = _Part(True, tail.first, tail.last) if least == 0 else tail
            for _ in range(max(least - 1, 0)):
                whole = self.then(whole, again())
            whole = self.then(whole, tail)
        elif most > 0:
            tail = _Part(part.empty or most > least, part.first, part.last)
            for copies in range(most - 1, 0, -1):  # x{1,3} as x(x(x)?)?, from the inside out
                tail = self.then(again(), tail)
                if copies > least:
                    tail.empty = True
            whole = tail
            whole.empty = whole.empty or least == 0
        self.at = after
        return whole

    def counts(self) -> tuple[int, int | None]:
        char = self.text[self.at] if self.at < len(self.text) else ""
        least, most = 1, 1
        found: tuple[int, int | None] = (least, most)
        if char and char in "*+?":
            self.at += 1
            found = {"*": (0, None), "+": (1, None), "?": (0, 1)}[char]
        elif char == "{":
            end = self.text.index("}", self.at)
            low, comma, high = self.text[self.at + 1 : end].partition(",")
            found = int(low), int(low) if not comma else int(high) if high else None
            self.at = end + 1
        if found != (1, 1) and self.text.startswith("?", self.at):
            self.at += 1
        return found

    def atom(self) -> _Part:
        if self.text.startswith("(?:", self.at):
            self.at += 3
            part = self.alternatives()
            self.at += 1
            return part
        ranges = self.charset() if self.text[self.at] == "[" else self.ranges([self.char()] * 2)
        place = len(self.made.chars)
        if place >= POSITIONS:
            raise ValueError("the pattern is too large once its repetitions are written out")
        self.made.chars.append(ranges)
        self.made.follow.append([])
        return _Part(False, [place], [place])

    def char(self) -> int:
        char = self.text[self.at]
        self.at += 1
        if char == "\\":
            char = self.text[self.at]
            self.at += 1
            char = _ESCAPED.get(char, char)
        return ord(char)

    def ranges(self, ends: list[int]) -> Ranges:
        return tuple(zip(ends[::2], ends[1::2], strict=True))

    def charset(self) -> Ranges:
        self.at += 1
        negated = self.text[self.at] == "^"
        self.at += negated
        pairs: list[tuple[int, int]] = []
        while self.text[self.at] != "]":
            low = high = self.char()
            if self.text[self.at] == "-":
                self.at += 1
                high = self.char()
            pairs.append((low, high))
        self.at += 1
        merged: list[tuple[int, int]] = []
        for low, high in sorted(pairs):
            if merged and low <= merged[-1][1] + 1:
                merged[-1] = merged[-1][0], max(high, merged[-1][1])
            else:
                merged.append((low, high))
        if not negated:
            return tuple(merged)
        gaps, start = [], 0
        for low, high in merged:
            if start < low:
                gaps.append((start, low - 1))
            start = high + 1
        return tuple([*gaps, (start, _LAST)] if start <= _LAST else gaps)
