"""A loop is one page; what is wrong with it is said with key, line and the nearest word."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.base.errors import Invalid, LooplineError, NotFound
from loopline.data.spec import TableSpec
from loopline.framing.spec import FramingSpec
from loopline.loop import explain
from loopline.loop.document import MAX_ALIASES, MAX_DEPTH, Document
from loopline.loop.project import load, parse
from loopline.loop.spec import LoopSpec
from loopline.training.spec import TrainingSpec

SHORT = """\
name: churn
framing: {label: churned, unit: customer_id, decision_time: snapshot_at}
data: customers.csv
training: train.py:fit
"""

LONG = """\
name: parcels
framing:
  objective: warn before a parcel is late
  task: binary
  label: {table: outcomes, value: delay > 15}
  unit: parcel_id
  decision_time: due - 2h
  label_arrives: 1d
  value: {currency: EUR, true_positive: 40, false_positive: -12, false_negative: -55, true_negative: 0}
  baseline: baselines.py:rate
  risk: limited
  owner: {name: ops, notify: "https://chat.example/hook"}
data:
  schedule: {source: prepare.py:schedule, contract: contracts/schedule.yaml, event_time: due, known_at: published}
  outcomes: {source: prepare.py:outcomes, event_time: arrived, known_at: reported}
features: {spine: schedule, views: features.py}
training: {recipe: train.py:fit, split: {by: time, test: 28d}, search: none}
evaluation:
  primary: roc_auc
  slices: [depot]
  gates: [{metric: roc_auc, against: champion, no_worse_by: 0.01}]
registry: {approvals: {needed: 1, by: anyone_but_author}, keep: {versions: 10, at_least: 30d}}
serving: {release: {canary: [5%, 25%, 50%], each_at_most: 2d}, fallback: [previous, baseline]}
monitoring: {window: 1d, false_alarms_per_year: 2}
retraining:
  mode: off
  over: 28d
  any_of: [calibration_error > 0.03, roc_auc < released - 0.01, every 90d]
  cooldown: {after_promotion: 14d}
  budget: {runs: 4, per: 30d}
