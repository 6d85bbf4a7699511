"""The datasets of attitude estimation: BROAD, the simulator, and the user's own recordings."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from appliedpapers.core.data import Dataset, Provenance
from appliedpapers.core.sources import SIMULATED, DatasetCatalog, PublishedDataset
from appliedpapers.plugins.imu_attitude.config import AttitudeConfig, SimulatorConfig
from appliedpapers.plugins.imu_attitude.published_data import BROAD, open_broad
from appliedpapers.plugins.imu_attitude.raw_trials import raw_table
from appliedpapers.plugins.imu_attitude.readers import checked, read_recordings, read_trials, recording_files
from appliedpapers.plugins.imu_attitude.recording import Recording
from appliedpapers.plugins.imu_attitude.simulator import simulate
from appliedpapers.plugins.imu_attitude.splits import AttitudeSplit, Parts, deal_by_time, deal_by_trial

if TYPE_CHECKING:
    import pyarrow as pa

_HELD_OUT = 1 / 6  # 4 of 24 sequences, twice
_NAMED = 3
_SAMPLE = SimulatorConfig(sequences=3, seconds=20.0)
_BY_COLUMNS = (
    "Download it from its owners and give its files to --data; name the columns with "
    "--set 'data.columns.acc=[…]' and say what they mean with data.acc_unit, gyr_unit and quat_order."
)


class AttitudeDatasets(DatasetCatalog[AttitudeConfig]):
    """Trials of BROAD, simulated motion, and recordings of any 6-axis sensor."""

    published = (BROAD,)
    formats = (
        "CSV, TSV or text, Parquet, JSON lines (columns trial, time, acc_x to acc_z, gyr_x to gyr_z and, if "
        "there is a reference, quat_w to quat_z and movement; other names by --columns), npz and mat (arrays "
        "acc, gyr, quat, time or fs); a file, or a folder with a trial a file"
    )
    elsewhere = MappingProxyType(
        dict.fromkeys(("repoimu", "tum-vi", "euroc", "oxiod", "sassari"), _BY_COLUMNS)
    )

    def simulated(self, config: AttitudeConfig) -> Dataset:
        """Simulate recordings (data card ``simulated-motion``); the last third validates and tests."""
        wanted = config.data.simulator
        recordings = simulate(wanted, config.seed)
        held = max(round(_HELD_OUT * wanted.sequences), 1)
        cuts = (wanted.sequences - 2 * held, wanted.sequences - held)
        parts = Parts(
            recordings[: cuts[0]],
            recordings[cuts[0] : cuts[1]],
            recordings[cuts[1] :],
            protocol="by-sequence",
            split_note=f"whole sequences, {cuts[0]} : {held} : {held}",
        )
        provenance = Provenance.of_simulator("appliedpapers.plugins.imu_attitude.simulator")
        return _dataset(SIMULATED, parts, config, provenance)

    def from_user(self, path: Path, config: AttitudeConfig) -> Dataset:
        """Read the user's own recordings, and split them by trial or, where that is asked for, by time."""
        recordings = read_recordings(path, config.data)
        deal = deal_by_time if config.data.split == "by-time" else deal_by_trial
        parts = deal(recordings, config.data, path.name)
        return _dataset(path.name, parts, config, Provenance.of_user(path, recording_files(path)))

    def from_published(self, entry: PublishedDataset, folder: Path, config: AttitudeConfig) -> Dataset:
        """Open the trials of BROAD; units and frame of ``config.data`` do not concern them."""
        provenance = entry.provenance(folder, source=str(entry.files[0].url).rpartition("/")[0])
        return _dataset(entry.id, open_broad(folder), config, provenance)

    def sample(self, folder: Path, config: AttitudeConfig) -> pa.Table:
        """Return a few seconds of one simulated recording in the units of ``config``."""
        return AttitudeSplit(simulate(_SAMPLE, config.seed), config.data).example()

    def inputs(self, path: Path, config: AttitudeConfig) -> pa.Table:
        """Read a file or folder as ``predict`` takes it, in the units of ``config``, time in seconds.

        Raises:
            DataError: It breaks the contract, or contradicts the units, signs and frames of ``config``.
        """
        for trial in read_trials(path, config.data):
            checked(trial.to_recording(config.data), config.data)
        # whoever asks gets an answer for every row, also for those that were skipped
        return raw_table(read_trials(path, config.data, mend=False))


DATASETS = AttitudeDatasets()


def _dataset(name: str, parts: Parts, config: AttitudeConfig, provenance: Provenance) -> Dataset:
    every = (*parts.train, *parts.valid, *parts.test)
    by_time = parts.protocol == "by-time"
    return Dataset(
        name=name,
        protocol=parts.protocol,
        provenance=provenance,
        train=AttitudeSplit(parts.train, config.data),
        valid=AttitudeSplit(parts.valid, config.data),
        test=AttitudeSplit(parts.test, config.data),
        summary=_summary(every),
        split_note=parts.split_note,
        disjoint=() if by_time else ("trial",),
        notes=(*parts.notes, *_notes(every)),
    )


def _summary(recordings: tuple[Recording, ...]) -> str:
    trials = len({recording.trial for recording in recordings})
    seconds = sum(float(recording.time[-1] - recording.time[0]) for recording in recordings)
    length = f"{seconds:,.0f} s" if seconds < 120 else f"{seconds / 60:,.0f} min"
    rates = sorted(1 / recording.step for recording in recordings)
    rate = f"{rates[0]:.0f}" if rates[-1] - rates[0] < 1 else f"{rates[0]:.0f} to {rates[-1]:.0f}"
    return f"{trials:,} trial{'s' * (trials != 1)}, {length} at {rate} Hz"


def _notes(recordings: Iterable[Recording]) -> list[str]:
    """Return what was found while the recordings were read, each finding once with the trials it is about."""
    found: dict[str, dict[str, None]] = {}
    for recording in recordings:
        more = () if recording.reference is not None else ("no reference: errors cannot be counted",)
        for note in (*recording.notes, *more):
            found.setdefault(note, {})[recording.trial] = None
    sentences = []
    for note, trials in found.items():
        named = ", ".join(list(trials)[:_NAMED])
        others = f" and {len(trials) - _NAMED:,} more" if len(trials) > _NAMED else ""
        sentences.append(f"{named}{others}: {note}")
    return sentences
