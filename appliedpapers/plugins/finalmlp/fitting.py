"""How the networks of a model are made, started from an earlier one, and trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from appliedpapers.core import metrics, weights
from appliedpapers.core.calibration import fit_calibrator
from appliedpapers.core.device import derive_seed
from appliedpapers.core.errors import ConfigError, did_you_mean
from appliedpapers.core.features.encoded import EncodedField
from appliedpapers.core.features.encoder import Encoder
from appliedpapers.core.features.store import EncodedStore
from appliedpapers.core.model import FitContext
from appliedpapers.core.training import fit
from appliedpapers.plugins.finalmlp.config import FinalMlpConfig, ModelConfig, StreamConfig
from appliedpapers.plugins.finalmlp.learner import ClickTask, score_rows
from appliedpapers.plugins.finalmlp.network import FieldTables, FinalMLP, StreamOptions
from appliedpapers.plugins.finalmlp.prepared import Prepared
from appliedpapers.plugins.finalmlp.scorer import Scorer

OOV_RATES = (0.0, 0.02, 0.05, 0.1)

_FEW_UNSEEN = 0.005
_NAMED = {"context1": ("user", "member", "visitor", "customer"), "context2": ("item", "ad", "product", "app")}


def new_network(fields: Sequence[EncodedField], options: ModelConfig, seed: int) -> FinalMLP:
    """Make a network with fresh weights.

    Raises:
        ConfigError: A context names a field that is not there.
    """
    with weights.drawn_by(seed):
        return FinalMLP(
            fields,
            dim=options.dim,
            streams=(_stream(options.stream1), _stream(options.stream2)),
            contexts=(context_of(fields, options, "context1"), context_of(fields, options, "context2")),
            gate_hidden=options.gate_hidden,
            heads=options.heads,
            use_gate=options.gate,
            fusion=options.fusion,
        )


def new_weak_network(fields: Sequence[EncodedField], block: str, seed: int) -> FinalMLP:
    """Make the small network of a cascade: narrow embeddings, one shared module, no gates, no products."""
    with weights.drawn_by(seed):
        stream = StreamOptions((16,), 0.0, True, block)
        return FinalMLP(fields, dim=4, streams=(stream, stream), use_gate=False, fusion="sum")


def context_of(fields: Sequence[EncodedField], options: ModelConfig, which: str) -> list[int]:
    """Return the positions of a gate's context fields.

    Raises:
        ConfigError: A name is no input column.
    """
    if not options.gate:
        return []
    wanted = getattr(options, which)
    columns = [field.column for field in fields]
    if wanted == "auto":
        return [place for place, field in enumerate(fields) if _is_named(field, _NAMED[which])]
    for name in wanted:
        if name not in columns:
            raise ConfigError(
                f"option 'model.{which}': '{name}' is no input column.", hint=did_you_mean(name, columns)
            )
    return [place for place, column in enumerate(columns) if column in wanted]


def _is_named(field: EncodedField, words: tuple[str, ...]) -> bool:
    parts = field.column.lower().replace("-", "_").split("_")
    return field.kind == "categorical" and field.name == field.column and parts[0] in words


def _stream(config: StreamConfig) -> StreamOptions:
    return StreamOptions(config.hidden, config.dropout, config.batch_norm, config.block)


@dataclass(frozen=True)
class Earlier:
    """An earlier model to start from.

    Attributes:
        networks: Its networks.
        encoder: Its encoder.
    """

    networks: Sequence[FinalMLP]
    encoder: Encoder


def train_networks(
    config: FinalMlpConfig, prepared: Prepared, run: FitContext, earlier: Earlier | None = None
) -> tuple[list[FinalMLP], float]:
    """Train the networks of an ensemble; the first also chooses the share of forgotten tokens.

    Returns:
        The networks on the run's device in evaluation mode, and that share.

    Raises:
        RunError: Training diverged.
        ConfigError: The configuration does not fit the fields, or the earlier model.
    """
    rates = _rates(config, prepared)
    tried: list[tuple[float, float, FinalMLP]] = []
    for rate in rates:
        name = "network-0" if len(rates) == 1 else f"network-0-oov-{rate:g}"
        network = _train(config, prepared, run, name, 0, rate, earlier)
        tried.append((_calibrated_loss(network, prepared) if len(rates) > 1 else 0.0, rate, network))
    # ties go to the smaller share
    _, rate, first = min(tried, key=lambda one: (one[0], one[1]))
    if len(rates) > 1:
        losses = ", ".join(f"{share:g}: {loss:.4f}" for loss, share, _ in tried)
        run.progress.say(f" forgotten tokens {rate:g} (valid logloss by share {losses})")
    others = [
        _train(config, prepared, run, f"network-{number}", number, rate, earlier)
        for number in range(1, config.model.ensemble)
    ]
    return [first, *others], rate


def train_weak(block: str, config: FinalMlpConfig, prepared: Prepared, run: FitContext) -> FinalMLP:
    """Train the small network of a cascade."""
    network = new_weak_network(prepared.encoder.fields, block, derive_seed(run.seed, "weak"))
    task = ClickTask(
        network.to(run.device),
        prepared.train,
        prepared.valid,
        config.training,
        shuffle_buffer=config.data.shuffle_buffer,
    )
    fit(task, run, name="weak")
    return network


def _train(
    config: FinalMlpConfig,
    prepared: Prepared,
    run: FitContext,
    name: str,
    number: int,
    rate: float,
    earlier: Earlier | None,
) -> FinalMLP:
    seed = derive_seed(run.seed, "network", number) if number else run.seed
    network = new_network(prepared.encoder.fields, config.model, seed)
    if earlier is not None:
        start_from(network, prepared.encoder, earlier, number)
    task = ClickTask(
        network.to(run.device),
        prepared.train,
        prepared.valid,
        config.training,
        oov_dropout=rate,
        shuffle_buffer=config.data.shuffle_buffer,
    )
    fit(task, run, name=name)
    return network


def _rates(config: FinalMlpConfig, prepared: Prepared) -> tuple[float, ...]:
    wanted = config.model.oov_dropout
    if wanted != "auto":
        return (float(wanted),)
    # nothing to choose where valid rows meet no new tokens, and too dear where rows are streamed
    unseen = float((prepared.valid.unseen() > 0).mean())
    streamed = isinstance(prepared.train, EncodedStore)
    return (0.0,) if unseen < _FEW_UNSEEN or streamed else OOV_RATES


def _calibrated_loss(network: FinalMLP, prepared: Prepared) -> float:
    label = prepared.valid.label
    assert label is not None
    logits = score_rows(Scorer(network), prepared.valid, network.tables.table.device)
    return metrics.logloss(label, fit_calibrator("platt", logits, label)(logits))


def start_from(network: FinalMLP, encoder: Encoder, earlier: Earlier, number: int) -> None:
    """Copy the weights of an earlier network; tokens that it did not know start from its unseen row.

    Raises:
        ConfigError: Its fields or sizes are others.
    """
    before = earlier.networks[min(number, len(earlier.networks) - 1)]
    try:
        rows = encoder.rows_from(earlier.encoder)
    except ValueError as error:
        raise _differs(str(error)) from None
    tables = {
        name: (module, before.get_submodule(name))
        for name, module in network.named_modules()
        if isinstance(module, FieldTables) and _has(before, name)
    }
    grown = {
        f"{name}.table": _grown(name, ours, theirs, encoder.fields, rows)
        for name, (ours, theirs) in tables.items()
        if isinstance(theirs, FieldTables)
    }
    weights.start_from(network, before.state_dict() | grown)


def _has(network: FinalMLP, name: str) -> bool:
    return name in dict(network.named_modules())


def _grown(
    name: str,
    ours: FieldTables,
    theirs: FieldTables,
    fields: tuple[EncodedField, ...],
    rows: dict[str, NDArray[np.int64]],
) -> Tensor:
    if (ours.dim, ours.chosen) != (theirs.dim, theirs.chosen):
        raise _differs(f"'{name}' embeds other fields or in another size than in that model")
    table = ours.table.detach().clone()
    for place, (start, size) in ours.spans.items():
        from_start, _ = theirs.spans[place]
        source = torch.from_numpy(rows[fields[place].name] + from_start)
        table[start : start + size] = theirs.table.detach().cpu()[source]
    return table


def _differs(what: str) -> ConfigError:
    return ConfigError(
        f"--init-from: {what}.",
        hint="Use the same data.fields and model.* options; apps registry diff compares two models.",
    )
