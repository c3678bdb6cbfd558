"""Answering: rows in, scores out, everything logged and counted.

No network here. A door reads messages into `Call`s, hands over all that arrived
in one turn of its event loop, and writes what came of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from math import nan
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from loopline.base.clock import SystemClock, monotonic
from loopline.base.ids import uuid7
from loopline.base.log import logger
from loopline.features.reader import text_of
from loopline.serving import journal, router
from loopline.serving.calls import Answer, Call, Counts, Refused
from loopline.serving.inputs import UNAVAILABLE, Judged
from loopline.serving.log import REFUSED
from loopline.serving.nouns import BASELINE
from loopline.serving.release import KINDS
from loopline.serving.route import Loaded, Route

MOST_ROWS = 10_000
LONGEST_TEXT = 512
BLOCK = 256
"""Rows that are judged together; fixed, so that block sizes tell nothing about outcomes."""
SHADOWS_WAITING = 2_000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_ERRORS, _CONTRACT, _MISSING, _LATENCY = range(len(KINDS))
_encode = msgspec.json.Encoder().encode
_log = logger(__name__)


class Engine:
    """Answers calls by the route of the moment. For one thread."""

    def __init__(self, endpoint: str, segments: Path, name: str) -> None:
        self.endpoint = endpoint
        self.route: Route | None = None
        self.counts = Counts()
        self.killed = False
        self._segments, self._name = segments, name
        self._clock = SystemClock()
        self._journals: dict[tuple[Loaded, bool], journal.Journal] = {}
        self._made = 0
        self._ids = 0
        self._prefix = uuid7(self._clock()).replace("-", "")[:20]
        self._block: list[Any] = [0, [0] * len(KINDS), 0, [0] * len(KINDS)]
        self._shadows: deque[tuple[Answer, bool]] = deque()

    def swap(self, route: Route | None) -> None:
        """Serve `route` from the next call on."""
        self._close_block()
        self.route = route
        for made in self._journals.values():
            made.close()
        self._journals.clear()
        self._shadows.clear()

    def close(self) -> None:
        """Write down what is left."""
        self.shadow(SHADOWS_WAITING)
        self.swap(None)

    def answer(self, calls: Sequence[Call]) -> None:
        """Answer calls, filling in `answers` or `refused` of each."""
        route = self.route
        now = self._clock()
        now_us = (now - _EPOCH) // _MICROSECOND
        waiting: dict[Loaded, list[Answer]] = {}
        for call in calls:
            self.counts.requests += 1
            try:
                if route is None:
                    raise Refused(503, f"nothing is deployed at {self.endpoint!r} yet")
                if route.kill or self.killed:
                    raise Refused(503, f"{self.endpoint!r} is switched off")
                call.answers = self._read(route, call, now_us)
            except Refused as refusal:
                self._refuse(call, refusal)
        judged = _judged(calls)
        for call in calls:
            if call.refused is not None or route is None:
                continue
            try:
                if not call.typed:
                    for n, answer in enumerate(call.answers):
                        self._settle(route, n, answer, judged[id(answer)], now_us)
            except Refused as refusal:
                self._refuse(call, refusal)
                continue
            for answer in call.answers:
                if answer.fallback != BASELINE:
                    waiting.setdefault(answer.by, []).append(answer)
        if route is not None:
            failed = self._score_all(route, waiting)
            self._finish(route, calls, failed, now_us)

    def _refuse(self, call: Call, refusal: Refused) -> None:
        self.counts.refused += 1
        call.refused, call.answers = refusal, []

    def _read(self, route: Route, call: Call, now_us: int) -> list[Answer]:
        count = len(call.rows)
        _check_lengths(call, count)
        made = []
        for n in range(count):
            given = call.ids[n] if call.ids is not None else None
            id = given or self._new_id()
            entity = _entity(call, n, route.unit)
            flags = 0 if entity is None else journal.STICKY
            if entity is None:
                entity = id
            if len(id) > LONGEST_TEXT or len(entity) > LONGEST_TEXT:
                raise Refused(400, f"an id or entity is longer than {LONGEST_TEXT} characters")
            if route.holdout and router.bucket(route.salt + "/holdout", entity) < route.holdout:
                flags |= journal.HOLDOUT
            time = call.decision_times[n] if call.decision_times is not None else None
            due = now_us if time is None else (time - _EPOCH) // _MICROSECOND
            made.append(self._route(route, call, n, id, entity, due, flags))
        return made

    def _route(self, route: Route, call: Call, n: int, id: str, entity: str, due: int, flags: int) -> Answer:
        routed, row = route.routed(entity), call.rows[n]
        bad = [0] * len(KINDS)
        if not call.typed:
            return Answer(id, entity, due, routed, routed, row, (), (), flags, bad)
        values = routed.inputs.values(row)
        if None in values:
            bad[_MISSING] = int(routed.inputs.surprising(values))
        return Answer(id, entity, due, routed, routed, row, values, (), flags, bad)

    def _settle(self, route: Route, n: int, answer: Answer, judged: Judged, now_us: int) -> None:
        """Give an answer its inputs, or have another version answer; refuses where nobody can."""
        routed, bad = answer.routed, answer.bad
        answer.values, answer.broken, answer.brought = judged.values, judged.broken, judged.row
        bad[_MISSING] = int(routed.inputs.surprising(judged.values))
        bad[_CONTRACT] = int(judged.hard)
        if judged.hard and not self._hand_on(route, answer, "contract"):
            self._count(route, routed, bad)
            answer.inputs = np.array(judged.values, dtype=np.float32).tobytes()
            self._write(answer, routed, nan, 0, now_us, refused=True)
            rules = ", ".join(judged.broken)
            if any(rule.startswith(UNAVAILABLE) for rule in judged.broken):
                raise Refused(503, f"row {n} cannot be answered by {self.endpoint!r} now: {rules}")
            raise Refused(422, f"row {n} breaks the contract of {self.endpoint!r}: {rules}")

    def _hand_on(self, route: Route, answer: Answer, reason: str) -> bool:
        """Have the next in the chain answer that can read the row; false where nobody is left."""
        row = answer.row if isinstance(answer.row, dict) else _plain(answer.row)
        begin = route.chain.index(answer.by) + 1 if answer.by in route.chain else 0
        for following in route.chain[begin:]:
            by = following or route.champion
            judged = by.inputs.judge(row, answer.decision_time)
            if following is not None and judged.hard:
                continue
            answer.by, answer.values, answer.fallback, answer.brought = by, judged.values, reason, judged.row
            if following is None:
                answer.fallback, answer.score = BASELINE, by.bundle.base_rate or 0.0
                answer.inputs = np.array(judged.values, dtype=np.float32).tobytes()
            return True
        return False

    def _score_all(self, route: Route, waiting: dict[Loaded, list[Answer]]) -> set[int]:
        """Score every group, handing failures down the chain; the answers that nobody could give."""
        lost: set[int] = set()
        for loaded in (*(c for _, c in route.canaries), *route.chain):
            group = waiting.get(loaded) if loaded is not None else None
            if loaded is None or not group:
                continue
            for answer in _score(loaded, group):
                answer.bad[_ERRORS] = 1
                if not self._hand_on(route, answer, "error"):
                    lost.add(id(answer))
                elif answer.fallback != BASELINE:
                    waiting.setdefault(answer.by, []).append(answer)
        return lost

    def _finish(self, route: Route, calls: Sequence[Call], lost: set[int], now_us: int) -> None:
        counts, now = self.counts, monotonic()
        for call in calls:
            if call.refused is not None:
                continue
            latency = round((now - call.started) * 1e6)
            counts.latency_us += latency
            counts.rows += len(call.answers)
            if lost and any(id(a) in lost for a in call.answers):
                counts.failed += 1
                call.refused = Refused(503, f"no version behind {self.endpoint!r} could answer")
            for answer in call.answers:
                if latency > route.slow_us:
                    answer.bad[_LATENCY] = 1
                if route.canary is not None:
                    self._count(route, answer.routed, answer.bad)
                if call.refused is None:
                    if answer.fallback:
                        counts.fallbacks += 1
                    self._write(answer, answer.by, answer.score, latency, now_us)
                    if route.shadows and len(self._shadows) < SHADOWS_WAITING:
                        self._shadows.append((answer, call.typed))
                    elif route.shadows:
                        counts.shadows_dropped += 1

    def _count(self, route: Route, routed: Loaded, bad: Sequence[int]) -> None:
        if route.canary is None or routed not in (route.canary, route.champion):
            return
        block = self._block
        side = 0 if routed is route.canary else 2
        block[side] += 1
        if any(bad):
            block[side + 1] = [p + q for p, q in zip(block[side + 1], bad, strict=True)]
        if block[0] + block[2] >= BLOCK:
            self._close_block()

    def _close_block(self) -> None:
        if self._block[0] or self._block[2]:
            self.counts.blocks.append(self._block)
            self._block = [0, [0] * len(KINDS), 0, [0] * len(KINDS)]

    def report(self) -> Counts:
        """What was seen since the last report."""
        self._close_block()
        counts, self.counts = self.counts, Counts()
        return counts

    def shadow(self, most: int) -> bool:
        """Score up to `most` waiting rows by the shadows; whether some are left."""
        route = self.route
        if route is None:
            return False
        for _ in range(min(most, len(self._shadows))):
            answer, typed = self._shadows.popleft()
            for loaded in route.shadows:
                started = monotonic()
                judged = loaded.inputs.judge(_plain(answer.row) if typed else answer.row, answer.decision_time)
                copy = Answer(
                    answer.id, answer.entity, answer.decision_time, loaded, loaded, None,
                    judged.values, judged.broken, answer.flags, [0] * len(KINDS), brought=judged.row,
                )  # fmt: skip
                if not judged.hard and not _score(loaded, [copy]):
                    now_us = (self._clock() - _EPOCH) // _MICROSECOND
                    self._write(copy, loaded, copy.score, round((monotonic() - started) * 1e6), now_us)
        return bool(self._shadows)

    def _write(
        self, answer: Answer, by: Loaded, score: float, latency_us: int, now_us: int, *, refused: bool = False
    ) -> None:
        flags = answer.flags | (journal.DECISION if not refused and answer.decision else 0)
        texts = (
            answer.id.encode(),
            answer.entity.encode(),
            answer.routed.version,
            "\n".join(answer.broken[:200]).encode() if answer.broken else b"",
            answer.fallback.encode(),
        )
        missing = answer.values.count(None)
        brought = _brought(by, answer.brought) if by.inputs.brought else b""
        for _ in range(2):
            made = self._journals.get((by, refused)) or self._new_journal(by, refused)
            if made is None:
                break
            if made.append(
                answer.decision_time, now_us, score, answer.routed.chance, latency_us, texts, missing, flags,
                answer.inputs, brought,
            ):  # fmt: skip
                return
            made.close()
            del self._journals[by, refused]
        self.counts.unlogged += 1

    def _new_journal(self, by: Loaded, refused: bool) -> journal.Journal | None:
        route = self.route
        assert route is not None
        shared = {
            "endpoint": self.endpoint,
            "version": by.variant.version,
            "role": REFUSED if refused else by.variant.role,
            "generation": route.generation,
            "inputs": [
                {k: v for k, v in asdict(i).items() if k in ("name", "kind", "categories")} for i in by.inputs.inputs
            ],
            "brought": by.inputs.brought,
        }
        path = self._segments / f"{self._name}-{self._made:06d}{journal.SUFFIX}"
        self._made += 1
        try:
            self._journals[by, refused] = journal.Journal(path, shared, len(by.inputs.inputs))
        except OSError as error:
            _log.error("answers are not logged: %s", error)
            return None
        return self._journals[by, refused]

    def _new_id(self) -> str:
        self._ids += 1
        return f"{self._prefix}{self._ids:012x}"


def _brought(by: Loaded, row: Mapping[str, Any] | None) -> bytes:
    """The columns of a request that a version's log keeps; nothing where they cannot be written."""
    if row is None:
        return b""
    get = row.get
    try:
        return _encode([get(name) for name in by.inputs.brought])
    except (TypeError, ValueError, OverflowError, RecursionError):  # what no JSON can say is not compared
        return b""


