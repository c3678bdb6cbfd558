from __future__ import annotations

import pytest

from loopline.base.errors import Invalid, NotFound
from loopline.training.cache import closure, relevant_environment, step_key


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pack").mkdir()
    for name, text in {
        "train.py": "import json\nimport numpy as np\nfrom helper import h\n\ndef fit(X, y):\n    return h\n",
        "helper.py": "import pack.inner\n\ndef h():\n    from late import z\n    return z\n",
        "late.py": "z = 1\n",
        "pack/__init__.py": "",
        "pack/inner.py": "from . import sibling\nfrom .sibling import s\n",
        "pack/sibling.py": "s = 1\n",
        "other.py": "o = 1\n",
    }.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_closure_holds_every_file_of_the_project_that_an_import_can_reach(folder):
    found = closure(folder, "train.py:fit")
    assert set(found.files) == {
        "train.py",
        "helper.py",
        "late.py",
        "pack/__init__.py",
        "pack/inner.py",
        "pack/sibling.py",
    }
    assert set(found.distributions) == {"numpy"}


@pytest.mark.parametrize("file", ["train.py", "helper.py", "late.py", "pack/__init__.py", "pack/sibling.py"])
def test_any_code_of_the_closure_changes_its_id_and_comments_and_docstrings_do_not(folder, file):
    before = closure(folder, "train.py:fit").id
    path = folder / file
    text = path.read_text()
    path.write_text(f'"""Why."""\n# note\n\n{text}\n\n')
    assert closure(folder, "train.py:fit").id == before
    path.write_text(text + "\nmore = 1\n")
    assert closure(folder, "train.py:fit").id != before


def test_a_file_outside_the_closure_does_not_count(folder):
    before = closure(folder, "train.py:fit").id
    (folder / "other.py").write_text("o = 2\n")
    assert closure(folder, "train.py:fit").id == before


def test_modules_that_import_each_other_have_a_closure(folder):
    (folder / "late.py").write_text("import helper\nz = 1\n")
    assert "late.py" in closure(folder, "train.py:fit").files


def test_a_missing_file_and_bad_syntax_are_named(folder):
    with pytest.raises(NotFound, match=r"gone\.py"):
        closure(folder, "gone.py:fit")
    (folder / "late.py").write_text("def broken(:\n")
    with pytest.raises(Invalid, match=r"late\.py, line 1"):
        closure(folder, "train.py:fit")


def test_every_part_of_a_step_changes_its_key(folder):
    code = closure(folder, "train.py:fit")
    base = {"step": "s", "inputs": {"set": "1"}, "params": {"a": 1}, "environment": "e", "seed": 0}
    changed = [{"step": "t"}, {"inputs": {"set": "2"}}, {"params": {"a": 2}}, {"environment": "f"}, {"seed": 1}]
    keys = {step_key(code, **{**base, **change}) for change in [{}, *changed]}
    assert len(keys) == 6
    assert step_key(code, **base) in keys
    assert relevant_environment()["packaging"]["onnxruntime"]
