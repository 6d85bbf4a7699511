"""How attitude is judged beside its baselines, what is missing, and what is said of failures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from own_recordings import swaying

from appliedpapers.core.data import Dataset, Provenance
from appliedpapers.core.errors import PluginError
from appliedpapers.core.evaluation import Material
from appliedpapers.core.model import FitContext
from appliedpapers.core.printed import split_published
from appliedpapers.core.results import Contender, RunFacts, build_results
from appliedpapers.core.verdict import strongest_baseline
from appliedpapers.plugins.imu_attitude import baselines as module
from appliedpapers.plugins.imu_attitude.baselines import MissingBaseline, PackageBaseline
from appliedpapers.plugins.imu_attitude.config import AttitudeConfig, SimulatorConfig
from appliedpapers.plugins.imu_attitude.delay import carry_on
from appliedpapers.plugins.imu_attitude.estimate import Estimate
from appliedpapers.plugins.imu_attitude.evaluation import EVALUATION
from appliedpapers.plugins.imu_attitude.rotations import from_rotation_vector, multiply
from appliedpapers.plugins.imu_attitude.scoring import Answers
from appliedpapers.plugins.imu_attitude.simulator import simulate
from appliedpapers.plugins.imu_attitude.splits import AttitudeSplit
from appliedpapers.plugins.imu_attitude.uncertainty import Calibration

_LAG_S, _STEP_S = 0.04, 0.02


class Exact:
    """A model that knows the reference, and tilts it."""

    calibration = Calibration(floor=0.02, trials=1)

    def __init__(self, degrees: float = 1.0) -> None:
        self._tilt = from_rotation_vector(np.array([np.deg2rad(degrees), 0.0, 0.0]))

    def estimate(self, recording):
        estimate = Estimate(multiply(self._tilt, recording.reference), sd=np.zeros(len(recording)))
        return self.calibration.apply(estimate)


def _dataset(recordings, protocol: str = "by-trial") -> Dataset:
    data = AttitudeConfig().data
    parts = [AttitudeSplit(part, data) for part in (recordings[:2], recordings[2:3], recordings[3:])]
    return Dataset("own", protocol, Provenance("own", "none", synthetic=True), *parts)


@pytest.fixture(scope="module")
def recordings():
    return [swaying(15.0, 50.0, trial=f"trial-{number}", seed=number) for number in range(5)]


@pytest.fixture(scope="module")
def dataset(recordings):
    return _dataset(recordings)


def _judge(dataset, names, model, tmp_path):
    config = AttitudeConfig().replace(baselines=names)
    baselines = EVALUATION.baselines(config, dataset)
    predictions = {"ours": EVALUATION.predict(model, dataset.test)}
    for one in baselines:
        predictions[one.name] = one.fit(dataset.train, dataset.valid, FitContext(tmp_path)).predict(
            dataset.test
        )
    scored = {name: EVALUATION.score(found, dataset.test, dataset) for name, found in predictions.items()}
    contenders = [
        Contender("ours", "ours", scored["ours"], selected=True),
        *(Contender(one.name, one.kind, scored[one.name]) for one in baselines),
    ]
    facts = RunFacts(
        *("id", "imu-attitude", "attitude", dataset.name, True, dataset.protocol, "default", (1,), "cpu"),
        dataset.test.num_rows,
        "0" * 64,
    )
    results = build_results(facts, contenders, primary=EVALUATION.primary_for(dataset), n_boot=50)
    return Material(dataset, model, "ours", predictions, scored, results, {}, config), baselines


def test_ours_stands_beside_baselines_and_a_missing_one_says_why(dataset, tmp_path, monkeypatch):
    reason = "ekf is left out: its package is not installed. pip install ahrs"
    monkeypatch.setattr(module, "unavailable", lambda names: {"ekf": reason} if "ekf" in names else {})
    material, baselines = _judge(dataset, ["corrected-mean-10s", "ekf"], Exact(), tmp_path)
    rows = [
        row for row in material.results["rows"] if row["metric"] == "inclination_rmse" and not row["slice"]
    ]
    assert {row["model"]: row["value"] is None for row in rows} == {
        "ours": False,
        "corrected-mean-10s": False,
        "ekf": True,
    }
    assert rows[0]["value"] == pytest.approx(1.0, abs=1e-9)
    assert strongest_baseline(material.results)["b"] == "corrected-mean-10s"
    assert dict(baselines[1].describe()) == {"state": reason}
    assert material.scored["ours"].metrics["coverage"].value == 1.0


def test_without_a_reference_residuals_are_compared(recordings, tmp_path):
    alone = _dataset([replace(one, reference=None, movement=None) for one in recordings])
    assert EVALUATION.primary_for(alone) == "gravity_residual"

    class Mean:
        calibration = Calibration()

        def estimate(self, recording):
            return Estimate(np.tile([1.0, 0.0, 0.0, 0.0], (len(recording), 1)))

    material, _ = _judge(alone, ["mean-5s"], Mean(), tmp_path)
    assert material.results["rows"][0]["metric"] == "gravity_residual"
    assert material.results["tests"][0]["difference"] < 0
    assert EVALUATION.failures(material) == ()


def test_a_package_that_fails_on_a_trial_harms_nobody_else(dataset):
    class Failing:
        name = "failing"

        def __call__(self, recording):
            if recording.trial == "trial-4":
                raise PluginError("failing lost its orientation on trial trial-4.")
            return Estimate(recording.reference)

        def describe(self):
            return ()

    baseline = PackageBaseline(Failing())
    answers = baseline.predict(dataset.test)
    assert [one is None for one in answers.estimates] == [False, True]
    assert "trial-4" in dict(baseline.describe())["failed"]
    assert np.isnan(EVALUATION.score(answers, dataset.test, dataset).metrics["inclination_rmse"].value)


def test_vqf_and_the_filter_are_given_the_delay_of_the_training_trials(recordings, tmp_path):
    pytest.importorskip("vqf")
    late = []
    for one in recordings:
        ahead = carry_on(Estimate(one.reference), one, _LAG_S)
        late.append(replace(one, reference=ahead.quaternion))
    dataset = _dataset(late)
    material, baselines = _judge(dataset, ["vqf", "vqf-delay", "filter"], Exact(0.0), tmp_path)
    facts = {one.name: dict(one.describe()) for one in baselines}
    for name in ("vqf-delay", "filter"):
        # filters hold a rate since the sample before, these recordings until the next: up to a step less
        assert _LAG_S - _STEP_S - 0.004 < float(facts[name]["delay"].split()[0]) / 1000 < _LAG_S
    values = {name: found.metrics["inclination_rmse"].value for name, found in material.scored.items()}
    assert values["vqf-delay"] < 0.6 * values["vqf"]
    assert values["filter"] < 0.8 * values["vqf"]
    assert "coverage" in material.scored["filter"].metrics


def test_vqf_and_the_filter_are_told_how_the_gyroscope_reads(tmp_path):
    pytest.importorskip("vqf")
    # simulated gyroscopes read moments
    wanted = SimulatorConfig(sequences=4, seconds=20.0, fs=(50.0,), noise=0.1, drops=0.0, taps=False)
    material, baselines = _judge(
        _dataset(simulate(wanted, seed=5)), ["vqf", "vqf-delay", "filter"], Exact(), tmp_path
    )
    facts = {one.name: dict(one.describe()) for one in baselines}
    assert facts["vqf-delay"]["sampling"] == facts["filter"]["sampling"] == "instant"
    values = {name: found.metrics["inclination_rmse"].value for name, found in material.scored.items()}
    assert values["vqf-delay"] < 0.8 * values["vqf"]


def test_vqf_stays_as_published_where_it_cannot_be_fitted(dataset, tmp_path, monkeypatch):
    pytest.importorskip("vqf")

    def failing(name, train):
        raise PluginError("vqf failed on trial trial-0.")

    monkeypatch.setattr(module, "tune", failing)
    (plain, fitted) = EVALUATION.baselines(AttitudeConfig().replace(baselines=["vqf", "vqf-delay"]), dataset)
    fitted.fit(dataset.train, dataset.valid, FitContext(tmp_path))
    found, expected = (one.predict(dataset.test).estimates for one in (fitted, plain))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.quaternion, other.quaternion)
    facts = dict(fitted.describe())
    assert (facts["delay"], facts["sampling"]) == ("0.00 ms", "mean")
    assert "trial-0" in facts["failed"]


def test_the_filter_is_no_baseline_of_itself(dataset):
    config = AttitudeConfig().replace(model={"kind": "filter"})
    names = [one.name for one in EVALUATION.baselines(config, dataset)]
    assert "filter" not in names
    assert {"vqf", "vqf-delay", "mean-5s"} <= set(names)
    assert all(one.kind == "baseline" for one in EVALUATION.baselines(AttitudeConfig(), dataset))


def test_failures_name_the_worst_seconds_and_broken_promises(dataset, tmp_path):
    material, _ = _judge(dataset, ["mean-5s"], Exact(), tmp_path)
    recording = dataset.test.recordings[1]
    jump = np.where((recording.time >= 5) & (recording.time < 10), 3.0, 0.5)
    tilt = np.zeros((len(recording), 3))
    tilt[:, 0] = np.deg2rad(jump)
    estimate = Estimate(multiply(from_rotation_vector(tilt), recording.reference))
    first = material.predictions["ours"].estimates[0]
    material.predictions["ours"] = Answers(
        (first, estimate), (np.full(len(recording), 0.1), np.full(len(recording), np.deg2rad(1.0)))
    )
    told = EVALUATION.failures(material)
    assert told[0].startswith("trial-4, 5 to 10 s")
    assert "3.00°" in told[0]
    assert any("trial-4: only" in text and "95 % bound" in text for text in told)


def test_published_figures_are_of_another_protocol(dataset):
    broad = replace(dataset, name="broad", protocol="broad-test-5")
    config = AttitudeConfig()
    same, elsewhere = split_published(
        EVALUATION.published(config, broad), dataset="broad", protocol="broad-test-5", config=config
    )
    assert not same
    assert {item.figure.value for item in elsewhere} == {2.71, 1.81, 3.70}
    assert all("9 axes" in item.reason for item in elsewhere)
    assert not EVALUATION.published(config, dataset)


def test_a_missing_baseline_speaks_while_it_is_fitted(dataset, tmp_path):
    said = []

    class Loud:
        def say(self, text):
            said.append(text)

    one = MissingBaseline("vqf", "vqf is left out: its package is not installed.")
    one.fit(dataset.train, dataset.valid, FitContext(tmp_path, progress=Loud()))
    assert said == [" vqf is left out: its package is not installed."]
    assert one.predict(dataset.test).estimates == (None, None)