"""


def page(text: str) -> LoopSpec:
    return parse(Document(text, "loop.yaml"))


def told(text: str) -> str:
    with pytest.raises(Invalid) as caught:
        page(text)
    return str(caught.value)


def test_four_lines_are_a_whole_loop():
    spec = page(SHORT)
    assert spec.data == {"data": TableSpec(source="customers.csv")}
    assert spec.features.spine == "data"
    assert spec.framing.label.value == "churned"
    assert spec.training.recipe == "train.py:fit"
    assert spec.notices == ()


def test_every_key_of_the_long_page_is_read_as_written():
    spec = page(LONG)
    assert spec.retraining.mode == "off"
    assert spec.serving.release.canary == (0.05, 0.25, 0.5)
    assert spec.training.split.test == timedelta(days=28)
    assert spec.features.views == ("features.py",)
    assert spec.framing.label_arrives == timedelta(days=1)
    assert spec.retraining.cooldown.after_promotion == timedelta(days=14)


def test_the_fallback_baseline_needs_no_baseline_to_compare_with():
    assert page(SHORT + "serving: {fallback: [baseline]}\n").serving.fallback == ("baseline",)


def test_without_a_time_rows_are_held_out_at_random_and_nothing_retrains():
    spec = page(SHORT.replace(", decision_time: snapshot_at", ""))
    assert spec.training.split.by == "random"
    assert spec.retraining.mode == "observe" and not spec.retraining.any_of
    assert "held out at random" in spec.notices[0]


def test_python_builds_the_same_loop_with_the_same_id():
    built = LoopSpec(
        name="churn",
        framing=FramingSpec.model_validate({"label": "churned", "unit": "customer_id", "decision_time": "snapshot_at"}),
        data={"data": TableSpec(source="customers.csv")},
        training=TrainingSpec(recipe="train.py:fit"),
    )
    assert built.id == page(SHORT).id


def test_a_default_written_out_changes_no_id():
    assert page(SHORT + "monitoring: {window: 1d}\nregistry: {keep: {at_least: 30d}}\n").id == page(SHORT).id
    assert page(SHORT + "monitoring: {window: 2d}\n").id != page(SHORT).id


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("risk: limited", "risk: limitd", 11, "write `limited`?"),
        ("risk: limited", "risc: limited", 11, "write `risk`?"),
        ("unit: parcel_id", "units: parcel_id", 6, "write `unit`?"),
        ("task: binary", "task: binry", 4, "write `binary`?"),
        ("label_arrives: 1d", "label_arrives: 1 day", 8, "28d or 4w"),
        ("label_arrives: 1d", "label_arrives: 1", 8, "has no unit"),
        ("value: {currency", "value: {curency", 9, "write `currency`?"),
        ("true_positive: 40", "true_positive: forty", 9, "not 'forty'"),
        ("baselines.py:rate", "baselines.rate", 10, "does not name a function"),
        ("owner: {name: ops,", "owner: {", 12, "framing.owner.name` is missing"),
        ("contract: contracts", "contact: contracts", 14, "write `contract`?"),
        ("table: outcomes", "table: outcome", 5, "write `outcomes`?"),
        ("label: {table: outcomes, value: delay > 15}", "label: late", 5, "the label must say which holds it"),
        ("spine: schedule", "spine: scedule", 16, "write `schedule`?"),
        ("views: features.py", "views: features.yaml", 16, "is not a Python file"),
        ("recipe: train.py:fit", "recipe: train.fit", 17, "does not name a function"),
        ("by: time", "by: tme", 17, "write `time`?"),
        ("by: time", "by: random", 17, "are a share"),
        ("test: 28d", "test: many", 17, "training.split.test"),
        ("primary: roc_auc", "primary: rocauc", 19, "write `roc_auc`?"),
        ("slices: [depot]", "slice: [depot]", 20, "write `slices`?"),
        ("no_worse_by: 0.01", "no_worse_by: 0.01, at_least: 0.7", 21, "exactly one of"),
        ("metric: roc_auc, against", "metric: value, slice: nowhere, against", 21, "is no slice"),
        ("slices: [depot]", "slices: depot", 20, "should be a list, not 'depot'"),
        ("needed: 1", "needed: one", 22, "not 'one'"),
        ("by: anyone_but_author", "by: anyone_but_autor", 22, "write `anyone_but_author`?"),
        ("versions: 10", "versions: 1", 22, "greater than or equal to 2"),
        ("[5%, 25%, 50%]", "[50%, 5%]", 23, "canary rise"),
        ("[5%, 25%, 50%]", "[5%, 250%]", 23, "between 0% and 100%"),
        ("fallback: [previous", "fallback: [previos", 23, "write `previous`?"),
        ("window: 1d", "windw: 1d", 24, "write `window`?"),
        ("false_alarms_per_year: 2", "false_alarms_per_year: 0", 24, "greater than 0"),
        ("mode: off", "mode: of", 26, "write `off`?"),
        ("calibration_error > 0.03", "calibration_eror > 0.03", 28, "write `calibration_error`?"),
        ("released - 0.01", "released * 2", 28, "is not a trigger"),
        ("after_promotion: 14d", "after_promotions: 14d", 29, "write `after_promotion`?"),
        ("runs: 4", "runs: 0", 30, "greater than or equal to 1"),
        ("budget: {runs: 4, per: 30d}", "effects: {trian: {shell: x}}", 30, "write `train`?"),
        ("monitoring:", "monitorin:", 24, "write `monitoring`?"),
        ("window: 1d", "window: 0d", 24, "monitoring.window: a window is at least a minute long\n"),
        ("window: 1d", "window: 30s", 24, "allowed: 1h, 12h, 1d, 7d"),
        ("over: 28d", "over: 0d", 27, "over must be longer than nothing"),
        ("per: 30d", "per: 0h", 30, "allowed: 1h, 1d, 28d"),
        ("every 90d", "every 0d", 28, "would fire without end"),
        ("https://chat.example/hook", "file:///etc/passwd", 12, "allowed: https://host/path, http://host/path"),
        ("https://chat.example/hook", "http://[nowhere", 12, "is no webhook"),
        (
            "budget: {runs: 4, per: 30d}",
            'effects: {train: {webhook: "ftp://a/b"}}',
            30,
            "retraining.effects.train.webhook: 'ftp://a/b' is no webhook",
        ),
    ],
)
def test_a_wrong_key_or_value_is_named_with_its_line_and_the_nearest(old, new, line, said):
    assert old in LONG
    message = told(LONG.replace(old, new, 1))
    assert f"line {line}," in message
    assert f"\n{line} | " in message
    assert said in message


def test_a_metric_that_lacks_its_section_is_not_told_to_be_written_as_it_is():
    text = "name: a\nframing: {label: x, unit: y}\ndata: a.csv\ntraining: train.py:fit\n"
    message = told(text + "evaluation: {gates: [{metric: value, at_least: 1}]}\n")
    assert "needs framing.value" in message
    assert "write `value`" not in message


@pytest.mark.parametrize("key", ["name", "framing", "data", "training"])
def test_a_missing_section_is_named(key):
    lines = [line for line in SHORT.splitlines() if not line.startswith(key)]
    message = told("\n".join(lines))
    assert f"`{key}` is missing" in message
    assert "features" not in message


def test_an_impossible_space_of_params_is_refused_at_its_line():
    section = "training:\n  recipe: train.py:fit\n  search:\n    trials: 5\n    params:\n      rate: {low: 3, high: 1}"
    message = told(SHORT.replace("training: train.py:fit", section))
    line = SHORT.replace("training: train.py:fit", section).splitlines().index("      rate: {low: 3, high: 1}") + 1
    assert f"line {line}" in message and "nothing to search" in message
    typo = section.replace("low: 3", "lo: 3")
    assert "unknown key `lo` in training.search.params.rate" in told(SHORT.replace("training: train.py:fit", typo))
    wrong = section.replace("low: 3", "low: 0") + "\n    sampler: tp"
    assert "allowed: tpe, random" in told(SHORT.replace("training: train.py:fit", wrong))


def test_all_problems_of_a_page_are_told_at_once():
    message = told(LONG.replace("risk: limited", "risk: limitd").replace("mode: off", "mode: of"))
    assert "line 11" in message
    assert "also line 26" in message


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("data: customers.csv", "data: {p: {source: a.csv, score: pd}}", "data.p.score"),
        ("data: customers.csv", "data: {p: {source: a.csv, only_when: approved}}", "data.p.only_when"),
        ("training: train.py:fit", "training: train.py:fit\nserving: external", "serving"),
        ("training: train.py:fit", "training: train.py:fit\nserving: {shadow: 5%}", "serving.shadow"),
        (
            "training: train.py:fit",
            "training: train.py:fit\nmonitoring: {reference: 2026-01-01/2026-06-30}",
            "monitoring.reference",
        ),
        ("label: churned", "task: regression, label: churned", "framing.task"),
    ],
)
def test_what_a_later_version_brings_is_refused_by_name(old, new, named):
    message = told(SHORT.replace(old, new))
    assert f"`{named}`" in message
    assert "comes with a later version" in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (SHORT + "name: again\n", "line 5, column 1: key 'name' stands twice, first in line 1"),
        ("name: [a\nb: c", "line 2"),
        ("name: a\nframing:\n\tlabel: b\n", "line 3, column 1: tabs cannot indent"),
        ("name: a\nframing:\n  label: b\n\tunit: c\n", "fix: use spaces"),
        ("name: a\nb:\tc", "line 2, column 3: a tab cannot stand here"),
        ("", "empty"),
        ("- a", "not a mapping"),
        ("a: " + "[" * (MAX_DEPTH + 1), "nested deeper"),
        ("x: &a 1\ny: [" + "*a, " * (MAX_ALIASES + 1) + "]", "aliases"),
        ("a: !!python/object:os.system x", "not allowed"),
        ("version: 2\n" + SHORT, "format version 2"),
        (SHORT + "seed: " + "1" * 300_000, "larger than"),
    ],
)
def test_a_page_that_is_no_plain_yaml_is_refused(text, said):
    assert said in told(text)


def test_off_and_no_are_words():
    assert Document("a: off\nb: NO\nc: yes\nd: 2026-01-01", "page").doc == {
        "a": "off", "b": "NO", "c": "yes", "d": "2026-01-01",
    }  # fmt: skip


def test_aliases_of_aliases_unfold_only_so_far():
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 8)}]\n" for i in range(1, 8)
    )
    assert "unfold to too much" in told(bomb)


@given(st.text(max_size=60), st.integers(0, len(LONG)))
@settings(max_examples=150, deadline=None)
def test_no_page_ends_in_anything_but_a_loop_or_an_error_one_can_act_on(noise, at):
    try:
        assert isinstance(page(LONG[:at] + noise + LONG[at:]), LoopSpec)
    except LooplineError as error:
        assert error.what and error.fix


def test_a_project_knows_its_folder_and_misses_its_files(tmp_path: Path):
    (tmp_path / "loop.yaml").write_text(SHORT)
    project = load(tmp_path)
    assert (project.root, project.name, project.id) == (tmp_path, "churn", project.spec.id)
    (tmp_path / "customer.csv").write_text("a,b\n")
    with pytest.raises(NotFound, match=r"line 3, column 7: data.data.source names customers.csv") as caught:
        project.check()
    assert "customer.csv" in caught.value.fix


def test_a_folder_without_a_page_says_how_to_begin(tmp_path: Path):
    with pytest.raises(NotFound, match="loopline init"):
        load(tmp_path)


def test_every_key_is_explained():
    every = explain.keys()
    for key in every:
        assert key.effect, key.path
        assert key.type


def test_a_section_a_name_and_an_item_find_their_keys():
    assert [k.path for k in explain.keys("data.customers.contract")] == ["data.<name>.contract"]
    assert "evaluation.gates[].metric" in {k.path for k in explain.keys("evaluation.gates[0]")}
    with pytest.raises(NotFound, match=r"explain retraining.cooldown"):
        explain.keys("cooldwn")
