"""FinalMLP reproduces the reference implementation: values, gradients, one optimiser step."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from appliedpapers.core.features.encoded import EncodedField
from appliedpapers.plugins.finalmlp import layers
from appliedpapers.plugins.finalmlp.network import Batch, FinalMLP, StreamOptions

pytestmark = pytest.mark.shared
TOLERANCE = 1e-5


class Golden:
    """The fixture, its network of ours with the fixture's weights, and its batch."""

    def __init__(self, folder):
        self.arrays = np.load(folder / "golden" / "finalmlp.npz", allow_pickle=False)
        self.config = json.loads(str(self.arrays["config"]))
        self.names = [name for name, _ in self.config["fields"]]
        self.fields = tuple(
            EncodedField(name, "numeric" if size is None else "categorical", size or 0, 0, name)
            for name, size in self.config["fields"]
        )
        self.label = torch.from_numpy(self.arrays["y"])[:, 0]
        self.network = self.new_network(self.config["fs1_context"], self.config["fs2_context"])
        self.load(self.network, "w")

    def new_network(self, *contexts):
        config = self.config
        streams = tuple(
            StreamOptions(tuple(config[f"mlp{k}_hidden_units"]), dropout=0.0, batch_norm=True) for k in (1, 2)
        )
        return FinalMLP(
            self.fields,
            dim=config["embedding_dim"],
            streams=streams,
            contexts=tuple([self.names.index(name) for name in names] for names in contexts),
            gate_hidden=config["fs_hidden_units"],
            heads=config["num_heads"],
        )

    def batch(self):
        ids = [self.arrays[f"x.{field.name}"] for field in self.fields if field.kind == "categorical"]
        numbers = [self.arrays[f"x.{field.name}"] for field in self.fields if field.kind == "numeric"]
        return Batch(torch.from_numpy(np.stack(ids, 1)), torch.from_numpy(np.stack(numbers, 1)))

    def parts(self, prefix):
        """Return the reference's arrays under the names of our network."""
        found = dict(self.tables(f"{prefix}.embedding_layer.embedding_layer", "tables", self.names))
        for k in (1, 2):
            context = [name for name in self.names if name in self.config[f"fs{k}_context"]]
            found |= self.tables(
                f"{prefix}.fs_module.fs{k}_ctx_emb.embedding_layer", f"gates.{k - 1}.tables", context
            )
            for place, part in ((0, "weight"), (0, "bias"), (2, "weight"), (2, "bias")):
                key = f"{prefix}.fs_module.fs{k}_gate.mlp.{place}.{part}"
                found[f"gates.{k - 1}.layers.{place // 2}.{part}"] = self.arrays[key]
            for i in range(len(self.config[f"mlp{k}_hidden_units"])):
                stem = f"{prefix}.mlp{k}.mlp."
                for key in self.arrays.files:
                    for place, name in ((4 * i, f"layers.{i}"), (4 * i + 1, f"norms.{i}")):
                        if key.startswith(f"{stem}{place}."):
                            part = key.removeprefix(f"{stem}{place}.")
                            found[f"streams.{k - 1}.{name}.{part}"] = self.arrays[key]
            for part in ("weight", "bias"):
                found[f"outputs.{k - 1}.{part}"] = self.arrays[
                    f"{prefix}.fusion_module.w_{'xy'[k - 1]}.{part}"
                ]
        return found | {"fusion": self.arrays[f"{prefix}.fusion_module.w_xy"]}

    def tables(self, prefix, ours, names):
        kinds = {field.name: field.kind for field in self.fields}
        weights = {name: self.arrays[f"{prefix}.embedding_layers.{name}.weight"] for name in names}
        stacked = [weights[name] for name in names if kinds[name] == "categorical"]
        scales = [weights[name].T for name in names if kinds[name] == "numeric"]
        dim = self.config["embedding_dim"]
        return {
            f"{ours}.table": np.concatenate(stacked),
            f"{ours}.scale": np.concatenate(scales) if scales else np.zeros((0, dim), np.float32),
        }

    def load(self, network, prefix):
        network.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in self.parts(prefix).items()})


