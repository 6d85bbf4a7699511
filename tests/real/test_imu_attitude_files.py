"""The eleven trials of BROAD: read whole in both forms, dealt by trial, and each wrong setting named."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace

import numpy as np
import pytest
from own_recordings import misread

from appliedpapers.core.config import resolve
from appliedpapers.core.data import leakage_audit
from appliedpapers.core.errors import DataError
from appliedpapers.core.sources import list_datasets, load_dataset
from appliedpapers.plugins.imu_attitude.config import AttitudeConfig, DataConfig
from appliedpapers.plugins.imu_attitude.data import DATASETS
from appliedpapers.plugins.imu_attitude.published_data import BROAD
from appliedpapers.plugins.imu_attitude.readers import read_recordings
from appliedpapers.plugins.imu_attitude.rotations import angle_between, up_vector
from appliedpapers.plugins.imu_attitude.self_test import self_test
from appliedpapers.plugins.imu_attitude.splits import cut

pytestmark = pytest.mark.shared

USUAL = DataConfig()
# number of samples of each trial, as the benchmark has them
SAMPLES = {
    "01_undisturbed_slow_rotation_A": 56_940,
    "03_undisturbed_slow_rotation_C": 58_412,
    "04_undisturbed_slow_rotation_with_breaks_A": 60_861,
    "06_undisturbed_fast_rotation_A": 56_380,
    "10_undisturbed_slow_translation_A": 55_409,
    "12_undisturbed_slow_translation_C": 56_121,
    "15_undisturbed_fast_translation_A": 52_556,
    "21_undisturbed_fast_combined": 53_612,
    "24_disturbed_tapping_A": 57_746,
    "25_disturbed_tapping_B": 56_494,
    "35_disturbed_attached_magnet_4cm": 46_885,
}
ONE_WRONG = [
    ("acc_unit", "g"),
    ("acc_unit", "mg"),
    ("gyr_unit", "deg/s"),
    ("acc_sign", "gravity"),
    ("frame", "NED"),
    ("quat_order", "xyzw"),
]


@pytest.fixture(scope="module")
def broad(shared):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("APPS_DATA_HOME", str(shared / "data"))
        (listed,) = (row for row in list_datasets(DATASETS, "imu-attitude") if row.id == "broad")
        assert listed.state == "ready"
        return load_dataset(DATASETS, "imu-attitude", resolve(AttitudeConfig), dataset="broad")


@pytest.fixture(scope="module")
def trials(broad):
    found = (*broad.train.recordings, *broad.valid.recordings, *broad.test.recordings)
    return {recording.trial: recording for recording in found}


def test_the_trials_are_whole_and_dealt_as_the_protocol_says(broad, trials):
    assert {name: len(recording) for name, recording in trials.items()} == SAMPLES
    assert [name[:2] for name in broad.train.trials] == ["01", "04", "10", "15", "25"]
    assert [name[:2] for name in broad.valid.trials] == ["06"]
    assert [name[:2] for name in broad.test.trials] == ["03", "12", "21", "24", "35"]
    assert broad.protocol == "broad-test-5"
    assert broad.summary == "11 trials, 36 min at 286 Hz"
    assert leakage_audit(broad) == []


@pytest.mark.parametrize("name", SAMPLES)
def test_a_trial_starts_at_rest_with_gravity_along_the_references_up(trials, name):
    recording = trials[name]
    assert 1 / recording.step == pytest.approx(285.714, abs=1e-3)
    rest = slice(0, int(np.argmax(recording.movement)) - 286)
    assert rest.stop > 29 * 286
    acc = recording.acc[rest].mean(axis=0)
    assert 9.8 < np.linalg.norm(acc) < 9.95
    up = np.nanmean(up_vector(recording.reference[rest]), axis=0)
    assert np.degrees(angle_between(acc, up)) < 1
    unknown = ~np.isfinite(recording.reference).all(axis=1)
    assert unknown.mean() < 0.09
    np.testing.assert_allclose(np.linalg.norm(recording.reference[~unknown], axis=1), 1, atol=1e-12)


@pytest.mark.parametrize("name", SAMPLES)
def test_the_right_settings_pass_with_and_without_the_reference(trials, name):
    recording = trials[name]
    assert self_test(recording, USUAL) == ()
    assert self_test(replace(recording, reference=None), USUAL) == ()


@pytest.mark.parametrize("name", SAMPLES)
def test_no_part_of_a_trial_is_refused_at_any_rate(trials, name):
    rng = np.random.default_rng(0)
    for _ in range(20):
        length, every = int(rng.choice([300, 1500, 5000, 12_000])), int(rng.choice([1, 4, 8]))
        start = int(rng.integers(len(trials[name]) - length))
        part = cut(trials[name], slice(start, start + length, every))
        notes = self_test(part, USUAL) + self_test(replace(part, reference=None), USUAL)
        assert not any("disagree" in note for note in notes)


@pytest.mark.parametrize(("option", "value"), ONE_WRONG, ids=[value for _, value in ONE_WRONG])
@pytest.mark.parametrize("name", SAMPLES)
def test_each_wrong_setting_is_named_on_each_trial(trials, name, option, value):
    other = DataConfig(**{option: value})
    for true, said in ((other, USUAL), (USUAL, other)):
        with pytest.raises(DataError, match=f"trial '{name}': .*{getattr(true, option)}") as caught:
            self_test(misread(trials[name], true, said), said)
        assert f"--set data.{option}={getattr(true, option)}" in caught.value.hint


def test_the_self_test_of_a_trial_takes_a_twentieth_of_a_second(trials):
    recording = trials["04_undisturbed_slow_rotation_with_breaks_A"]
    taken = []
    for _ in range(3):
        started = time.process_time()
        self_test(recording, USUAL)
        taken.append(time.process_time() - started)
    assert min(taken) < 0.05


def test_upstreams_own_files_are_read_to_the_same_numbers(shared, trials, tmp_path):
    """Written here in upstream's form: theirs may not lie beside the tests."""
    from scipy.io import savemat

    from appliedpapers.plugins.imu_attitude.published_data import open_broad

    recording = trials["35_disturbed_attached_magnet_4cm"]
    folder = tmp_path / "imu-attitude"
    shutil.copytree(shared / "data" / "imu-attitude", folder)
    (folder / f"{recording.trial}.npz").unlink()
    savemat(
        folder / f"{recording.trial}.mat",
        {
            "imu_acc": recording.acc,
            "imu_gyr": recording.gyr,
            "imu_mag": recording.acc,
            "opt_quat": recording.reference,
            "opt_pos": recording.acc,
            "sampling_rate": 1e6 / 3500,
            "movement": recording.movement[None].astype(np.uint8),
        },
    )
    (found,) = (one for one in open_broad(folder).test if one.trial == recording.trial)
    np.testing.assert_allclose(found.acc, recording.acc)
    np.testing.assert_allclose(found.time, recording.time, atol=1e-3)
    np.testing.assert_allclose(found.reference, recording.reference)
    np.testing.assert_array_equal(found.movement, recording.movement)


