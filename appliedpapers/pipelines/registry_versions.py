"""Finding registered models: from what a person types to a verified bundle on this disk."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from appliedpapers.core.bundle import MANIFEST, read_info
from appliedpapers.core.errors import BundleError, ConfigError, GateError, did_you_mean
from appliedpapers.core.files import whole_folder
from appliedpapers.core.plugin import NAME_PREFIX
from appliedpapers.pipelines.locate import ModelRef
from appliedpapers.pipelines.packaging import verify_model
from appliedpapers.pipelines.tracking_store import Store, store_errors

CHAMPION = "champion"
CHALLENGER = "challenger"
OWN_TAG = "apps.model"
_SCHEME = "models:/"
_FIRST = "apps run ID registers a first version."


@dataclass(frozen=True)
class Standing:
    """How a version did on its test set.

    Attributes:
        metric: Name of the metric.
        value: Its value on the whole test set.
        low: Lower end of its interval.
        high: Upper end of its interval.
        higher_is_better: Direction.
        test_fingerprint: Identity of the test rows and the protocol.
    """

    metric: str
    value: float
    low: float | None
    high: float | None
    higher_is_better: bool
    test_fingerprint: str

    def text(self) -> str:
        """Return the value and its interval in words."""
        interval = f" ({self.low:.4g} to {self.high:.4g})" if None not in (self.low, self.high) else ""
        return f"{self.metric} {self.value:.4g}{interval}"


@dataclass(frozen=True)
class Version:
    """One version of a registered model.

    Attributes:
        name: Registered name.
        number: Version number.
        aliases: Aliases that point to it.
        created: When it was registered.
        run_id: The MLflow run that made it.
        tags: Everything known about it; keys begin with ``apps.``.
        cards: Files by kind, ``model`` and ``data``, where they were asked for.
    """

    name: str
    number: int
    aliases: tuple[str, ...]
    created: datetime
    run_id: str | None
    tags: Mapping[str, str]
    cards: Mapping[str, str] = field(default_factory=dict)

    @property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """Overall test figures by metric: value, low, high, higher_is_better."""
        figures = json.loads(self.tags.get("apps.metrics", "{}"))
        if self.metric is not None and self.metric not in figures:
            figures[self.metric] = {
                key: _number(self.tags.get(f"apps.{key}")) for key in ("value", "low", "high")
            }
            figures[self.metric]["higher_is_better"] = self.tags.get("apps.higher_is_better") == "true"
        return {str(key): dict(value) for key, value in figures.items()}

    @property
    def metric(self) -> str | None:
        """The declared primary metric."""
        return self.tags.get("apps.metric")

    @property
    def test_fingerprint(self) -> str | None:
        """Identity of the test rows and the protocol."""
        return self.tags.get("apps.test_fingerprint")

    def standing(self, metric: str | None = None) -> Standing:
        """Return how it did on ``metric``, or else on the declared one.

        Raises:
            GateError: It has no such figure, or nothing says what it was tested on.
        """
        wanted = metric or self.metric
        figure = self.metrics.get(wanted) if wanted else None
        if wanted is None or figure is None or not _finite(figure.get("value")):
            raise GateError(
                f"{self.name} version {self.number} has no figure for {wanted or 'any metric'}.",
                hint=did_you_mean(wanted or "", self.metrics) if self.metrics else "Register it by apps run.",
            )
        if not self.test_fingerprint:
            raise GateError(
                f"{self.name} version {self.number} does not say what it was tested on.",
                hint="Register it by apps run.",
            )
        return Standing(
            wanted,
            float(figure["value"]),
            figure.get("low"),
            figure.get("high"),
            bool(figure["higher_is_better"]),
            self.test_fingerprint,
        )


def resolve(ref: str, store: Store) -> ModelRef:
    """Find the registered model that a person names, and verify its code file and its bundle.

    Args:
        ref: ``frets``, ``frets@champion``, ``frets@3``, ``agrosense.crop@champion``, the full name with
            ``apps.`` before it, ``models:/name@alias`` or ``models:/name/version``. Without an alias it is
            the champion.
        store: Where to look.

    Raises:
        ConfigError: The name, alias or version is unknown.
        BundleError: The model was changed, or its files are gone.
        RunError: The store cannot be read.
    """
    if not ref.startswith(_SCHEME) and ("/" in ref or "\\" in ref):
        raise ConfigError(f"{ref}: not a bundle.", hint=f"Expected a folder with {MANIFEST}, or NAME@ALIAS.")
    name, selector = _parse(ref)
    with store_errors(store.tracking_uri):
        model = find_model(store, name)
        number, alias = _select(model, selector)
        found = _get_version(store.client, model, number)
        location = store.client.get_model_version_download_uri(model.name, str(number))
    bundle = verify_model(_local_folder(store, model.name, number, location))
    uri = f"{_SCHEME}{model.name}/{number}"
    return ModelRef(model.name, number, alias, uri, bundle, found.run_id, read_info(bundle))


def find_model(store: Store, name: str) -> Any:
    """Return the registered model called ``name`` or ``apps.<name>``.

    Raises:
        ConfigError: There is none, or the plugin has several.
    """
    for candidate in dict.fromkeys((name, f"{NAME_PREFIX}{name}")):
        try:
            return store.client.get_registered_model(candidate)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
    known = [model.name.removeprefix(NAME_PREFIX) for model in own_models(store.client)]
    below = [other for other in known if other.startswith(f"{name.removeprefix(NAME_PREFIX)}.")]
    if len(below) == 1:
        return store.client.get_registered_model(f"{NAME_PREFIX}{below[0]}")
    if below:
        raise ConfigError(f"'{name}' has several models.", hint=f"Choose one of: {', '.join(sorted(below))}.")
    hint = f"{did_you_mean(name.removeprefix(NAME_PREFIX), known)} {_FIRST}" if known else _FIRST
    raise ConfigError(f"no registered model is called '{name}'.", hint=hint)


def models_below(store: Store, name: str) -> list[str]:
    """Return the models of a plugin with several tasks, such as ``agrosense.crop``, by their short names."""
    plain = name.removeprefix(NAME_PREFIX)
    known = [model.name.removeprefix(NAME_PREFIX) for model in own_models(store.client)]
    return sorted(other for other in known if other.startswith(f"{plain}."))


def own_models(client: MlflowClient) -> list[Any]:
    """Return MLflow's registered models that Applied Papers made."""
    found, token = [], None
    while True:
        page = client.search_registered_models(page_token=token)
        found += [model for model in page if OWN_TAG in model.tags]
        token = page.token
        if not token:
            return sorted(found, key=lambda model: str(model.name))


