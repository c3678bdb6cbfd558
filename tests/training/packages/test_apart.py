"""A pickled model lives in a process of its own: what it does there harms no one here."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import cloudpickle
import numpy as np
import pytest

from loopline.base.errors import Invalid, Unavailable
from loopline.training.packages import apart
from loopline.training.packages.calling import Calling

ROWS = np.array([[0.25, 1], [0.5, 2], [0.75, 3]], np.float32)


def moody(frame):
    """Ends its process, sleeps, raises, tells a secret, or gives the first column: as the second one says."""
    import os
    import time

    mood = int(frame["b"][0])
    if mood == 9:
        os._exit(3)
    if mood == 8:
        time.sleep(60)
    if mood == 7:
        raise ValueError("no")
    if mood == 6:
        return np.array([float("LOOPLINE_KEYS" in os.environ or "LOOPLINE_TOKEN" in os.environ)])
    if mood == 5:
        return np.array([float(os.getpid() % 1000) / 1000])
    print("noise that must not reach the answers")
    return frame["a"].to_numpy()


moody.__module__ = "__main__"


@pytest.fixture(scope="module")
def model():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOOPLINE_KEYS", "/secret")
        patch.setenv("LOOPLINE_TOKEN", "secret")
        yield apart.Apart(cloudpickle.dumps(moody), Calling(None, ("a", "b")))


def row(mood):
    return np.array([[0.5, mood]], np.float32)


def test_it_scores_without_secrets_and_in_another_process(model):
    np.testing.assert_allclose(model(ROWS), [0.25, 0.5, 0.75])
    assert model(row(6))[0] == 0.0
    assert model(row(5))[0] != pytest.approx(os.getpid() % 1000 / 1000)


def test_many_threads_get_their_own_answers(model):
    with ThreadPoolExecutor(8) as pool:
        asked = [np.array([[n / 100, 1]], np.float32) for n in range(100)]
        np.testing.assert_allclose([a[0] for a in pool.map(model, asked)], np.arange(100) / 100, atol=1e-6)


def test_what_it_raises_is_told_and_it_goes_on(model):
    with pytest.raises(Invalid, match="ValueError: no"):
        model(row(7))
    np.testing.assert_allclose(model(ROWS), [0.25, 0.5, 0.75])


def test_a_process_that_dies_or_hangs_is_told_and_started_again(model, monkeypatch):
    with pytest.raises(Unavailable, match="process ended"):
        model(row(9))
    np.testing.assert_allclose(model(ROWS), [0.25, 0.5, 0.75])
    monkeypatch.setattr(apart, "WAIT_S", 0.3)
    with pytest.raises(Unavailable, match="process ended"):
        model(row(8))
    monkeypatch.undo()
    np.testing.assert_allclose(model(ROWS), [0.25, 0.5, 0.75])


def test_what_is_no_pickle_is_said_so():
    with pytest.raises(Invalid, match=r"UnpicklingError|EOFError"):
        apart.Apart(b"", Calling(None, None))
