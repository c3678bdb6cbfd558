"""User code is loaded as it stands in its file, once, and never met half made."""

import os
import sys
import threading
from pathlib import Path
from types import ModuleType

import pytest

from loopline.base.code import load_function, load_module
from loopline.base.errors import Invalid, NotFound

SLOW = "import threading\nthreading.Event().wait(0.3)\ndef answer():\n    return 42\n"


def test_threads_that_load_a_module_at_once_all_find_its_functions(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    found: list[object] = []
    errors: list[BaseException] = []

    def load() -> None:
        try:
            found.append(load_function(tmp_path, "slow.py:answer"))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(found) == 4 and len(set(map(id, found))) == 1


def test_an_edit_of_the_same_size_in_the_same_second_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "step.py"
    for number in (1, 2, 3):
        page.write_text(f"def answer():\n    return {number}\n")
        os.utime(page, (1_000_000_000, 1_000_000_000))
        assert load_function(tmp_path, "step.py:answer")() == number
        assert load_module(tmp_path, "step.py") is load_module(tmp_path, "step.py")


def test_a_module_that_raises_is_tried_again(tmp_path: Path) -> None:
    page = tmp_path / "bad.py"
    page.write_text("raise RuntimeError('not yet')\n")
    for _ in range(2):
        with pytest.raises(Invalid, match=r"bad\.py raised RuntimeError: not yet") as caught:
            load_module(tmp_path, "bad.py")
        assert 'bad.py", line 1' in caught.value.why


def test_what_is_not_there_or_outside_is_told(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out.py").write_text("x = 1\n")
    with pytest.raises(Invalid, match="outside"):
        load_module(tmp_path / "in", "../out.py")
    with pytest.raises(NotFound, match=r"gone\.py"):
        load_module(tmp_path / "in", "gone.py")
    with pytest.raises(NotFound, match="defines no function nothing"):
        load_function(tmp_path, "out.py:nothing")


def test_helpers_of_two_projects_with_one_name_are_not_mixed(tmp_path: Path) -> None:
    for name, number in (("one", 1), ("two", 2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "helper_of_tests.py").write_text(f"NUMBER = {number}\n")
        page = "from helper_of_tests import NUMBER\ndef answer():\n    import helper_of_tests\n"
        (tmp_path / name / "step.py").write_text(f"{page}    return NUMBER, helper_of_tests.NUMBER\n")
    for _ in range(2):
        for name, number in (("one", 1), ("two", 2)):
            assert load_function(tmp_path / name, "step.py:answer")() == (number, number)


def test_a_changed_helper_is_read_again(tmp_path: Path) -> None:
    (tmp_path / "step.py").write_text("from helper_of_tests import NUMBER\ndef answer():\n    return NUMBER\n")
    for number in (1, 2, 3):
        page = tmp_path / "helper_of_tests.py"
        page.write_text(f"NUMBER = {number}\n")
        os.utime(page, (1_000_000_000 + number, 1_000_000_000 + number))
        assert load_function(tmp_path, "step.py:answer")() == number


def test_a_helper_that_is_imported_when_a_function_is_called_is_read_again_when_it_changes(tmp_path: Path) -> None:
    (tmp_path / "step.py").write_text("def answer():\n    import late_helper_of_tests as it\n    return it.NUMBER\n")
    for number in (1, 2, 3):
        (tmp_path / "late_helper_of_tests.py").write_text(f"NUMBER = {number}\n")
        for _ in range(2):
            assert load_function(tmp_path, "step.py:answer")() == number


def test_modules_of_elsewhere_are_looked_at_once_by_a_project_however_many_were_loaded(tmp_path, monkeypatch) -> None:
    class Elsewhere(ModuleType):
        looks = 0

        @property
        def __file__(self) -> str:
            Elsewhere.looks += 1
            return "/elsewhere/module.py"

    monkeypatch.setitem(sys.modules, "elsewhere_of_tests", Elsewhere("elsewhere_of_tests"))
    for number in range(20):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "step.py").write_text(f"def answer():\n    return {number}\n")
        for _ in range(3):
            assert load_function(folder, "step.py:answer")() == number
    assert Elsewhere.looks <= 20 + 1


def test_nothing_is_left_beside_the_code_and_packages_in_it_are_found(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    (tmp_path / "kit").mkdir()
    (tmp_path / "kit" / "__init__.py").write_text("")
    (tmp_path / "kit" / "deep.py").write_text("DEPTH = 3\n")
    (tmp_path / "beside.py").write_text("WIDTH = 4\n")
    (tmp_path / "train.py").write_text(
        "import beside\ndef size():\n    from kit.deep import DEPTH\n    return beside.WIDTH * DEPTH\n"
    )
    assert load_function(tmp_path, "train.py:size")() == 12
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        "__init__.py", "beside.py", "deep.py", "kit", "train.py"
    ]  # fmt: skip