def _judged(calls: Sequence[Call]) -> dict[int, Judged]:
    """What the versions say of the rows that are judged one by one, each asked once for all calls; by answer."""
    asked: dict[Loaded, list[Answer]] = {}
    for call in calls:
        if not call.typed:
            for answer in call.answers:
                asked.setdefault(answer.routed, []).append(answer)
    found: dict[int, Judged] = {}
    for loaded, answers in asked.items():
        told = loaded.inputs.judge_many([a.row for a in answers], [a.decision_time for a in answers])
        found.update(zip(map(id, answers), told, strict=True))
    return found


def _score(loaded: Loaded, group: Sequence[Answer]) -> list[Answer]:
    """Score a group by one call; the answers that got no number."""
    matrix = np.array([a.values for a in group], dtype=np.float32)
    try:
        scores = loaded.bundle.score(matrix).tolist()
    except Exception:  # whatever a model does, the next in the chain answers
        _log.exception("version %s failed", loaded.variant.number)
        return list(group)
    data, width = matrix.tobytes(), matrix.shape[1] * 4
    failed = []
    for n, (answer, score) in enumerate(zip(group, scores, strict=True)):
        answer.score = score
        answer.inputs = data[n * width : (n + 1) * width]
        if score != score:
            failed.append(answer)
    return failed


