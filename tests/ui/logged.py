"""A few logged runs: one of each kind, with words that somebody chose to do harm."""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass

from tests.ui.world import HOSTILE

from loopline.store.runs.protocol import Dataset, Point
from loopline.store.runs.traces.otlp import batches
from loopline.workspace import Workspace

START = 1_790_000_000_000
LONG = 40_000
"""Points of the long curve."""


@dataclass(frozen=True)
class Logged:
    experiment: str
    first: str
    """Finished, with files and a long curve."""
    second: str
    """Failed; other params and other code."""
    third: str
    """Still running, inside the first."""
    trace: str
    """Of the first, failed, with a span whose caller is not here and two that call each other."""

    @property
    def ids(self) -> list[str]:
        return [self.first, self.second, self.third]

    @property
    def pages(self) -> list[str]:
        runs = "&".join(f"run={id}" for id in self.ids)
        below = ("", "/files", "/files?path=evil.html", "/files?path=a.csv", "/files?path=plots/bar.png", "/code",
                 "/files?path=plots/roc.svg", "/files?path=loopline", "/environment", "/output")  # fmt: skip
        return [
            "/experiments", "/runs", f"/runs?experiment={self.experiment}&group=params.depth&order=metrics.auc DESC",
            *(f"/runs/{self.first}{path}" for path in below), f"/runs/{self.second}", f"/runs/{self.third}",
            "/traces", f"/traces?filter=status = 'ERROR'&experiment={self.experiment}&order=execution_time_ms DESC",
            f"/traces/{self.trace}", f"/traces/{self.trace}?span={4:016x}",
            f"/runs/{self.third}/output", f"/runs/compare?{runs}",
            f"/runs/compare?run={self.first}&run={self.second}&all=1",
        ]  # fmt: skip


def png() -> bytes:
    """A small picture."""

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes([20 * y] * 30) for y in range(10))
    head = struct.pack(">IIBBBBB", 10, 10, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", zlib.compress(rows)) + part(b"IEND", b"")


def log(ws: Workspace) -> Logged:
    """Log them."""
    runs = ws.runs
    experiment = runs.create_experiment(f"churn {HOSTILE}", at_ms=START, tags={HOSTILE: HOSTILE}).id
    ids = []
    for place, (name, depth, auc) in enumerate([(f"first {HOSTILE}", "3", 0.8), ("second", "4", 0.9), ("", "4", 0.85)]):
        start = START + place * 60_000
        id = runs.create_run(experiment, start_ms=start, name=name, user="ada", tags={"team": HOSTILE}).id
        curve = [Point("train/loss", 1 / (1 + n), start + n, n) for n in range(LONG if place == 0 else 30)]
        timed = [Point("timed", float(n), start + 1000 * n, 0) for n in range(9)]
        runs.log(
            id,
            metrics=[Point("auc", auc, start, 1), Point("system/cpu_percent", 3.0, start, 0),
                     Point("system/cpu_percent", 4.0, start, 1), Point("cost/cpu_seconds", 7.5, start, 0),
                     Point(HOSTILE, float("nan"), start, 1), *timed],
            params={"depth": depth, "=1+1": "=1+1", "lr": "0.1", HOSTILE: HOSTILE},
        )  # fmt: skip
        runs.log(id, metrics=curve)
        ids.append(id)
    data = Dataset(HOSTILE, "ab" * 16, "local", HOSTILE, profile=HOSTILE, tags={"mlflow.data.context": "train"})
    runs.log_uses(ids[0], datasets=[data])
    runs.log(ids[2], tags={"mlflow.parentRunId": ids[0], "mlflow.note.content": HOSTILE})
    runs.change_run(ids[0], status="FINISHED", end_ms=START + 90_000)
    runs.change_run(ids[1], status="FAILED", end_ms=START + 70_000)
    runs.compact(ids[0])
    for place, id in enumerate(ids[:2]):
        _files(ws, id, place)
    return Logged(experiment, *ids, _traces(ws, experiment, ids[0]))


def _traces(ws: Workspace, experiment: str, run: str) -> str:
    def value(text: str) -> dict[str, str]:
        return {"stringValue": text}

    asked = json.dumps({"question": HOSTILE, "history": ["a", 1, None]})
    steps = [
        (1, None, "answer", 0, 900), (2, 1, HOSTILE, 10, 300), (3, 2, "look up", 20, 200), (4, 1, "model", 320, 880),
        (5, 99, "lost", 400, 500), (6, 7, "round", 500, 600), (7, 6, "and round", 510, 590),
    ]  # fmt: skip
    for trace, failed in ((1, True), (2, False)):
        spans = [
            {"traceId": f"{trace:032x}", "spanId": f"{id:016x}", "name": name,
             "startTimeUnixNano": (START + low) * 10**6, "endTimeUnixNano": (START + high) * 10**6,
             **({} if above is None else {"parentSpanId": f"{above:016x}"}),
             "status": {"code": 2, "message": HOSTILE} if failed and id in (1, 4) else {"code": 1},
             "attributes": [{"key": "mlflow.spanInputs", "value": value(asked)},
                            {"key": HOSTILE, "value": value(HOSTILE)},
                            {"key": "mlflow.spanType", "value": value("LLM" if id == 4 else HOSTILE)},
                            {"key": "tokens", "value": {"intValue": "42"}}],
             "events": [{"timeUnixNano": (START + high) * 10**6, "name": "exception", "attributes": [
                 {"key": "exception.stacktrace", "value": value(f"File x\n  {HOSTILE}")}]}] if id == 4 else []}
            for id, above, name, low, high in steps
        ]  # fmt: skip
        resource = {"attributes": [{"key": "service.name", "value": value(HOSTILE)}]}
        for origin, some in batches({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": spans}]}]}):
            ws.traces.add_spans(experiment, some, origin=origin)
    id = f"tr-{1:032x}"
    ws.traces.set_tags(id, {HOSTILE: HOSTILE})
    ws.traces.link([id], run)
    said = {"assessment_id": "a-1", "assessment_name": HOSTILE, "feedback": {"value": False}, "rationale": HOSTILE}
    ws.traces.judge(id, "a-1", {**said, "source": {"source_id": HOSTILE}})
    return id


def _files(ws: Workspace, id: str, place: int) -> None:
    code = {
        "commit": str(place) * 40,
        "files": {"train.py": str(place) * 64, HOSTILE: "3" * 64},
        "untracked": {"new.py": None},
    }
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><script>alert(1)</script><path d="M0 0L9 9"/></svg>'
    )
    files: dict[str, str | bytes] = {
        "evil.html": "<script>alert(1)</script>",
        "a.csv": f"a,b\n1,{HOSTILE}\n",
        "plots/bar.png": png(),
        "plots/roc.svg": svg,
        "weights.bin": bytes(range(256)),
        "loopline/code.json": json.dumps(code),
        "loopline/code.diff": f"@@ -1 +1 @@\n-depth = 2\n+depth = {3 + place}\n {HOSTILE}\n",
        "loopline/environment.txt": f"# Python 3.11\nnumpy=={place}.1\npolars==2.1.0\n",
        "loopline/machine.json": json.dumps({"processor": HOSTILE, "cores": 2, "gpus": [{"name": "one"}]}),
        "loopline/process.json": json.dumps({"python": f"3.1{place} x", "arguments": ["python", HOSTILE]}),
        "loopline/output.txt": f"begun\n{HOSTILE}\n",
    }
    for path, data in files.items():
        ws.artifacts.put(id, path, data if isinstance(data, bytes) else data.encode(), at_ms=START)
