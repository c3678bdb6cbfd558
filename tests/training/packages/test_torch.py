"""PyTorch is an extra of its own, outside the pinned file: without it these tests say that they were skipped."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.training.packages.models import UNSAFE, bundled, chosen, data, shipped
from tests.training.packages.test_frameworks import ROWS

from loopline.base.errors import Invalid
from loopline.base.keys import SigningKey

torch = pytest.importorskip("torch", reason="the extra loopline[torch] is not installed")
pytest.importorskip("onnxscript", reason="the extra loopline[torch] is not installed")
nn = torch.nn


class Net(nn.Module):
    """Two layers with everything that behaves otherwise in training; 1 or 2 columns."""

    def __init__(self, columns: int, width: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.Linear(4, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.5), nn.Linear(width, columns)
        )

    def forward(self, x):
        z = self.inner(torch.clamp(torch.nan_to_num(x), -50, 50))
        return torch.sigmoid(z) if z.shape[1] == 1 else torch.softmax(z, dim=1)


class PerRow(nn.Module):
    """What the exporter cannot trace: a decision of Python about each row."""

    def forward(self, x):
        return torch.stack([torch.sigmoid(row[0]) if float(row[1]) > 0 else torch.sigmoid(row[2]) for row in x])


class Logits(nn.Module):
    def forward(self, x):
        return 3 * torch.nan_to_num(x[:, :1]) + 2


@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(ROWS, st.integers(0, 99), st.sampled_from([1, 2]), st.integers(1, 20))
def test_a_module_answers_alike_for_any_rows(rows, seed, columns, width):
    torch.manual_seed(seed)
    packaged, made = chosen(Net(columns, width), *data(200, seed=seed))
    assert made.runtime is None
    bundle = shipped(made)
    np.testing.assert_allclose(bundle.score(rows), packaged.native(rows), atol=1e-5)
    alone = np.concatenate([bundle.score(rows[i : i + 1]) for i in range(len(rows))])
    np.testing.assert_allclose(alone, bundle.score(rows), atol=1e-6)


def test_a_module_ships_the_same_bytes_again_and_nothing_of_the_machine():
    torch.manual_seed(1)
    net, (x, y) = Net(1, 3), data(200)
    _, made = chosen(net, x, y)
    assert bundled(made) == bundled(chosen(net, x, y)[1])
    text = onnx.load_model_from_string(made.onnx).SerializeToString()
    for word in (b"/work", b"/home", b"/tmp", b"site-packages", b".py"):
        assert word not in text


def test_a_module_in_training_mode_is_packaged_as_it_answers_in_evaluation():
    torch.manual_seed(1)
    net = Net(1, 8)
    assert net.training
    packaged, made = chosen(net, *data(200))
    assert net.training
    rows = data(50)[0].to_numpy()
    np.testing.assert_allclose(made.score(rows), packaged.native(rows), atol=1e-6)


def test_logits_are_no_probabilities():
    with pytest.raises(Invalid, match="no probability"):
        chosen(Logits(), *data(50))


def test_a_module_of_other_inputs_is_refused():
    with pytest.raises(Invalid, match="cannot score X"):
        chosen(nn.Sequential(nn.Linear(7, 1), nn.Sigmoid()), *data(50))


def test_what_cannot_be_exported_ships_as_a_pickle_or_not_at_all():
    import sys

    import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # its code travels along, as a project's does
    x, y = data(150, nulls=False)
    with pytest.raises(Invalid, match="conversion to ONNX stopped"):
        chosen(PerRow(), x, y)
    packaged, made = chosen(PerRow(), x, y, UNSAFE)
    assert made.runtime["name"] == "pickle"
    bundle = shipped(made, SigningKey.load("k", create=True))
    rows = x.to_numpy()[:30]
    np.testing.assert_allclose(bundle.score(rows), packaged.native(rows), atol=1e-7)
