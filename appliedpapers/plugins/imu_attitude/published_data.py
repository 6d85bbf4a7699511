"""BROAD: eleven trials of the benchmark, where they come from and how they are dealt.

Nothing of them is part of this package. Each is read from upstream's own file, or from a prepared one of the
same samples as sensor counts where that lies in the data folder instead.
"""

from __future__ import annotations

from pathlib import Path

from appliedpapers.core.errors import DataError
from appliedpapers.core.files import sha256_file
from appliedpapers.core.sources import PublishedDataset, RemoteFile
from appliedpapers.plugins.imu_attitude.config import DataConfig
from appliedpapers.plugins.imu_attitude.readers import trials_of
from appliedpapers.plugins.imu_attitude.recording import Recording
from appliedpapers.plugins.imu_attitude.recording_files import read_file
from appliedpapers.plugins.imu_attitude.splits import Parts

_RAW = "https://raw.githubusercontent.com/dlaidig/broad/7e2f8189bb4a3ac91eae32c69b6bc87f08a6e2ad/data_mat"

# sha256 of upstream's file, and of the prepared one
_TRIALS = {
    "01_undisturbed_slow_rotation_A": (
        "ad2cec0390a279953084e1de12dfd8d542af55e4ea187e68e8ebb7c316ecb96b",
        "633a4aabe9635aa76d5134e179190f9085e4f88290068ff8fcc818973e9fdc74",
    ),
    "03_undisturbed_slow_rotation_C": (
        "8edaa587044d5d6d06a73785f482c66d44ad1eb7b0d50aa2949f238999a14c79",
        "89385f1c5cd23770d57a12acefd3c0f80a87b2fdd70858b0efac77eaf86934c3",
    ),
    "04_undisturbed_slow_rotation_with_breaks_A": (
        "e414276dc54fd01337a9d26b1c635900e46218f4859f1f011f44dd9994df24e0",
        "7767660022d7906e4e8783fcbb5109906dbbefacbe51978d6924ec33793f523b",
    ),
    "06_undisturbed_fast_rotation_A": (
        "61cb32774b40c33d16a172dbe06503b4a3cb0b2d3e9b8eae0df66c313506a8e2",
        "cf8871c99501fecef49f0df1abaaaa64f0141d1fdcd5af302fd8758001ef7358",
    ),
    "10_undisturbed_slow_translation_A": (
        "eee6293f1d0aaf8d0ac025b873667f6f7697acad318057f4fd6a801fb31c93c1",
        "2ba46ab34e80d688e1c5d0d8bc903b5bb63021484a5f35e38b5e97331783f738",
    ),
    "12_undisturbed_slow_translation_C": (
        "4d17e66737ecbbde3ab753e459d72c8f0a619750802f6fdbbd0e7f0c0e2551e8",
        "a92c24fb9ea255f8aa240c301d8f1d3b96948a1246d5024ccec4a5c2d02d69e9",
    ),
    "15_undisturbed_fast_translation_A": (
        "4290740d09dc3e055dd3cc939d083fa55321a9c90c0cb0aa3a6ffc26c4350951",
        "38ea5d0f8914f4e8b5ac8f0dbc4f853546387dd47f9c8c50022b2dbb31a2c6fb",
    ),
    "21_undisturbed_fast_combined": (
        "cb7be66ffc50d7d2b23abaf72a85a76925ea2db36a3fd575998811fcf68c219a",
        "94cd25fd6897dba784e4ae408d085d01ed23cad02b2d505a2fb648b5cf9c11d6",
    ),
    "24_disturbed_tapping_A": (
        "1246fed1680a882a5f4d0dc2ae16e2db9dc90281fbaf1d486c84db1f27db51fa",
        "c19ac3e890bf90e8429d3528eb82b0785631ad72d212f12a9a067e5369b02b90",
    ),
    "25_disturbed_tapping_B": (
        "38326275bd24d350ce188e8621b42e0598e2cc6b5f7eb8c652052afb8f4ae887",
        "b4427b59f426676f96925af4c95a6dba21bbc8a60015ca35b24532300793b3ed",
    ),
    "35_disturbed_attached_magnet_4cm": (
        "8832fbbd234a63d45cbbbd8fdd897401a0828028655569a50bbfbdad16f48320",
        "33b14d0923c3d391fddbb04751bad87b4f7fbfc0493c779f4e3f293d21d78b3f",
    ),
}
_TEST = ("03", "12", "21", "24", "35")
# of the six to learn from, the one that turns fastest: there a correction is worth most, as in the hardest
# test trial, and the trials that are left still hold slow rotation, both translations and tapping
_VALID = ("06",)

BROAD = PublishedDataset(
    id="broad",
    title="BROAD: 11 of 39 trials of one sensor with an optical reference, 286 Hz",
    files=tuple(RemoteFile(f"{name}.mat", f"{_RAW}/{name}.mat", sums[0]) for name, sums in _TRIALS.items()),
    licence="CC-BY-4.0",
    citation=(
        "Laidig, Caruso, Cereatti, Seel: BROAD - A Benchmark for Robust Inertial Orientation Estimation, "
        "Data 6(7):72, 2021"
    ),
    prepared=RemoteFile(f"{next(iter(_TRIALS))}.npz", None, next(iter(_TRIALS.values()))[1]),
)


def open_broad(folder: Path) -> Parts:
    """Open the trials whose files, or their prepared form, lie below ``folder``.

    Validation leaves the trial 06 out of training.

    Raises:
        DataError: A file is absent, is another version or does not hold what it should.
    """
    trials = [_open(folder, name) for name in _TRIALS]
    return Parts(
        train=[one for one in trials if not one.trial.startswith((*_TEST, *_VALID))],
        valid=[one for one in trials if one.trial.startswith(_VALID)],
        test=[one for one in trials if one.trial.startswith(_TEST)],
        protocol="broad-test-5",
        split_note="whole trials: test 03 12 21 24 35, valid 06, train 01 04 10 15 25",
        notes=("11 of the 39 trials of BROAD, without magnetometer; errors count while the sensor moves",),
    )


def _open(folder: Path, name: str) -> Recording:
    path = folder / f"{name}.mat"
    if not path.is_file():
        path = folder / f"{name}.npz"
        _require_prepared(path, _TRIALS[name][1])
    # the benchmark's own units, whatever the user's files are in
    data = DataConfig()
    (trial,) = trials_of(read_file(path, data.columns), name, data)
    return trial.to_recording(data)


def _require_prepared(path: Path, sha256: str) -> None:
    again = f"Move it away, and fetch the dataset again from {_RAW}."
    if not path.is_file():
        raise DataError(f"{path}: no such file.", hint=f"Remove the other .npz files there: {again}")
    if sha256_file(path) != sha256:
        raise DataError(f"{path}: the file is damaged, edited or another version.", hint=again)