@pytest.fixture(params=["lean", "plain"])
def golden(request, shared, monkeypatch):
    if request.param == "plain":
        for module in ("layers", "network"):
            monkeypatch.setattr(f"appliedpapers.plugins.finalmlp.{module}.is_lean", lambda x: False)
    return Golden(shared)


def close(ours, theirs):
    np.testing.assert_allclose(ours.detach().numpy(), theirs, rtol=0, atol=TOLERANCE)


def test_evaluation_mode_reproduces_every_intermediate_value(golden):
    network, arrays = golden.network.eval(), golden.arrays
    with torch.no_grad():
        flat = network.tables(golden.batch())
        h1, h2 = network.gated(flat, golden.batch())
        o1, o2 = network.represent(golden.batch())
        logit = network(golden.batch())
    for ours, name in ((flat, "flat_emb"), (h1, "feat1"), (h2, "feat2"), (o1, "o1"), (o2, "o2")):
        close(ours, arrays[f"eval.{name}"])
    close(logit, arrays["eval.logit"][:, 0])
    close(torch.sigmoid(logit), arrays["eval.y_pred"][:, 0])
    close(F.binary_cross_entropy_with_logits(logit, golden.label), arrays["eval.bce"])


def test_penalty_covers_whole_tables_gate_tables_and_all_other_weights(golden):
    close(golden.network.penalty(0.05, 0.001), golden.arrays["reg_loss"])


def test_loss_gradients_and_one_step_of_adam_are_those_of_the_reference(golden):
    network, arrays = golden.network.train(), golden.arrays
    optimizer = torch.optim.Adam(network.parameters(), lr=golden.config["learning_rate"])
    logit = network(golden.batch())
    close(logit, arrays["train.logit_bn"][:, 0])
    loss = F.binary_cross_entropy_with_logits(logit, golden.label) + network.penalty(0.05, 0.001)
    close(loss, arrays["train.loss"])
    loss.backward()
    gradients = dict(network.named_parameters())
    missing = ("running_mean", "running_var", "num_batches_tracked")
    expected = golden.parts("grad")
    assert set(expected) == {name for name in golden.parts("w") if not name.endswith(missing)}
    for name, theirs in expected.items():
        if theirs.size:
            close(gradients[name].grad, theirs)
    norm = torch.nn.utils.clip_grad_norm_(network.parameters(), 10.0)
    close(norm, arrays["train.grad_norm"])
    optimizer.step()
    after = network.state_dict()
    for name, theirs in golden.parts("after").items():
        close(after[name], theirs)


def test_gate_tables_are_not_shared_with_field_tables(golden):
    network = golden.network
    network(golden.batch()).sum().backward()
    assert network.gates[0].tables.table is not network.tables.table
    assert network.gates[0].tables.table.grad.abs().sum() > 0


def test_the_order_of_the_context_list_changes_nothing(golden):
    turned = golden.new_network(golden.config["fs1_context"], golden.config["fs2_context"][::-1])
    golden.load(turned, "w")
    with torch.no_grad():
        same = torch.equal(turned.eval()(golden.batch()), golden.network.eval()(golden.batch()))
    assert same


def test_a_shared_gate_equals_the_gate_of_each_row(golden, monkeypatch):
    if not layers.is_lean(golden.label):
        pytest.skip("the plain form never shares gates")
    batch = golden.batch()
    repeated = Batch(batch.ids.repeat(8, 1), batch.numbers.repeat(8, 1))
    shared_gate = golden.network.gates[1](repeated)
    monkeypatch.setattr("appliedpapers.plugins.finalmlp.network.is_lean", lambda x: False)
    torch.testing.assert_close(golden.network.gates[1](repeated), shared_gate, atol=1e-6, rtol=0)
