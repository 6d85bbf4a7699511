"""The confidence-gated mixture against reference values, and the known defect of the released test path."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from appliedpapers.nn.mowst import ConfidenceGatedMixture, dispersion

TAGS = ("disp", "disp_feat")
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def golden(shared):
    with np.load(shared / "golden" / "mowst.npz") as file:
        return {name: torch.as_tensor(file[name]) for name in file.files}


class Given(nn.Module):
    """An expert whose logits are its parameters, so that their gradients can be read."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(logits.clone())

    def forward(self, x):
        return self.logits


def mixture_of(golden, tag, mode="star", train=False, **options) -> ConfidenceGatedMixture:
    features = tag == "disp_feat"
    mixture = ConfidenceGatedMixture(
        Given(golden["weak_logits"]),
        Given(golden["strong_logits"]),
        mode=mode,
        gate_features=3 * features,
        gate_hidden=6,
        gate_depth=2 + features,
        gate_drop=0.0,
        **options,
    )
    state = {
        name[len(f"{tag}.gate.") :].replace("lins", "linears").replace("bns", "norms"): value
        for name, value in golden.items()
        if name.startswith(f"{tag}.gate.")
    }
    mixture.gate.load_state_dict(state)
    return mixture.train(train)


def assert_close(actual, expected):
    torch.testing.assert_close(actual, expected, atol=TOLERANCE, rtol=0)


def test_dispersion(golden):
    ours = dispersion(golden["weak_logits"])
    assert_close(ours[:, :1], golden["variance"])
    assert_close(ours[:, 1:], golden["neg_entropy"])
    assert_close(ours[0], torch.zeros(2))
    assert_close(ours[1], torch.ones(2))


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("phase", ["eval", "train"])
@pytest.mark.parametrize("mode", ["mowst", "star"])
def test_confidence_loss_and_every_gradient(golden, tag, phase, mode):
    mixture = mixture_of(golden, tag, mode, train=phase == "train")
    x, y = golden["node_features"], golden["y"]
    weak, strong = mixture.answer("weak", x), mixture.answer("strong", x)
    c = mixture.confidence(weak, x)
    key = f"{tag}.{phase}"
    assert_close(c, golden[f"{key}.confidence"].squeeze(-1))
    assert_close(mixture.row_loss(weak[0], y), golden[f"{key}.loss_weak"])
    assert_close(mixture.row_loss(strong[0], y), golden[f"{key}.loss_strong"])
    loss = mixture.mixture_loss(weak[0], strong[0], c, y)
    assert_close(loss, golden[f"{key}.loss_mowst" + "_star" * (mode == "star")])
    loss.backward()
    assert_close(mixture.weak.logits.grad, golden[f"{key}.{mode}.dweak"])
    assert_close(mixture.strong.logits.grad, golden[f"{key}.{mode}.dstrong"])
    for name, parameter in mixture.gate.named_parameters():
        theirs = name.replace("linears", "lins").replace("norms", "bns")
        assert_close(parameter.grad, golden[f"{key}.{mode}.dgate.{theirs}"])


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("phase", ["eval", "train"])
def test_mixed_logits(golden, tag, phase):
    mixture = mixture_of(golden, tag, mix="logits", train=phase == "train")
    assert_close(mixture(golden["node_features"]), golden[f"{tag}.{phase}.star.mixed_logits"])


@pytest.mark.parametrize("tag", TAGS)
def test_expected_probability_and_accuracy(golden, tag):
    mixture = mixture_of(golden, tag)
    x, y = golden["node_features"], golden["y"]
    assert_close(mixture.predict(x), golden[f"{tag}.infer.expected_prob"])
    assert mixture.expected_score(x, y) == pytest.approx(
        float(golden[f"{tag}.infer.expected_acc"]), abs=TOLERANCE
    )


@pytest.mark.parametrize(("tag", "apart"), [("disp", 0.02), ("disp_feat", 0.005)])
def test_the_confidence_at_test_is_not_that_of_a_softmax_of_a_softmax(golden, tag, apart):
    x = golden["node_features"]
    ours = mixture_of(golden, tag).evidence(x).confidence
    released = golden[f"{tag}.ref_star_test.confidence_double_softmax"].squeeze(-1)
    assert (ours - released).abs().max() > apart
    assert_close(ours, golden[f"{tag}.eval.confidence"].squeeze(-1))
    # and it is exactly the second softmax that makes the difference
    twice = mixture_of(golden, tag)
    twice.weak.logits.data = twice.weak.logits.data.softmax(-1)
    assert_close(twice.evidence(x).confidence, released)
