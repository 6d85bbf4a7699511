"""Which model a word names: the folder of a bundle, or a model in the registry."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from appliedpapers.core import plugin as plugins
from appliedpapers.core.bundle import MANIFEST, BundleInfo, is_bundle, load_bundle, read_info
from appliedpapers.core.files import sha256_file
from appliedpapers.pipelines import DEFAULT_STORE

if TYPE_CHECKING:
    from appliedpapers.core.model import Model
    from appliedpapers.core.plugin import PluginSpec, TaskSpec


@dataclass(frozen=True)
class ModelRef:
    """A model that can be loaded; its bundle was verified when it was found.

    Attributes:
        name: Registered name, such as ``apps.frets``; the one it would get for a bundle outside the registry.
        version: Registered version; None for a bundle outside the registry.
        alias: The alias that was asked for, if any.
        uri: ``models:/name/version``, or the bundle's path.
        bundle: The bundle on this disk.
        run_id: The MLflow run that made it.
        info: What the bundle says of itself.
    """

    name: str
    version: int | None
    alias: str | None
    uri: str
    bundle: Path
    run_id: str | None
    info: BundleInfo

    @cached_property
    def spec(self) -> PluginSpec:
        """Its plugin; raises PluginError where that is not installed here."""
        return plugins.find(self.info.plugin)

    @property
    def task(self) -> TaskSpec:
        """Its task."""
        return self.spec.task(self.info.task)

    @cached_property
    def digest(self) -> str:
        """The sha256 of the bundle's manifest, which seals all of its parts."""
        return sha256_file(self.bundle / MANIFEST)

    @property
    def edition(self) -> str:
        """The registered version, or how the digest begins."""
        return self.digest[:12] if self.version is None else str(self.version)

    def load(self, device: str = "cpu") -> Model:
        """Load the model onto a resolved device."""
        return load_bundle(self.bundle, device, spec=self.spec, info=self.info)[0]


def locate(reference: str | ModelRef, store_folder: Path = DEFAULT_STORE) -> ModelRef:
    """Find the model that a person names, and verify its bundle.

    Args:
        reference: A bundle's folder, or what :func:`~appliedpapers.pipelines.registry_versions.resolve`
            takes; a model that was found already is returned as it is.
        store_folder: Where MLflow's store lies.

    Raises:
        ConfigError: No such model, alias or version.
        BundleError: The bundle is corrupt or was changed.
        PluginError: The plugin of a bundle's folder is not installed here.
    """
    if isinstance(reference, ModelRef):
        return reference
    folder = Path(reference).expanduser()
    if is_bundle(folder):
        found = ModelRef("", None, None, str(folder.resolve()), folder, None, read_info(folder))
        return replace(found, name=found.spec.registered_name(found.task))
    # MLflow takes seconds to import
    from appliedpapers.pipelines.registry_versions import resolve
    from appliedpapers.pipelines.tracking_store import existing_store

    return resolve(reference, existing_store(store_folder))
