"""Candidates whose features are others than the champion's, by the steps of the loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.loop.shop import DAYS, HOUR, PAGE, START, VIEWS, Shop

from loopline import data
from loopline.base.ids import iso
from loopline.evaluation.nouns import Report
from loopline.loop import steps
from loopline.loop.project import load

GATED = PAGE.replace("gates: []", "gates: [{metric: roc_auc, against: champion, no_worse_by: 0.9}]")
OTHER = """\
from loopline.features import col, view


@view(entity="order")
def doubled():
    return {"double": col("size") * 2}
"""


@pytest.fixture
def shop(tmp_path: Path) -> Any:
    made = Shop(tmp_path / "shop", START + DAYS * 24 * HOUR, GATED)
    data.ingest(made.ws, made.root, made.project.spec.data)
    (made.root / "other.py").write_text(OTHER)
    yield made
    made.ws.close()


def candidate(shop: Shop, champion: str | None = None, **more: Any) -> tuple[str, Report]:
    """The model that the steps make now, and its report."""
    args = {
        "project": str(shop.root),
        "actor": "service:loop",
        "author": "user:scientist",
        "at": iso(shop.ws.clock()),
        "champion": champion,
        "policy": {"id": "test"},
        "register": False,
        "search_leaks": False,
        **more,
    }
    changes = steps.prepare(shop.ws.root, **args, changes={})
    changes |= steps.train(shop.ws.root, **args, changes=changes)
    made = steps.evaluate(shop.ws.root, **args, changes=changes)
    return changes["model"], shop.ws.records.get(Report, made["report"])


def test_a_candidate_that_drops_and_redefines_features_is_compared_by_the_champions_own(shop: Shop) -> None:
    champion, alone = candidate(shop)
    new = VIEWS.replace('"shop": col("shop").category()', '"length": col("shop").length()')
    (shop.root / "features.py").write_text(new.replace('count("6h")', 'count("5h")'))
    _, report = candidate(shop, champion)
    assert set(report.beside) == {"shop", "sales_6h"} and not report.uncompared
    assert report.champion_metrics == alone.metrics


def test_after_a_challenger_of_other_files_the_projects_own_views_are_compared_with_it(shop: Shop) -> None:
    champion, alone = candidate(shop, views=["other.py"])
    _, report = candidate(shop, champion)
    assert report.beside == ("double",) and report.champion_metrics == alone.metrics
    _, back = candidate(shop, candidate(shop)[0], views=["other.py"])
    assert set(back.beside) == {"size", "shop", "amount_1d", "sales_6h", "last"} and not back.uncompared


def test_a_champion_that_reads_a_table_no_longer_declared_fails_the_gate_and_the_reason_is_given(shop: Shop) -> None:
    champion, _ = candidate(shop)
    page = "\n".join(line for line in GATED.splitlines() if not line.startswith("  sales:"))
    (shop.root / "loop.yaml").write_text(page)
    (shop.root / "features.py").write_text(VIEWS.partition('@view(entity="shop"')[0])
    assert "sales" not in load(shop.root).spec.data
    _, report = candidate(shop, champion)
    assert not report.passed and set(report.uncompared) == {"amount_1d", "sales_6h", "last"}
    assert "it reads table sales, which loop.yaml no longer declares under data" in report.verdicts[0].why
