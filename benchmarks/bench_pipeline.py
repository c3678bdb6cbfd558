"""A pipeline of five small steps with full lineage, beside the same functions called plainly in the same run.

Cold is a fresh process with a fresh workspace, its whole process tree counted; warm the next run in one process that
finds nothing; unchanged one that finds everything. Durable steps are kept one by one, as a chain of 300 runs.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import cpu_seconds, line

from loopline.compute import Place
from loopline.training.pipeline.verbs import find, run_pipeline
from loopline.workspace import create_workspace

FLOW = """
import numpy as np
from loopline.training.pipeline import pipeline, step


@step
def load(n: int) -> np.ndarray:
    return np.arange(float(n))


@step
def clean(x: np.ndarray) -> np.ndarray:
    return x * 2


@step
def split(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return x[::2].copy(), x[1::2].copy()


@step
def fit(x: np.ndarray) -> float:
    return float(x.mean())


@step
def score(m: float, y: np.ndarray) -> float:
    return float(abs(y - m).mean())


@pipeline
def main(n: int = 10_000):
    first, second = split(clean(load(n)))
    return score(fit(first), second)


@step
def add(x: int) -> int:
    return x + 1


@pipeline
def chain(x: int = 0, length: int = 300):
    for _ in range(length):
        x = add(x)
    return x
"""
RUN = """
import sys
from pathlib import Path
from loopline.training.pipeline.verbs import find, run_pipeline
from loopline.workspace import create_workspace
root = Path(sys.argv[1])
assert run_pipeline(create_workspace(root / ".loopline"), root, find(root, "flow.py:main")).state == "done"
"""
PLAIN = """
import sys
sys.path.insert(0, sys.argv[1])
import flow
flow.main()
"""
CHAIN, ROUNDS = 300, 5


def tree_seconds(program: str, root: Path) -> float:
    """CPU seconds of a fresh process and all it starts."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", program, str(root)], check=True, env=os.environ)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def project(folder: Path, name: str, text: str = FLOW) -> Path:
    """A folder with the pipeline."""
    root = folder / name
    root.mkdir()
    (root / "flow.py").write_text(text)
    return root


def main() -> None:
    """Print one line for each."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        bare = FLOW.replace("from loopline.training.pipeline import pipeline, step\n", "")
        plain = project(folder, "plain", bare.replace("@step\n", "").replace("@pipeline\n", ""))
        cold = min(tree_seconds(RUN, project(folder, f"cold{at}")) for at in range(3))
        line("pipeline-cold", cold, min(tree_seconds(PLAIN, plain) for _ in range(3)), "cpu_s", 1.2)

        root = project(folder, "warm")
        ws = create_workspace(root / ".loopline")
        flow = find(root, "flow.py:main")
        sizes = iter(range(10_000, 11_000))
        here = Place("here")

        def run() -> None:
            assert run_pipeline(ws, root, flow, params={"n": next(sizes)}, place=here).state == "done"

        def call() -> None:
            flow(next(sizes))

        run()
        base = cpu_seconds(call, ROUNDS)
        line("pipeline-warm", (cpu_seconds(run, ROUNDS) - base) * 1e3, base * 1e3, "cpu_ms", 30.0)
        same = cpu_seconds(lambda: run_pipeline(ws, root, flow, params={"n": 9}, place=here), ROUNDS)
        line("pipeline-unchanged", same * 1e3, base * 1e3, "cpu_ms", 300.0)

        chain = find(root, "flow.py:chain")
        starts = iter(range(0, 100_000, 1_000))

        def steps() -> None:
            assert (
                run_pipeline(ws, root, chain, params={"x": next(starts), "length": CHAIN}, place=here).state == "done"
            )

        rate = CHAIN / cpu_seconds(steps, 3)
        line("pipeline-durable-steps", rate, None, "steps_per_cpu_s", 800, ok=rate >= 800)
        ws.close()


if __name__ == "__main__":
    main()
