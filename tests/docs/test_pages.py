"""What the pages say of the code is what the code says; what they point at is there."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from tests.docs.generated import PARTS, part
from tests.docs.pages import DOCS, ROOT, blocks

from loopline.base import settings

PAGES = sorted([*DOCS.rglob("*.md"), ROOT / "README.md"])
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("name", PARTS)
def test_what_a_page_says_of_the_code_is_what_the_code_says(name):
    page, make = PARTS[name]
    written = part((DOCS / page).read_text(), name)
    assert written == make(), f"{page} is behind the code: python -m tests.docs.generated"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    gone = [to for to in LINK.findall(prose) if "://" not in to and not (page.parent / to).exists()]
    assert not gone


def test_the_readme_names_the_extras_that_the_environment_of_the_demo_lacks():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    there = re.search(r"^DEMO = \((.*)\)$", (ROOT / "tools" / "lock.py").read_text(), re.MULTILINE)
    said = re.search(r"it lacks (.*?):", (ROOT / "README.md").read_text(), re.DOTALL)
    assert there and said
    assert set(re.findall("`(.*?)`", said[1])) == set(extras) - set(re.findall('"(.*?)"', there[1])) - {"all"}


def test_every_page_can_be_reached_from_the_readme():
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop().resolve()
        if page in reached or page.suffix != ".md" or not page.is_file():
            continue
        reached.add(page)
        waiting += [page.parent / to for to in LINK.findall(page.read_text()) if "://" not in to]
    assert {page.resolve() for page in DOCS.rglob("*.md")} <= reached


def test_every_environment_variable_that_is_read_is_described():
    read = set(re.findall(r"environ(?:\.get\(|\[)[\"']([A-Z_]+)", Path(settings.__file__).read_text()))
    described = set(re.findall(r"^\| `([A-Z_]+)`", (DOCS / "reference" / "environment.md").read_text(), re.MULTILINE))
    assert read == described


@pytest.mark.parametrize("page", sorted((DOCS / "decisions").glob("*.md")), ids=lambda path: path.stem)
def test_a_decision_says_what_was_refused_and_what_would_change_it_on_one_page(page):
    text = page.read_text()
    if page.stem != "dependencies":  # a table with a row for each
        assert len(text.splitlines()) <= 60
        assert "**Chosen.**" in text and "**Refused.**" in text and "would change our mind" in text


def test_every_block_of_commands_is_run_by_a_test():
    followed = {path.relative_to(ROOT).as_posix() for path in (DOCS / "tutorial").glob("*.md")}
    followed |= {path.relative_to(ROOT).as_posix() for path in (DOCS / "how-to").glob("*.md")}
    loose = [str(b) for page in PAGES for b in blocks(page) if b.language in ("bash", "python")]
    assert not [name for name in loose if name.partition(":")[0] not in followed | {"README.md"}]
