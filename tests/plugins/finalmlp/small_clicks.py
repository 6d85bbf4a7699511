"""Small click logs and small fitted models for the tests of this folder."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from appliedpapers.core.bundle import load_bundle, save_bundle
from appliedpapers.core.config import resolve
from appliedpapers.core.data import Provenance
from appliedpapers.core.features.encoded import EncodedField, EncodedRows
from appliedpapers.core.features.fields import FieldSpec
from appliedpapers.core.features.rows import TableRows
from appliedpapers.core.inference import predict_all
from appliedpapers.core.model import FitContext
from appliedpapers.plugins.finalmlp.config import FinalMlpConfig
from appliedpapers.plugins.finalmlp.data import ClickDataset, build_dataset
from appliedpapers.plugins.finalmlp.model import FinalMlpModel
from appliedpapers.plugins.finalmlp.network import Batch, FinalMLP, StreamOptions
from appliedpapers.plugins.finalmlp.prepared import Prepared, prepare

USERS, ITEMS = 40, 30
FIELDS: Mapping[str, FieldSpec] = {
    "row_id": FieldSpec(role="ignore", carry=True),
    "click": FieldSpec(role="label"),
    "when": FieldSpec(role="timestamp", derive=("hour", "weekday")),
    "user": FieldSpec(role="categorical"),
    "price": FieldSpec(role="numeric"),
    "item": FieldSpec(role="categorical"),
    "tags": FieldSpec(role="sequence", max_len=4),
    "age": FieldSpec(role="numeric", indicator="always"),
    "past": FieldSpec(role="sequence", separator="|"),
    "device": FieldSpec(role="categorical", optional=True),
}
"""Every kind of field, in an order that mixes them."""

_SMALL = {
    "model.dim": 4,
    "model.stream1": "{hidden: [16, 8], dropout: 0.1}",
    "model.stream2": "{hidden: [12], dropout: 0.1}",
    "model.gate_hidden": "[6]",
    "model.heads": 2,
    "model.oov_dropout": 0.0,
    "training.epochs": 2,
    "training.batch_size": 128,
    "training.lr": 0.03,
    "training.embedding_l2": 1e-4,
    "baselines": "[click-rate]",
}


def configured(*assignments: str, preset: str = "default") -> FinalMlpConfig:
    small = [f"{name}={value}" for name, value in _SMALL.items()]
    return resolve(FinalMlpConfig, preset=preset, assignments=[*small, *assignments])


def clicks(rows: int = 2000, seed: int = 0, days: float = 10.0) -> pa.Table:
    """Return a log in the order of time: every second item is liked, cheap ones more, by some users less."""
    random = np.random.default_rng(seed)
    user, item = random.integers(0, USERS, rows), random.integers(0, ITEMS, rows)
    price = np.exp(random.normal(0, 0.7, rows))
    age = random.integers(18, 76, rows).astype(float)
    age[random.random(rows) < 0.1] = np.nan
    logit = np.where(item % 2, 1.5, -1.5) - 0.8 * np.log(price) + np.where(user % 3, 0.4, -0.8)
    instants = np.sort(random.random(rows)) * days * 86_400e6
    tags = [
        [f"t{tag}" for tag in random.integers(0, 8, count)] if count else []
        for count in random.integers(0, 6, rows)
    ]
    return pa.table(
        {
            "row_id": pa.array([f"r{number}" for number in range(rows)]),
            "click": pa.array((random.random(rows) < 1 / (1 + np.exp(-logit))).astype(np.int8)),
            "when": pa.array(np.datetime64("2024-03-01", "us") + instants.astype("timedelta64[us]")),
            "user": pa.array([f"u{one}" for one in user]),
            "price": pa.array(price),
            "item": pa.array([f"i{one}" for one in item]),
            "tags": pa.array(tags, pa.list_(pa.string())),
            "age": pa.array(age, mask=np.isnan(age)),
            "past": pa.array(["|".join(row[:3]) if row else None for row in tags]),
            "device": pa.array(random.choice(["phone", "desktop", None], rows)),
        }
    )


def dataset_of(
    table: pa.Table, config: FinalMlpConfig, fields: Mapping[str, FieldSpec] = FIELDS
) -> ClickDataset:
    provenance = Provenance("test", "none", synthetic=True)
    return build_dataset(TableRows(table), fields, config, name="small", provenance=provenance)


def prepared_of(
    table: pa.Table, config: FinalMlpConfig, folder: Path, fields: Mapping[str, FieldSpec] = FIELDS
) -> Prepared:
    dataset = dataset_of(table, config, fields)
    run = FitContext(folder)
    return prepare(dataset.train, dataset.valid, config.data, folder, run.progress)


def fitted(
    config: FinalMlpConfig,
    folder: Path,
    table: pa.Table | None = None,
    *,
    fields: Mapping[str, FieldSpec] = FIELDS,
    init: FinalMlpModel | None = None,
    resume: bool = False,
) -> FinalMlpModel:
    dataset = dataset_of(clicks() if table is None else table, config, fields)
    run = FitContext(folder, seed=config.seed, resume=resume)
    return FinalMlpModel(config).fit(dataset.train, dataset.valid, run, init=init)


@cache
def standard() -> FinalMlpModel:
    """Return the fitted model of the small options, the same for all tests: none may change it."""
    with tempfile.TemporaryDirectory() as folder:
        return fitted(configured(), Path(folder))


def round_trip(model: FinalMlpModel, folder: Path) -> FinalMlpModel:
    save_bundle(model, folder, plugin="finalmlp", task="binary-classification")
    loaded, _ = load_bundle(folder)
    assert isinstance(loaded, FinalMlpModel)
    return loaded


def probabilities(model: FinalMlpModel, table: pa.Table) -> np.ndarray:
    return predict_all(model, table).column("probability").to_numpy()


def assert_same_weights(first: FinalMLP, second: FinalMLP) -> None:
    ours, theirs = first.state_dict(), second.state_dict()
    assert set(ours) == set(theirs)
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name


# -- encoded rows that no encoder made: networks alone


def mixed_fields() -> tuple[EncodedField, ...]:
    """Fields whose order in the schema mixes the kinds."""
    return (
        EncodedField("tags", "sequence", 7, 3, "tags"),
        EncodedField("user", "categorical", 9, 0, "user"),
        EncodedField("price", "numeric", 0, 0, "price"),
        EncodedField("item", "categorical", 6, 0, "item"),
        EncodedField("past", "sequence", 5, 2, "past"),
        EncodedField("age", "numeric", 0, 0, "age"),
        EncodedField("hour", "categorical", 4, 0, "hour"),
    )


def random_rows(fields: tuple[EncodedField, ...], rows: int = 24, seed: int = 0) -> EncodedRows:
    """Return labelled rows; sequences are padded behind and some are empty."""
    random = np.random.default_rng(seed)
    sizes = [field.size for field in fields if field.kind == "categorical"]
    ids = np.stack([random.integers(1, size, rows) for size in sizes], axis=1).astype(np.int32)
    numbers = random.normal(size=(rows, sum(field.kind == "numeric" for field in fields)))
    sequences = []
    for field in fields:
        if field.kind == "sequence":
            tokens = random.integers(1, field.size, (rows, field.length))
            count = random.integers(0, field.length + 1, rows)
            sequences.append(np.where(np.arange(field.length) < count[:, None], tokens, 0).astype(np.int32))
    label = (random.random(rows) < 0.4).astype(np.float32)
    label[:2] = 0, 1
    return EncodedRows(fields, ids, numbers.astype(np.float32), tuple(sequences), label)


def small_network(
    fields: tuple[EncodedField, ...],
    *,
    contexts: tuple[tuple[int, ...], tuple[int, ...]] = ((1,), (3, 6)),
    seed: int = 0,
    large: bool = True,
    **options: object,
) -> FinalMLP:
    """Return a network; ``large`` draws tables that are not almost zero, so that differences show."""
    torch.manual_seed(seed)
    streams = (StreamOptions((8, 6)), StreamOptions((4,)))
    settings = {"dim": 3, "streams": streams, "gate_hidden": (5,), "heads": 2, **options}
    network = FinalMLP(fields, contexts=contexts, **settings)  # type: ignore[arg-type]
    if large:
        with torch.no_grad():
            for table in network.embeddings():
                table.copy_(torch.randn_like(table))
            for module in network.modules():
                if hasattr(module, "padding"):
                    module.table.index_fill_(0, module.padding, 0.0)
    return network


def batch_of(rows: EncodedRows) -> Batch:
    return Batch(
        torch.from_numpy(rows.ids),
        torch.from_numpy(rows.numbers),
        tuple(torch.from_numpy(one) for one in rows.sequences),
    )
