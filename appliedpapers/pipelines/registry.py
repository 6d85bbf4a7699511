"""The model registry: registering, listing, comparing; with promotion and transfer, its whole face."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from mlflow.exceptions import MlflowException

from appliedpapers.core.bundle import BundleInfo
from appliedpapers.core.errors import GateError
from appliedpapers.core.verdict import selected_rows
from appliedpapers.pipelines.registry_cards import cards_of
from appliedpapers.pipelines.registry_promotion import Promotion, history, promote, record, rollback
from appliedpapers.pipelines.registry_transfer import export_version, import_version
from appliedpapers.pipelines.registry_versions import (
    CHALLENGER,
    CHAMPION,
    OWN_TAG,
    Standing,
    Version,
    champion_of,
    find_model,
    own_models,
    resolve,
    versions_of,
)
from appliedpapers.pipelines.tracking import leaves
from appliedpapers.pipelines.tracking_store import Store, store_errors, store_lock

__all__ = [
    "Difference",
    "ModelHistory",
    "ModelSummary",
    "Promotion",
    "Registered",
    "Standing",
    "Version",
    "diff",
    "export_version",
    "import_version",
    "list_models",
    "promote",
    "register",
    "resolve",
    "results_tags",
    "rollback",
    "show",
]


_LOGGED = "models:/m-"


class Registered(NamedTuple):
    """Number and alias that a version was given."""

    version: int
    alias: str


@dataclass(frozen=True)
class ModelSummary:
    """One row of ``apps registry list``.

    Attributes:
        name: Registered name.
        versions: How many there are.
        champion: Number of the champion.
        challenger: Number of the challenger.
        standing: How the champion did; None where it has no figure.
        dataset: What the champion was made on.
        synthetic: Whether that data is synthetic, where known.
    """

    name: str
    versions: int
    champion: int | None
    challenger: int | None
    standing: Standing | None
    dataset: str | None
    synthetic: bool | None


@dataclass(frozen=True)
class ModelHistory:
    """Everything about one registered model: its versions and every move of the champion."""

    name: str
    versions: tuple[Version, ...]
    moves: tuple[Promotion, ...]


@dataclass(frozen=True)
class Difference:
    """What differs between two versions; each entry is ``(in a, in b)``, None where it is absent.

    Attributes:
        name: Registered name.
        a: One version.
        b: The other.
        config: Options by dotted path.
        metrics: Overall test figures by metric.
        schema: Columns by ``input.<column>`` or ``output.<column>``.
        facts: Dataset, protocol, test fingerprint, preset, package version.
    """

    name: str
    a: int
    b: int
    config: dict[str, tuple[Any, Any]]
    metrics: dict[str, tuple[Any, Any]]
    schema: dict[str, tuple[Any, Any]]
    facts: dict[str, tuple[Any, Any]]


def register(
    store: Store, *, name: str, model_uri: str, run_id: str | None, tags: Mapping[str, Any]
) -> Registered:
    """Register a logged model; the first version becomes the champion, later ones the challenger.

    Args:
        store: The registry.
        name: Registered name, such as ``apps.frets``.
        model_uri: What :meth:`RunLog.log_model` returned.
        run_id: The MLflow run that made it.
        tags: What the gate and ``show`` need; see :func:`results_tags`.

    Raises:
        LockedError: Another process is changing the registry.
        RunError: The store refused.
    """
    client = store.client
    texts = {key: str(value) for key, value in tags.items()}
    store.activate()
    with store_lock(store.folder, "registry"), store_errors(store.tracking_uri):
        try:
            client.create_registered_model(name, tags={OWN_TAG: "true"})
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        # a server checks that the source belongs to the logged model
        logged = model_uri.removeprefix(_LOGGED) if model_uri.startswith(_LOGGED) else None
        made = client.create_model_version(
            name, source=model_uri, run_id=run_id, tags=texts, model_id=logged and f"m-{logged}"
        )
        number = int(made.version)
        model = client.get_registered_model(name)
        if champion_of(model) is None:
            record(store, model, "register", None, number, "first version")
            return Registered(number, CHAMPION)
        client.set_registered_model_alias(name, CHALLENGER, str(number))
    return Registered(number, CHALLENGER)


def results_tags(doc: Mapping[str, Any], metric: str) -> dict[str, str]:
    """Return the tags of a version that its results document justifies.

    Args:
        doc: The results document.
        metric: The declared primary metric.
    """
    keys = ("value", "low", "high", "higher_is_better")
    figures = {row["metric"]: {key: row[key] for key in keys} for row in selected_rows(doc)}
    names = ("plugin", "task", "dataset", "protocol", "preset", "test_fingerprint")
    tags = {f"apps.{name}": str(doc[name]) for name in names}
    tags |= {f"apps.{key}": str(value).lower() for key, value in figures.get(metric, {}).items()}
    synthetic = str(bool(doc["synthetic"])).lower()
    return tags | {
        "apps.metric": metric,
        "apps.metrics": json.dumps(figures),
        "apps.synthetic": synthetic,
        "apps.seeds": json.dumps(doc.get("seeds", [])),
    }


def list_models(store: Store) -> list[ModelSummary]:
    """Return one summary a registered model, by name."""
    with store_errors(store.tracking_uri):
        return [_summary(model, versions_of(store.client, model)) for model in own_models(store.client)]


def show(store: Store, name: str) -> ModelHistory:
    """Return a model's versions with their cards, the oldest first, and every move of its champion.

    Raises:
        ConfigError: There is no such model.
    """
    with store_errors(store.tracking_uri):
        model = find_model(store, name)
        found = versions_of(store.client, model)
        versions = tuple(replace(version, cards=cards_of(store, version)) for version in found)
        return ModelHistory(model.name, versions, tuple(history(model)))


def diff(store: Store, name: str, a: int | str, b: int | str) -> Difference:
    """Compare two versions, each given by number or alias.

    Raises:
        ConfigError: The model or a version is unknown.
        BundleError: A version's files are damaged or gone.
    """
    refs = [resolve(f"{name}@{selector}", store) for selector in (a, b)]
    infos = [ref.info for ref in refs]
    with store_errors(store.tracking_uri):
        found = {item.number: item for item in versions_of(store.client, find_model(store, refs[0].name))}
    first, second = (found[ref.version or 0] for ref in refs)
    return Difference(
        name=refs[0].name,
        a=first.number,
        b=second.number,
        config=_changes(*(_flat(info.config) for info in infos)),
        metrics=_changes(*({key: row["value"] for key, row in v.metrics.items()} for v in (first, second))),
        schema=_changes(*(_columns(info) for info in infos)),
        facts=_changes(*(_facts(info, v) for info, v in zip(infos, (first, second), strict=True))),
    )


def _summary(model: Any, versions: list[Version]) -> ModelSummary:
    champion = champion_of(model)
    found = next((item for item in versions if item.number == champion), None)
    challenger = model.aliases.get(CHALLENGER)
    standing = None
    if found is not None:
        with contextlib.suppress(GateError):
            standing = found.standing()
    synthetic = found.tags.get("apps.synthetic") if found else None
    return ModelSummary(
        model.name,
        len(versions),
        champion,
        int(challenger) if challenger is not None else None,
        standing,
        found.tags.get("apps.dataset") if found else None,
        None if synthetic is None else synthetic == "true",
    )


def _changes(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    keys = dict.fromkeys((*a, *b))
    return {key: (a.get(key), b.get(key)) for key in keys if a.get(key) != b.get(key)}


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    return dict(leaves(values))


def _columns(info: BundleInfo) -> dict[str, Any]:
    schemas = {"input": info.input_schema, "output": info.output_schema}
    return {
        f"{side}.{column['name']}": column
        for side, schema in schemas.items()
        for column in schema.to_json()["columns"]
    }


def _facts(info: BundleInfo, version: Version) -> dict[str, Any]:
    names = ("dataset", "protocol", "synthetic", "preset", "test_fingerprint")
    facts: dict[str, Any] = {name: version.tags.get(f"apps.{name}") for name in names}
    return facts | {"package_version": info.package_version, "run_id": version.run_id}