def versions_of(client: MlflowClient, model: Any) -> list[Version]:
    """Return all versions of a registered model, the oldest first."""
    aliases: dict[int, list[str]] = {}
    for alias, number in model.aliases.items():
        aliases.setdefault(int(number), []).append(alias)
    found, token = [], None
    while True:
        quoted = str(model.name).replace("'", "''")
        page = client.search_model_versions(f"name = '{quoted}'", page_token=token)
        found += list(page)
        token = page.token
        if not token:
            break
    rows = [_version(item, tuple(sorted(aliases.get(int(item.version), ())))) for item in found]
    return sorted(rows, key=lambda row: row.number)


def champion_of(model: Any) -> int | None:
    """Return the number of the champion, if there is one."""
    number = model.aliases.get(CHAMPION)
    return int(number) if number is not None else None


def _version(item: Any, aliases: tuple[str, ...]) -> Version:
    created = datetime.fromtimestamp(item.creation_timestamp / 1000, UTC)
    return Version(item.name, int(item.version), aliases, created, item.run_id, dict(item.tags))


def _parse(ref: str) -> tuple[str, str]:
    text = ref.removeprefix(_SCHEME)
    name, sign, selector = text.rpartition("@")
    if not sign and ref.startswith(_SCHEME):
        name, sign, selector = text.rpartition("/")
    if not sign:
        name, selector = text, CHAMPION
    if not name or not selector:
        raise ConfigError(
            f"'{ref}' does not name a model.", hint="Expected NAME, NAME@ALIAS, NAME@VERSION or a path."
        )
    return name, selector


def _select(model: Any, selector: str) -> tuple[int, str | None]:
    if not selector.isdecimal():
        number = model.aliases.get(selector)
        if number is None:
            hint = did_you_mean(selector, model.aliases) if model.aliases else _FIRST
            raise ConfigError(f"{model.name} has no alias '{selector}'.", hint=hint)
        return int(number), selector
    return int(selector), None


def _get_version(client: MlflowClient, model: Any, number: int) -> Any:
    try:
        return client.get_model_version(model.name, str(number))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
    numbers = ", ".join(str(item.number) for item in versions_of(client, model)) or "none"
    raise ConfigError(f"{model.name} has no version {number}.", hint=f"Versions: {numbers}.")


def _local_folder(store: Store, name: str, number: int, location: str) -> Path:
    from mlflow.artifacts import download_artifacts

    folder = place_on_disk(location)
    if folder is not None:
        if not folder.is_dir():
            raise BundleError(
                f"{name} version {number}: its files are gone from {folder}.",
                hint="Was the store moved? Put it back, or import the version from an export.",
            )
        return folder
    cached = cache_folder(store, "models", name, number, location)
    if not cached.is_dir():
        with whole_folder(cached) as aside, store_errors(store.tracking_uri):
            uri = f"{_SCHEME}{name}/{number}"
            download_artifacts(artifact_uri=uri, dst_path=str(aside), tracking_uri=store.tracking_uri)
    return cached


def place_on_disk(location: str) -> Path | None:
    """Return the folder that an artifact location names; None where it is not on this disk."""
    from mlflow.utils.file_utils import local_file_uri_to_path

    on_disk = location.startswith("file:") or ":/" not in location
    return Path(local_file_uri_to_path(location)) if on_disk else None


def cache_folder(store: Store, kind: str, name: str, number: int, location: str) -> Path:
    """Return where something of a remote version is kept on this disk.

    The location belongs to one logged model for ever, while a server that is made anew counts its versions
    from one again.
    """
    from platformdirs import user_cache_path

    place = hashlib.sha256(f"{store.tracking_uri}\n{location}".encode()).hexdigest()[:16]
    return user_cache_path("applied-papers") / kind / place / name / str(number)


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None
