from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from lightgbm import LGBMClassifier
from sklearn.linear_model import LogisticRegression

from loopline.base.code import UserCodeError
from loopline.base.errors import Invalid
from loopline.training.convert import package
from loopline.training.recipe import fit

X = pl.DataFrame({"a": [1.0, 2.0]}, schema={"a": pl.Float32})
Y = np.array([0, 1], dtype=np.int8)


def run(tmp_path, text, **params):
    (tmp_path / "train.py").write_text(text)
    return fit(tmp_path, "train.py:fit", X, Y, params=params, seed=7, categorical=("a",))


def test_a_recipe_gets_rows_labels_and_params(tmp_path):
    x, y, depth = run(tmp_path, "def fit(X, y, depth=1):\n    return X, y, depth\n", depth=3)
    assert x.equals(X)
    assert y.tolist() == [0, 1]
    assert depth == 3


def test_seed_and_categorical_are_given_to_recipes_that_ask(tmp_path):
    assert run(tmp_path, "def fit(X, y, *, seed, categorical):\n    return seed, categorical\n") == (7, ("a",))
    assert run(tmp_path, "def fit(X, y, seed=0):\n    return seed + 1\n", seed=4) == 5


def test_randomness_is_seeded_before_the_call(tmp_path):
    text = "import random\nimport numpy as np\n\ndef fit(X, y):\n    return random.random(), np.random.rand()\n"
    assert run(tmp_path, text) == run(tmp_path, text)


def test_an_error_in_a_recipe_keeps_its_cause_and_shows_its_line(tmp_path):
    with pytest.raises(UserCodeError, match="ZeroDivisionError") as caught:
        run(tmp_path, "def fit(X, y):\n    return 1 / 0\n")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert "line 2" in caught.value.why


def test_a_recipe_that_ends_the_program_is_told_like_one_that_raises(tmp_path):
    with pytest.raises(UserCodeError, match="SystemExit") as caught:
        run(tmp_path, "import sys\n\ndef fit(X, y):\n    sys.exit(0)\n")
    assert "line 4" in caught.value.why


def test_a_project_in_a_folder_of_our_name_is_still_the_users(tmp_path):
    folder = tmp_path / "loopline"
    folder.mkdir()
    with pytest.raises(UserCodeError) as caught:
        run(folder, "def fit(X, y):\n    return 1 / 0\n")
    assert "recipe.py" not in caught.value.why
    assert "train.py" in caught.value.why


@pytest.mark.parametrize("model", [LGBMClassifier(), LogisticRegression()])
def test_a_model_that_was_not_fitted_is_refused_in_words(model):
    with pytest.raises(Invalid, match="is not fitted"):
        package(model, ["a"])


@pytest.mark.parametrize(
    ("text", "params", "message"),
    [
        ("def fit(X, y):\n    pass\n", {}, "returned nothing"),
        ("def fit(X, y):\n    return 1\n", {"depth": 3}, "unexpected keyword argument 'depth'"),
        ("def fit(X):\n    return 1\n", {}, "too many positional"),
    ],
)
def test_a_recipe_of_another_shape_is_refused_by_name(tmp_path, text, params, message):
    with pytest.raises(Invalid, match=message):
        run(tmp_path, text, **params)
