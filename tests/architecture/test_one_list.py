"""The drawing: one list of stages, held true everywhere."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src" / "loopline"
STAGES = ("framing", "data", "features", "training", "evaluation", "registry", "serving", "monitoring", "retraining")
"""The loop of eight stages; preparing data takes two packages."""
EXAMPLE = re.compile(
    r"flight|airline|airport|carrier|weather|aircraft|tail.?num|nyc|arr_delay|dep_delay|departure|arrival",
    re.IGNORECASE,
)
DEMO = '"examples/flights"'
"""What `loopline demo` plays when nothing is named: the one place that knows where the example lies."""
PART_OF = {"pydantic_core": "pydantic"}
SOURCES = sorted(
    path for path in SRC.rglob("*") if path.suffix in (".py", ".html", ".css", ".js", ".yaml", ".sql", ".mako")
)


@cache
def project() -> dict[str, object]:
    doc: dict[str, object] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return doc


def layers() -> list[str]:
    contracts = project()["tool"]["importlinter"]["contracts"]  # type: ignore[index]
    (drawing,) = (c for c in contracts if c["id"] == "drawing")
    return [room.strip() for layer in reversed(drawing["layers"]) for room in layer.split(":")]


def test_the_stages_stand_in_the_drawing_in_the_order_of_the_loop():
    assert tuple(room for room in layers() if room in STAGES) == STAGES


def test_each_stage_is_a_package_with_nouns_and_a_spec():
    for stage in STAGES:
        assert {"__init__.py", "nouns.py", "spec.py"} <= {path.name for path in (SRC / stage).iterdir()}, stage


def test_the_sections_of_the_declaration_are_the_stages():
    from loopline.loop.spec import LoopSpec

    sections = [name for name in LoopSpec.model_fields if name in STAGES]
    assert tuple(sections) == STAGES
    assert set(LoopSpec.model_fields) - set(STAGES) <= {"name", "version"}


def test_every_verb_carries_the_name_of_its_room_and_function():
    script = (
        "import importlib, json, pathlib, loopline.workspace as w\n"
        f"root = pathlib.Path({str(SRC)!r})\n"
        "for path in sorted(root.rglob('*.py')):\n"
        "    text = path.read_text()\n"
        "    if '@verb(' in text or '@query(' in text:\n"
        "        importlib.import_module('loopline.' + '.'.join(path.relative_to(root).with_suffix('').parts))\n"
        "print(json.dumps([[n, i.call.__module__, i.call.__name__] for n, i in w.VERBS.items()]))\n"
    )
    wrong = [
        f"{module}.{function} is called {name}"
        for name, module, function in json.loads(_python(script))
        if name != f"{module.split('.')[1]}.{function}"
    ]
    assert not wrong


def test_the_import_contracts_hold():
    done = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(SRC)))
def test_no_word_of_the_example_stands_in_the_library(path):
    if "vendor" in path.parts:
        return
    text = path.read_text()
    if path.parent == SRC / "interfaces" / "cli":
        text = text.replace(DEMO, "")
    found = [line.strip() for line in text.splitlines() if EXAMPLE.search(line)]
    assert not found, found[:3]


def test_importing_loopline_and_its_stages_brings_nothing_heavy():
    heavy = ("polars", "numpy", "deltalake", "lightgbm", "sklearn", "onnxruntime", "onnx", "sqlalchemy", "starlette")
    rooms = ", ".join(f"loopline.{room}" for room in (*STAGES, "governance", "loop", "interfaces"))
    loaded = _python(f"import sys, loopline, {rooms}\nprint([m for m in {heavy!r} if m in sys.modules])")
    assert loaded.strip() == "[]"


def test_a_stage_exports_only_what_exists():
    rooms = ", ".join(repr(f"loopline.{room}") for room in (*STAGES, "governance"))
    script = (
        "import importlib\n"
        f"for room in ({rooms},):\n"
        "    module = importlib.import_module(room)\n"
        "    for name in getattr(module, '__all__', ()):\n"
        "        getattr(module, name)\n"
    )
    _python(script)


def test_only_the_clock_reads_the_time_and_only_settings_read_the_environment():
    clock = re.compile(r"datetime\.(now|utcnow|today)\(|time\.time\(|date\.today\(")
    environment = re.compile(r"os\.(environ|getenv)")
    for path in SRC.rglob("*.py"):
        name = str(path.relative_to(SRC))
        if name != "base/clock.py":
            assert not clock.search(path.read_text()), f"{name} reads the machine's clock"
        if name != "base/settings.py":
            assert not environment.search(path.read_text()), f"{name} reads the environment"


def test_every_import_of_another_distribution_is_declared():
    declared = _declared()
    owners = metadata.packages_distributions()
    undeclared = {}
    for path in SRC.rglob("*.py"):
        for name in _imports(path):
            if name in sys.stdlib_module_names or name == "loopline":
                continue
            names = {_plain(owner) for owner in owners.get(PART_OF.get(name, name), [name])}
            if not names & declared:
                undeclared.setdefault(name, str(path.relative_to(SRC)))
    assert not undeclared


def test_every_range_is_bounded():
    for line in _requirements():
        assert line.startswith("loopline[") or ("<" in line and ">=" in line), f"{line} has no upper bound"


def test_every_dependency_has_its_reason():
    reasons = (ROOT / "docs" / "decisions" / "dependencies.md").read_text().lower()
    for name in _declared():
        assert f"`{name}`" in reasons, f"docs/decisions/dependencies.md says nothing about {name}"


def test_no_pinned_file_names_a_place():
    for path in (ROOT / "requirements").glob("*.txt"):
        assert "://" not in path.read_text(), path.name


def _python(script: str) -> str:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def _plain(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def _requirements() -> list[str]:
    doc = project()
    extras = doc["project"]["optional-dependencies"]  # type: ignore[index]
    groups = doc["dependency-groups"]
    lines = list(doc["project"]["dependencies"])  # type: ignore[index]
    return [*lines, *(line for extra in extras.values() for line in extra), *(x for g in groups.values() for x in g)]  # type: ignore[attr-defined]


def _declared() -> set[str]:
    return {_plain(line) for line in _requirements()} - {"loopline"}


def _imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found
