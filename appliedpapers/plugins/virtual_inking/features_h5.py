"""Features of a slide's tiles on disk, in the h5 layout of TRIDENT, and CLAM's tensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.archives import MOST_BYTES
from appliedpapers.core.errors import DataError
from appliedpapers.core.files import whole_file
from appliedpapers.core.vision.encoders import Identity, require_same

Features = NDArray[np.float32]
Ints = NDArray[np.int64]

IDENTITY = "appliedpapers"
"""Attribute of ``features`` that holds encoder, weights, preprocessing and micrometres per pixel in JSON."""


@dataclass(frozen=True)
class StoredFeatures:
    """What an h5 file holds.

    Attributes:
        features: ``(N, dim)``.
        coords: Upper left corners in level-0 pixels, ``(N, 2)`` as x and y.
        attributes: Of ``coords``: TRIDENT's patch_size, patch_size_level0 and so on.
        identity: What made the features; empty in files of others.
    """

    features: Features
    coords: Ints
    attributes: Mapping[str, Any]
    identity: Mapping[str, Any]

    @property
    def side0(self) -> float:
        """Side of a tile in level-0 pixels."""
        return float(self.attributes["patch_size_level0"])


def write_features(
    path: Path, features: Features, coords: Ints, attributes: Mapping[str, Any], identity: Mapping[str, Any]
) -> None:
    """Write features whole; equal features give equal bytes."""
    import h5py

    with whole_file(path) as aside, h5py.File(aside, "w", libver=("earliest", "v110")) as file:
        # times of writing would make equal features unequal files
        rows = file.create_dataset("features", data=features.astype(np.float32), track_times=False)
        rows.attrs[IDENTITY] = json.dumps(identity, sort_keys=True)
        rows.attrs["encoder"] = str(identity.get("encoder", ""))
        places = file.create_dataset("coords", data=coords.astype(np.int64), track_times=False)
        for name, value in attributes.items():
            places.attrs[name] = value


def read_features(path: Path, name: str | None = None) -> StoredFeatures:
    """Read features of TRIDENT's layout.

    Raises:
        DataError: It is no such file, or rows are missing.
    """
    import h5py

    shown = name or path.name
    try:
        with h5py.File(path, "r") as file:
            size = sum(int(file[key].nbytes) for key in ("features", "coords"))
            if size > MOST_BYTES:
                raise DataError(
                    f"{shown}: {size / 2**30:,.0f} GiB of features.", hint="Expected those of one slide."
                )
            features = np.asarray(file["features"], dtype=np.float32)
            coords = np.asarray(file["coords"], dtype=np.int64)
            attributes = {key: _plain(value) for key, value in file["coords"].attrs.items()}
            identity = json.loads(file["features"].attrs.get(IDENTITY, "{}"))
    # a damaged file takes the library wherever its bytes point
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError, MemoryError) as error:
        raise DataError(
            f"{shown}: no h5 file with 'features' and 'coords' ({error}).",
            hint="Expected what TRIDENT or an earlier run wrote.",
        ) from None
    if features.ndim == 3 and features.shape[0] == 1:
        features = features[0]
    if features.ndim != 2 or coords.shape != (len(features), 2):
        raise DataError(
            f"{shown}: features {features.shape} beside coords {coords.shape}.",
            hint="Expected (tiles, features) and (tiles, 2).",
        )
    if "patch_size_level0" not in attributes:
        raise DataError(
            f"{shown}: 'coords' has no attribute patch_size_level0.",
            hint="It says how large a tile is in pixels of level 0; TRIDENT writes it.",
        )
    return StoredFeatures(features, coords, attributes, identity)


def require_encoder(stored: StoredFeatures, identity: Identity, mpp: float, name: str) -> None:
    """Refuse features of another encoder, of other weights, preprocessing or resolution.

    Raises:
        DataError: They differ; of files of others the number of features and the name must fit.
    """
    if stored.identity:
        require_same(stored.identity, identity, name)
        if abs(float(stored.identity.get("mpp", mpp)) / mpp - 1) > 1e-6:
            raise DataError(
                f"{name}: features at {stored.identity['mpp']} um per pixel.",
                hint=f"Expected {mpp}; extract them again, features of two scales cannot be mixed.",
            )
        return
    if stored.features.shape[1] != identity.dim:
        raise DataError(
            f"{name}: {stored.features.shape[1]} features a tile, those of another encoder.",
            hint=f"Expected {identity.dim} of {identity.encoder}.",
        )


def write_clam(path: Path, features: Features) -> None:
    """Write CLAM's ``.pt``: the features alone, as a tensor."""
    import torch

    with whole_file(path) as aside:
        torch.save(torch.from_numpy(features), aside)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    return value.item() if isinstance(value, np.generic) else value
