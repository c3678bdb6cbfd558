"""The parts of the documentation that are written from the code.

`python -m tests.docs.generated` writes them; a test holds the pages to them. A
part stands in its page between `<!-- name -->` and `<!-- /name -->`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.docs.pages import DOCS

from loopline.base.errors import FAMILIES
from loopline.features.operators import OPERATORS
from loopline.interfaces.cli.commands import COMMANDS, GROUPS
from loopline.interfaces.cli.main import EXITS
from loopline.interfaces.http import openapi
from loopline.interfaces.http.control import load_verbs
from loopline.loop.explain import Key
from loopline.loop.explain import keys as declared
from loopline.loop.later import KEYS
from loopline.retraining.states import ENDS, ENTRY_EFFECTS, NEXT
from loopline.serving import log
from loopline.workspace import VERBS


def states() -> str:
    """The state table."""
    rows = [
        (state, ", ".join(sorted(NEXT.get(state, ()))) or "(an end)", ", ".join(effects))
        for state, effects in ENTRY_EFFECTS.items()
    ]
    assert {state for state, to, _ in rows if to == "(an end)"} == ENDS
    return _table(("state", "leads to", "effects it may ask for when entered"), rows)


def keys() -> str:
    """Every key of `loop.yaml`."""
    rows = [
        (f"`{key.path}`", key.type, _default(key), " ".join((key.effect, _example(key))).strip()) for key in declared()
    ]
    return _table(("key", "type", "default", "effect"), rows)


def _default(key: Key) -> str:
    told = "must be given" if key.default is None else key.default
    return f"{told} ({key.unit})" if key.unit else told


def _example(key: Key) -> str:
    return f"Example: `{key.example}`" if key.example else ""


def later() -> str:
    """Keys that are refused by name."""
    return _table(("key", "what it will belong to"), [(f"`{key}`", what) for key, what in KEYS.items()])


def commands() -> str:
    """Every command."""
    groups = {words.split()[0]: told for words, (told, _) in GROUPS.items()}
    lines: list[str] = []
    for group in dict.fromkeys(command.group for command in COMMANDS):
        mine = [c for c in COMMANDS if c.group == group]
        rows = [(f"`loopline {c.words}`", c.help, f"`{c.verb}`" if c.verb else "", f"`{c.example}`") for c in mine]
        lines += [f"### {group}", "", _table(("command", "what it does", "verb", "example"), rows), ""]
    assert groups
    return "\n".join(lines).rstrip()


def verbs() -> str:
    """Every verb that can be called over HTTP."""
    load_verbs()
    page = openapi.page()
    rows = []
    shipped = [v for v in VERBS.values() if v.call.__module__.startswith("loopline.")]
    for info in sorted(shipped, key=lambda v: v.name):
        path = openapi.path_of(info)
        if path in page["paths"]:
            methods = ", ".join(m.upper() for m in page["paths"][path])
            rows.append((methods, f"`{path}`", page["paths"][path]["post"].get("summary", "")))
    return _table(("method", "path", "what it does"), rows)


def families() -> str:
    """The error families with their codes."""
    rows = [
        (f"`{code}`", (family.__doc__ or "").strip(), str(openapi.STATUS[code]), str(EXITS[code]))
        for code, family in FAMILIES.items()
    ]
    return _table(("code", "meaning", "HTTP status", "exit code"), rows)


def prediction_log() -> str:
    """The columns of the prediction log, as its module describes them."""
    found = re.search(r"^\| column.*?(?=\n\n)", log.__doc__ or "", re.DOTALL | re.MULTILINE)
    assert found is not None
    for name in log.COLUMNS:
        assert re.search(rf"^\|[^|]*\b{name}\b", found[0], re.MULTILINE), name
    return found[0]


def operators() -> str:
    """The closed set of operators."""
    rows = [(f"`{row.written}`", ", ".join(row.takes), row.gives, row.meaning) for row in OPERATORS.values()]
    return _table(("written", "takes", "gives", "meaning"), rows)


PARTS: dict[str, tuple[str, Callable[[], str]]] = {
    "states": ("concepts/loop.md", states),
    "keys": ("reference/loop-yaml.md", keys),
    "later": ("reference/loop-yaml.md", later),
    "commands": ("reference/command-line.md", commands),
    "verbs": ("reference/http.md", verbs),
    "operators": ("reference/features.md", operators),
    "families": ("reference/errors.md", families),
    "log": ("reference/prediction-log.md", prediction_log),
}


def part(text: str, name: str) -> str | None:
    """What stands between the markers of `name`; null without them."""
    found = re.search(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", text, re.DOTALL)
    return found[1].rstrip("\n") if found else None


def write(folder: Path = DOCS) -> None:
    """Write every part into its page."""
    for name, (page, make) in PARTS.items():
        path = folder / page
        text = path.read_text()
        assert part(text, name) is not None, f"{page} has no markers for {name}"
        before, _, rest = text.partition(f"<!-- {name} -->\n")
        path.write_text(f"{before}<!-- {name} -->\n{make()}\n<!-- /{name} -->{rest.partition(f'<!-- /{name} -->')[2]}")


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


if __name__ == "__main__":
    write()
