"""Run the benchmarks: `python benchmarks/run.py [AREA ...]`.

Each `bench_<area>.py` is a program that prints one JSON object a line and figure,
with the keys below: `ours` beside a `baseline` that a reader trusts, in `unit`,
`ratio` = ours / baseline, and whether it is `ok` against the `target`. What it
says on standard error is shown as it comes. Exit code 1 if a line is not ok.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

KEYS = ("bench", "ours", "baseline", "unit", "ratio", "target", "ok")
FOLDER = Path(__file__).resolve().parent


def chosen(areas: list[str]) -> list[Path]:
    """The programs of the areas named, or all."""
    known = {path.stem.removeprefix("bench_"): path for path in sorted(FOLDER.glob("bench_*.py"))}
    unknown = [area for area in areas if area not in known]
    if unknown:
        sys.exit(f"no benchmark {', '.join(unknown)}; there are: {', '.join(known)}")
    return [path for area, path in known.items() if not areas or area in areas]


def run(program: Path) -> bool:
    """Run one program, pass its lines on, and say whether all of them are ok."""
    done = subprocess.run([sys.executable, str(program)], stdout=subprocess.PIPE, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    fine = done.returncode == 0 and bool(lines)
    for line in lines:
        try:
            doc = json.loads(line)
            lacking = [key for key in KEYS if key not in doc]
        except (ValueError, TypeError):
            doc, lacking = {}, list(KEYS)
        if lacking:
            print(f"{program.name}: not a result line (lacks {', '.join(lacking)}): {line}", file=sys.stderr)
            fine = False
            continue
        print(json.dumps({key: doc[key] for key in KEYS} | doc), flush=True)
        fine = fine and bool(doc["ok"])
    if not lines:
        print(f"{program.name}: printed nothing (exit code {done.returncode})", file=sys.stderr)
    return fine


if __name__ == "__main__":
    outcomes = [run(program) for program in chosen(sys.argv[1:])]
    sys.exit(0 if all(outcomes) else 1)
