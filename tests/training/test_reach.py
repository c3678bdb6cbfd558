from __future__ import annotations

import ast

import pytest

from loopline.training.reach import reachable

FILE = """
import json
import sys
import used
import quiet_side_effect
from loopline.training.pipeline import step

A = 1
B = 2
C = json.loads("3")

def one():
    return A

class Two:
    pass

class Registers(Base):
    pass

class Alone:
    pass

@register
def three():
    return B

@step(retries=A)
def start(x: "Two"):
    return one() + used.f(x)

@step
def other():
    return sys.argv, unmet()

def unmet():
    return 1

if __name__ == "__main__":
    other()
"""


def kept(text: str, name: str = "start") -> str:
    return ast.unparse(reachable(ast.parse(text), name))


def test_what_a_function_uses_by_name_is_kept_and_what_only_others_use_is_not():
    found = kept(FILE)
    for word in ("import used", "A = 1", "def one", "class Two", "def start"):
        assert word in found, word
    for word in ("import sys", "class Alone", "def other", "def unmet", "__main__", "@step", "retries"):
        assert word not in found, word


def test_what_may_do_something_of_its_own_is_kept():
    found = kept(FILE)
    for word in ("import quiet_side_effect", "json.loads", "import json", "@register", "B = 2", "class Registers"):
        assert word in found, word


@pytest.mark.parametrize("looks", ["eval('unmet()')", "globals()['unmet']", "getattr(me, 'un' + 'met')"])
def test_a_file_that_looks_names_up_at_run_time_is_kept_whole(looks):
    text = FILE.replace("return one()", f"return {looks}")
    assert "def unmet" in kept(text)
    assert "def other" in kept(text)


def test_every_binding_of_a_name_is_kept():
    text = "try:\n    import fast as m\nexcept ImportError:\n    m = None\nm = 1\nif m:\n    n = 2\n"
    text += "def start():\n    return m, n\n"
    assert kept(text) == ast.unparse(ast.parse(text))