def test_a_prepared_file_that_was_edited_or_lost_is_refused(shared, tmp_path, monkeypatch):
    folder = tmp_path / "imu-attitude"
    shutil.copytree(shared / "data" / "imu-attitude", folder)
    last = folder / "35_disturbed_attached_magnet_4cm.npz"
    monkeypatch.setenv("APPS_DATA_HOME", str(tmp_path))
    content = last.read_bytes()
    last.chmod(0o644)
    last.write_bytes(content[:-1] + b"?")
    with pytest.raises(DataError, match=r"4cm\.npz: the file is damaged"):
        load_dataset(DATASETS, "imu-attitude", resolve(AttitudeConfig), dataset="broad")
    folder.chmod(0o755)
    last.unlink()
    with pytest.raises(DataError, match=r"4cm\.npz: no such file"):
        load_dataset(DATASETS, "imu-attitude", resolve(AttitudeConfig), dataset="broad")


def test_a_prepared_file_is_one_that_a_user_could_bring(shared, trials):
    path = shared / "data" / "imu-attitude" / "12_undisturbed_slow_translation_C.npz"
    (found,) = read_recordings(path, USUAL)
    np.testing.assert_array_equal(found.acc, trials[path.stem].acc)


def test_each_file_of_the_catalogue_is_a_trial():
    assert [file.path for file in BROAD.files] == [f"{name}.mat" for name in SAMPLES]
    assert all(file.url and file.url.endswith(f"/data_mat/{file.path}") for file in BROAD.files)