def _check_lengths(call: Call, count: int) -> None:
    if not count:
        raise Refused(400, "`rows` is empty")
    if count > MOST_ROWS:
        raise Refused(413, f"{count:,} rows are more than the {MOST_ROWS:,} that one request may hold")
    for name in ("ids", "entities", "decision_times"):
        given = getattr(call, name)
        if given is not None and len(given) != count:
            raise Refused(400, f"`{name}` holds {len(given)} values for {count} rows")
    named = [id for id in call.ids or () if id]
    if len(set(named)) < len(named):
        twice = next(id for n, id in enumerate(named) if id in named[:n])
        raise Refused(400, f"`ids` holds {twice[:80]!r} twice; an id names one prediction")


def _entity(call: Call, n: int, unit: str | None) -> str | None:
    """What a row is about: what `entities` says, else the row's own column `unit`; refused where they differ."""
    given = call.entities[n] if call.entities is not None else None
    row = call.rows[n]
    if unit is None or call.typed or type(own := row.get(unit)) not in (str, int, float):
        return given
    key = text_of(own)
    if given is not None and key is not None and key != given:
        raise Refused(400, f"row {n}: `entities` says {given[:80]!r}, the row's own {unit} is {key[:80]!r}")
    return given or key or None


def _plain(row: Any) -> dict[str, Any]:
    """A decoded row as it was sent."""
    doc: dict[str, Any] = msgspec.to_builtins(row)
    return doc
