"""FinalMLP on fields of every kind: order, gates, initial values, penalties, shared modules, presets."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from small_clicks import batch_of, configured, mixed_fields, random_rows, small_network

from appliedpapers.core.config import resolve
from appliedpapers.core.errors import ConfigError
from appliedpapers.core.features.encoded import EncodedField
from appliedpapers.core.features.encoder import fit_encoder
from appliedpapers.plugins.finalmlp import network as networks
from appliedpapers.plugins.finalmlp.config import FinalMlpConfig
from appliedpapers.plugins.finalmlp.fitting import new_network
from appliedpapers.plugins.finalmlp.network import Batch, FieldTables, FinalMLP, Gate, StreamOptions
from appliedpapers.plugins.finalmlp.published_data import DEFINITIONS

FIELDS = mixed_fields()
ROWS = random_rows(FIELDS)
BATCH = batch_of(ROWS)


def doubled(batch):
    return Batch(batch.ids, batch.numbers.double(), batch.sequences)


# -- embeddings


def test_embeddings_stand_in_schema_order_whatever_their_kinds():
    tables = small_network(FIELDS).tables
    flat = tables(BATCH).view(len(ROWS), len(FIELDS), 3).detach()
    ids, numbers, sequences = iter(ROWS.ids.T), iter(ROWS.numbers.T), iter(ROWS.sequences)
    scales = iter(tables.scale.detach())
    for position, field in enumerate(FIELDS):
        if field.kind == "numeric":
            expected = torch.from_numpy(next(numbers))[:, None] * next(scales)
        else:
            start, size = tables.spans[position]
            assert size == field.size
            table = tables.table.detach()[start : start + size]
            if field.kind == "categorical":
                expected = table[torch.from_numpy(next(ids)).long()]
            else:
                expected = torch.stack(
                    [
                        table[[token for token in row if token]].mean(dim=0) if row[0] else torch.zeros(3)
                        for row in next(sequences).tolist()
                    ]
                )
        torch.testing.assert_close(flat[:, position], expected, msg=field.name)


def test_an_empty_sequence_is_zeros_and_leaves_no_nan_in_the_gradient():
    fields = (EncodedField("tags", "sequence", 5, 3, "tags"),)
    tables = FieldTables(fields, [0], 2)
    tokens = torch.tensor([[0, 0, 0], [2, 2, 3]], dtype=torch.int32)
    flat = tables(Batch(torch.zeros(2, 0, dtype=torch.int32), torch.zeros(2, 0), (tokens,)))
    flat.sum().backward()
    assert not flat[0].any()
    torch.testing.assert_close(flat[1], (2 * tables.table[2] + tables.table[3]) / 3)
    torch.testing.assert_close(tables.table.grad[:, 0], torch.tensor([0.0, 0.0, 2 / 3, 1 / 3, 0.0]))


def test_some_of_the_fields_can_be_embedded_in_any_order_of_the_list():
    whole = small_network(FIELDS).tables
    some = FieldTables(FIELDS, [5, 0, 3], 3)
    for position in (0, 3):
        (to, size), (start, _) = some.spans[position], whole.spans[position]
        some.table.data[to : to + size] = whole.table.data[start : start + size]
    some.scale.data[0] = whole.scale.data[1]
    flat = whole(BATCH).view(len(ROWS), len(FIELDS), 3)
    torch.testing.assert_close(some(BATCH).view(len(ROWS), 3, 3), flat[:, [0, 3, 5]])


def test_padding_never_learns():
    network = small_network(FIELDS).train()
    ids = BATCH.ids.clone()
    ids[:5] = 0
    optimiser = torch.optim.Adam(network.parameters(), 0.1)
    for _ in range(3):
        optimiser.zero_grad()
        logits = network(Batch(ids, BATCH.numbers, BATCH.sequences))
        (logits.square().mean() + network.penalty(0.1, 0.1)).backward()
        optimiser.step()
    tables = [module for module in network.modules() if isinstance(module, FieldTables)]
    assert len(tables) == 3
    for one in tables:
        assert not one.table[one.padding].any()
        assert one.table.abs().sum() > 0


# -- gates


@pytest.mark.parametrize("context", [(1,), (1, 3), (1, 3, 6)])
def test_a_gate_that_is_computed_once_a_context_equals_one_of_each_row(context, monkeypatch):
    gate = Gate(FIELDS, context, 3, (5,)).double()
    torch.nn.init.normal_(gate.tables.table)
    batch = doubled(batch_of(random_rows(FIELDS, 200)))
    found = []
    for worth in (0.0, 1e9):
        monkeypatch.setattr(networks, "_WORTH_SHARING", worth)
        gate.zero_grad()
        values = gate(batch)
        (values * torch.linspace(-1, 1, values.numel(), dtype=torch.float64).view_as(values)).sum().backward()
        found.append([values.detach(), *(one.grad.clone() for one in gate.parameters() if one.numel())])
    for shared, each in zip(*reversed(found), strict=True):
        torch.testing.assert_close(shared, each, rtol=1e-10, atol=1e-12)
    assert found[0][0].shape == (200, len(FIELDS) * 3)
    assert 0 < found[0][0].min() < found[0][0].max() < 2


def test_contexts_of_many_large_fields_are_told_apart():
    # the product of these sizes is beyond 64 bits
    fields = tuple(EncodedField(f"f{k}", "categorical", 2**30, 0, f"f{k}") for k in range(4))
    gate = Gate.__new__(Gate)
    torch.nn.Module.__init__(gate)
    gate.sizes = [field.size for field in fields]
    gate.tables = FieldTables.__new__(FieldTables)
    torch.nn.Module.__init__(gate.tables)
    gate.tables.columns = {"categorical": (0, 1, 2, 3)}
    random = np.random.default_rng(0)
    rows = random.integers(2**30 - 3, 2**30, (300, 4)).astype(np.int32)
    first, inverse = gate._distinct(Batch(torch.from_numpy(rows), torch.zeros(300, 0)))
    distinct = np.unique(rows, axis=0)
    assert len(first) == len(distinct)
    np.testing.assert_array_equal(rows[first.numpy()][inverse.numpy()], rows)


def test_a_gate_may_depend_on_numbers_and_sequences():
    gate = Gate(FIELDS, (0, 2, 3), 3, (5,))
    assert not gate.shareable
    values = gate(BATCH)
    assert values.shape == (len(ROWS), len(FIELDS) * 3)
    assert torch.isfinite(values).all()


def test_a_gate_without_context_is_one_vector_for_all_and_starts_neutral():
    gate = Gate(FIELDS, (), 3, (5,))
    assert gate(BATCH).shape == (1, len(FIELDS) * 3)
    network = small_network(FIELDS, contexts=((), ()))
    assert not network.gates[0].vector.any()
    assert network(BATCH).shape == (len(ROWS),)


def test_gate_tables_are_their_own_and_get_their_own_gradient():
    network = small_network(FIELDS)
    network(BATCH).sum().backward()
    own = network.gates[0].tables.table
    assert own.data_ptr() != network.tables.table.data_ptr()
    assert own.grad.abs().sum() > 0
    start, size = network.tables.spans[1]
    assert not torch.equal(own.grad, network.tables.table.grad[start : start + size])


def test_without_gates_both_streams_see_the_embeddings_and_dual_mlp_adds_two_lines():
    network = small_network(FIELDS, use_gate=False, fusion="sum").eval()
    assert network.gates is None
    assert network.fusion is None
    flat = network.tables(BATCH)
    o1, o2 = network.streams[0](flat), network.streams[1](flat)
    expected = network.outputs[0](o1) + network.outputs[1](o2)
    torch.testing.assert_close(network(BATCH), expected[:, 0])


# -- the whole network


@pytest.mark.parametrize("heads", [1, 2])
def test_lean_and_plain_networks_have_the_same_values_and_gradients(heads, monkeypatch):
    found = []
    for lean in (True, False):
        if not lean:
            for module in ("layers", "network"):
                monkeypatch.setattr(f"appliedpapers.plugins.finalmlp.{module}.is_lean", lambda x: False)
        network = small_network(FIELDS, heads=heads).double().train()
        logits = network(doubled(BATCH))
        (logits.square().mean() + network.penalty(0.3, 0.2)).backward()
        found.append((logits.detach(), {name: one.grad for name, one in network.named_parameters()}))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-10, atol=1e-12)
    for name, gradient in found[0][1].items():
        if gradient is not None:
            torch.testing.assert_close(gradient, found[1][1][name], rtol=1e-8, atol=1e-11, msg=name)


def test_heads_that_do_not_divide_the_widths_are_refused_by_name():
    with pytest.raises(ValueError, match="heads 3 must divide the widths 6 and 4"):
        small_network(FIELDS, heads=3)
    with pytest.raises(ConfigError, match=r"'heads' 5 must divide .* 8 and 12"):
        configured("model.heads=5")


@pytest.mark.parametrize("block", ["kan(grid=3)", "hourglass", "fan"])
def test_a_shared_module_can_be_a_stream(block):
    streams = (StreamOptions((8,), 0.1, block=block), StreamOptions((6, 4)))
    network = small_network(FIELDS, streams=streams).train()
    loss = network(BATCH).square().mean()
    extra = network.aux_loss()
    (loss if extra is None else loss + extra).backward()
    learnt = [one.grad for one in network.streams[0].parameters()]
    assert learnt
    assert any(one is not None and one.abs().sum() > 0 for one in learnt)
    assert torch.isfinite(network.eval()(BATCH)).all()


# -- initial values and penalties


def test_initial_values_are_those_of_the_paper():
    fields = (
        EncodedField("a", "categorical", 5000, 0, "a"),
        *(EncodedField(f"n{k}", "numeric", 0, 0, f"n{k}") for k in range(400)),
    )
    network = small_network(
        fields,
        large=False,
        dim=8,
        contexts=((0,), ()),
        streams=(StreamOptions((64,)), StreamOptions((64,))),
        heads=2,
    )
    assert network.tables.table[1:].std().item() == pytest.approx(1e-4, rel=0.05)
    assert not network.tables.table[0].any()
    assert network.gates[0].tables.table[1:].std().item() == pytest.approx(1e-4, rel=0.05)
    assert network.tables.scale.std().item() == pytest.approx(math.sqrt(2 / 9), rel=0.05)
    linear = network.streams[0].layers[0]
    assert linear.weight.std().item() == pytest.approx(math.sqrt(2 / (401 * 8 + 64)), rel=0.05)
    assert not linear.bias.any()
    assert network.fusion.shape == (64 * 64 // 2, 1)
    assert network.fusion.std().item() == pytest.approx(math.sqrt(2 / (64 * 64 // 2 + 1)), rel=0.05)
    norm = network.streams[0].norms[0]
    assert (norm.eps, norm.momentum) == (1e-5, 0.1)
    assert (norm.weight == 1).all()
    assert not norm.bias.any()


def test_penalties_count_every_weight_once_on_its_own_side():
    network = small_network(FIELDS)
    tables = [
        network.tables.table,
        network.tables.scale,
        *(gate.tables.table for gate in network.gates),
    ]
    expected = sum(one.square().sum() for one in tables) / 2
    torch.testing.assert_close(network.penalty(1.0, 0.0), expected)
    everything = sum(one.square().sum() for one in network.parameters()) / 2
    torch.testing.assert_close(network.penalty(0.0, 1.0), everything - expected)
    torch.testing.assert_close(network.penalty(1.0, 1.0), everything)
    assert not network.penalty(0.0, 0.0)


def test_the_penalty_of_a_batch_counts_the_rows_that_it_looks_up():
    network = small_network(FIELDS)
    rows, expected = len(ROWS), network.tables.scale.square().sum()
    by_kind = {"categorical": iter(ROWS.ids.T), "sequence": iter(ROWS.sequences)}
    for position, field in enumerate(FIELDS):
        if field.kind == "numeric":
            continue
        ids = torch.from_numpy(np.array(next(by_kind[field.kind]))).long()
        for tables in (network.tables, *(gate.tables for gate in network.gates)):
            if position in tables.spans:
                start, _ = tables.spans[position]
                expected = expected + tables.table[ids + start].square().sum() / rows
    torch.testing.assert_close(network.batch_penalty(BATCH), 0.5 * expected)


# -- published sizes


def test_the_preset_for_frappe_has_the_published_number_of_parameters(shared):
    table = pq.read_table(shared / "data" / "finalmlp" / "frappe_x1_rebuilt.parquet")
    train = table.filter(pa.compute.equal(table["split"], 0))
    fields = {name: one for name, one in DEFINITIONS["frappe"].fields.items() if one.role != "split"}
    encoder = fit_encoder(fields, train.to_batches)
    assert [field.size for field in encoder.fields] == [956, 4084, 9, 9, 4, 5, 4, 11, 82, 235]
    config = resolve(FinalMlpConfig, preset="frappe_x1")
    network = new_network(encoder.fields, config.model, seed=0)
    assert sum(one.numel() for one in network.parameters()) == 253_392


def test_the_preset_for_movielens_leaves_a_whole_number_of_table_rows_of_the_published_parameters():
    names = ("user_id", "item_id", "tag_id")
    fields = [EncodedField(name, "categorical", 3, 0, name) for name in names]
    network = new_network(fields, resolve(FinalMlpConfig, preset="movielenslatest_x1").model, seed=0)
    rest = 1_040_902 - sum(one.numel() for one in network.parameters()) + 9 * 10
    # 90,445 distinct users, items and tags in all rows; train lacks some, and each table has two rows more
    assert rest % 10 == 0
    assert 85_000 < rest / 10 < 90_451


@pytest.mark.parametrize(
    ("preset", "dim", "l2", "hidden", "dropout", "norm", "heads", "batch", "gate"),
    [
        ("frappe_x1", 10, 0.05, ((400,), (100,)), (0.4, 0.4), (True, True), 5, 4096, (400,)),
        ("movielenslatest_x1", 10, 0.01, ((400,), (800,)), (0.4, 0.2), (True, True), 10, 4096, (800,)),
        ("criteo_x1", 10, 1e-5, ((400,) * 3, (1000,)), (0.2, 0.3), (True, True), 200, 4096, (800,)),
        ("avazu_x1", 10, 0.05, ((400,) * 3, (800,)), (0.3, 0.3), (True, True), 10, 4096, (800,)),
        ("criteo_x4", 16, 1e-5, ((1000,) * 5, (500,)), (0.2, 0.1), (False, False), 50, 10_000, None),
        ("avazu_x4", 16, 1e-9, ((2000,) * 3, (500,)), (0.0, 0.0), (True, False), 20, 10_000, None),
    ],
)
def test_presets_are_the_published_settings(preset, dim, l2, hidden, dropout, norm, heads, batch, gate):
    config = resolve(FinalMlpConfig, preset=preset)
    model, training = config.model, config.training
    assert (model.dim, training.embedding_l2, training.net_l2) == (dim, l2, 0.0)
    streams = (model.stream1, model.stream2)
    assert tuple(one.hidden for one in streams) == hidden
    assert tuple(one.dropout for one in streams) == dropout
    assert tuple(one.batch_norm for one in streams) == norm
    assert (model.heads, training.batch_size) == (heads, batch)
    assert model.gate == (gate is not None)
    assert gate is None or model.gate_hidden == gate
    assert (training.lr, training.l2, training.patience, training.gradient_clip) == (1e-3, "dense", 2, 10.0)
    assert (training.lr_decay, training.monitor, model.oov_dropout) == (0.1, "auc", 0.0)


def test_published_contexts_are_those_of_the_papers_settings():
    frappe = resolve(FinalMlpConfig, preset="published", dataset="frappe").model
    assert (frappe.context1, frappe.context2) == (("user",), ("item",))
    criteo = resolve(FinalMlpConfig, preset="published", dataset="criteo-tiny").model
    assert criteo.context1 == tuple(f"I{k}" for k in range(1, 14))
    assert criteo.context2 == ("C6",)


def test_every_parameter_that_waits_for_a_gradient_gets_one():
    # several processes would wait for the others for ever
    only_categories = tuple(field for field in FIELDS if field.kind == "categorical")
    network = FinalMLP(
        only_categories,
        dim=4,
        streams=(StreamOptions((8,)), StreamOptions((8,))),
        contexts=((0,), ()),
        gate_hidden=(6,),
    )
    ids = torch.stack([torch.randint(1, field.size, (16,)) for field in only_categories], dim=1)
    network(Batch(ids, torch.zeros(16, 0))).sum().backward()
    waiting = [name for name, one in network.named_parameters() if one.requires_grad and one.grad is None]
    assert waiting == []
