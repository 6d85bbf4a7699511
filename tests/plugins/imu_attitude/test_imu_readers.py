"""Files of recordings: every format, time unit and layout that is read, and every kind that is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from own_recordings import frame_of, swaying, write_csv

from appliedpapers.core.errors import DataError
from appliedpapers.plugins.imu_attitude.config import ColumnsConfig, DataConfig
from appliedpapers.plugins.imu_attitude.raw_trials import raw_table
from appliedpapers.plugins.imu_attitude.readers import read_recordings, read_trials

USUAL = DataConfig()
UNITS = DataConfig(
    acc_unit="mg", gyr_unit="deg/s", acc_sign="gravity", frame="NED", quat_order="xyzw", time_unit="s"
)


@pytest.fixture(scope="module")
def recording():
    return swaying(seconds=4.0, rest=1.0)


def same(found, expected, atol=1e-9) -> bool:
    np.testing.assert_allclose(found.time, expected.time, atol=1e-9)
    np.testing.assert_allclose(found.acc, expected.acc, atol=atol)
    np.testing.assert_allclose(found.gyr, expected.gyr, atol=atol)
    np.testing.assert_allclose(
        np.abs(np.sum(found.reference * expected.reference, axis=1)), 1, atol=atol, err_msg="reference"
    )
    np.testing.assert_array_equal(found.movement, expected.movement)
    return True


def write_npz(path, frame, **more):
    np.savez(path, **arrays_of(frame), **more)


def arrays_of(frame):
    return {
        "acc": frame[["acc_x", "acc_y", "acc_z"]].to_numpy(),
        "gyr": frame[["gyr_x", "gyr_y", "gyr_z"]].to_numpy(),
        "quat": frame[["quat_w", "quat_x", "quat_y", "quat_z"]].to_numpy(),
        "movement": frame["movement"].to_numpy(),
    }


def write_mat(path, frame):
    from scipy.io import savemat

    arrays = arrays_of(frame)
    savemat(
        path,
        {
            "imu_acc": arrays["acc"],
            "imu_gyr": arrays["gyr"],
            "imu_mag": arrays["acc"],
            "opt_quat": arrays["quat"],
            "opt_pos": arrays["acc"],
            "movement": arrays["movement"][:, None],
            "sampling_rate": 100.0,
        },
    )


WRITERS = {
    "csv": lambda path, frame: frame.to_csv(path, index=False),
    "tsv": lambda path, frame: frame.to_csv(path, index=False, sep="\t"),
    "txt": lambda path, frame: frame.to_csv(path, index=False, sep=" "),
    "parquet": lambda path, frame: frame.to_parquet(path),
    "jsonl": lambda path, frame: frame.to_json(path, orient="records", lines=True, double_precision=15),
    "npz": lambda path, frame: write_npz(path, frame, time=frame["time"].to_numpy()),
    "mat": write_mat,
}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_recording_is_the_same_in_every_format(tmp_path, recording, kind):
    path = tmp_path / f"walk.{kind}"
    WRITERS[kind](path, frame_of(recording, UNITS))
    (found,) = read_recordings(path, UNITS)
    assert found.trial == "walk"
    assert found.notes == ()
    assert same(found, recording)


@given(
    acc_unit=st.sampled_from(["m/s2", "g", "mg"]),
    gyr_unit=st.sampled_from(["rad/s", "deg/s"]),
    acc_sign=st.sampled_from(["specific-force", "gravity"]),
    frame=st.sampled_from(["ENU", "NED"]),
    quat_order=st.sampled_from(["wxyz", "xyzw"]),
    seed=st.integers(0, 100),
)
@settings(max_examples=25, deadline=None)
def test_a_recording_survives_a_csv_file_in_any_units(tmp_path_factory, seed, **options):
    expected, data = swaying(seconds=3.0, rest=1.0, seed=seed), DataConfig(**options)
    path = write_csv(tmp_path_factory.mktemp("trial"), expected, data)
    (found,) = read_recordings(path, data)
    assert same(found, expected)


def test_sensor_counts_of_an_npz_file_are_decoded(tmp_path, recording):
    counts = np.round(recording.acc / 0.01).astype(np.int16)
    path = tmp_path / "counts.npz"
    np.savez(path, acc=counts, acc_lsb=0.01, acc_offset=[0.001, 0, 0], gyr=recording.gyr, fs=100.0)
    (found,) = read_recordings(path, USUAL)
    np.testing.assert_allclose(found.acc, counts * 0.01 + [0.001, 0, 0])
    np.testing.assert_allclose(found.time, recording.time)


def test_columns_are_found_under_the_names_that_the_user_gives(tmp_path, recording):
    names = ColumnsConfig(time="t", acc=("ax", "ay", "az"), gyr=("gx", "gy", "gz"))
    data = DataConfig(columns=names)
    (found,) = read_recordings(write_csv(tmp_path, recording, data), data)
    assert same(found, recording)


def test_a_decimal_comma_is_read_where_semicolons_separate(tmp_path, recording):
    path = tmp_path / "walk.csv"
    frame_of(recording).to_csv(path, index=False, sep=";", decimal=",")
    assert same(read_recordings(path, USUAL)[0], recording)


@pytest.mark.parametrize(
    ("scale", "unit"), [(1.0, "s"), (1e3, "ms"), (1e6, "us"), (1e9, "ns")], ids=["s", "ms", "us", "ns"]
)
@pytest.mark.parametrize("fs", [10.0, 100.0, 1600.0])
def test_the_time_unit_is_read_off_its_steps(tmp_path, scale, unit, fs):
    expected = swaying(seconds=4.0, fs=fs)
    frame = frame_of(expected)
    frame["time"] = np.round(frame["time"] * scale, 6)
    frame.to_csv(tmp_path / "a.csv", index=False)
    (found,) = read_recordings(tmp_path / "a.csv", USUAL)
    np.testing.assert_allclose(found.time, expected.time, atol=1e-6)
    assert found.notes == (() if unit == "s" else (f"time was read as {unit}",))


@pytest.mark.parametrize("form", ["ns", "ms", "iso", "parquet"])
def test_epoch_stamps_keep_their_steps(tmp_path, recording, form):
    stamps = 1_760_000_000_000_000_000 + np.round(recording.time * 1e9).astype(np.int64)
    frame = frame_of(recording)
    dates = pd.Series(stamps.view("M8[ns]"))
    frame["time"] = {"ns": stamps, "ms": stamps / 1e6, "iso": dates.astype(str), "parquet": dates}[form]
    path = tmp_path / ("a.parquet" if form == "parquet" else "a.csv")
    frame.to_parquet(path) if form == "parquet" else frame.to_csv(path, index=False)
    (found,) = read_recordings(path, USUAL)
    np.testing.assert_allclose(found.time, recording.time, atol=3e-7)
    assert "time counts from the trial's first sample" in found.notes


def test_without_a_time_column_the_rate_is_needed(tmp_path, recording):
    path = tmp_path / "walk.csv"
    frame_of(recording).drop(columns="time").to_csv(path, index=False)
    with pytest.raises(DataError, match=r"walk\.csv: there is neither a time nor") as caught:
        read_recordings(path, USUAL)
    assert "--fs" in caught.value.hint
    assert same(read_recordings(path, DataConfig(fs=100.0))[0], recording)


def test_time_stamps_win_over_a_given_rate(tmp_path, recording):
    (found,) = read_recordings(write_csv(tmp_path, recording), DataConfig(fs=7.0))
    assert same(found, recording)


def test_trials_of_one_file_may_be_mixed_and_come_in_the_order_of_the_file(tmp_path):
    first, second = swaying(seconds=3.0, trial="run"), swaying(seconds=2.0, trial="a", seed=1)
    frames = [frame_of(one).assign(trial=one.trial) for one in (first, second)]
    mixed = pd.concat([frames[0][:100], frames[1], frames[0][100:]])
    mixed.to_parquet(tmp_path / "both.parquet")
    found = read_recordings(tmp_path / "both.parquet", USUAL)
    assert [one.trial for one in found] == ["run", "a"]
    assert same(found[0], first)
    assert same(found[1], second)


def test_a_folder_is_read_as_one_trial_a_file(tmp_path, recording):
    for name in ("b", "a"):
        write_csv(tmp_path, replace(recording, trial=name))
    (tmp_path / "notes.md").write_text("not data")
    assert [one.trial for one in read_recordings(tmp_path, USUAL)] == ["a", "b"]
    frame_of(recording).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match="two files have a trial 'a'"):
        read_recordings(tmp_path, USUAL)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="no recording in it"):
        read_recordings(tmp_path, USUAL)


def test_repeated_stamps_are_dropped_and_counted(tmp_path, recording):
    frame = frame_of(recording)
    doubled = pd.concat([frame[:100], frame[97:100], frame[100:]], ignore_index=True)
    doubled.loc[100:102, "time"] = frame["time"][99]
    doubled.to_csv(tmp_path / "walk.csv", index=False)
    (found,) = read_recordings(tmp_path / "walk.csv", USUAL)
    assert same(found, recording)
    assert found.notes == ("3 samples with a repeated time stamp were left out",)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, "broken"])
@pytest.mark.parametrize("column", ["acc_y", "gyr_z", "time"])
def test_a_reading_that_is_no_number_is_named_or_left_out(tmp_path, recording, value, column):
    frame = frame_of(recording).astype({column: object})
    frame.loc[[41, 200], column] = value
    path = tmp_path / "walk.csv"
    frame.to_csv(path, index=False, na_rep="NaN")
    with pytest.raises(DataError, match=rf"walk\.csv, column '{column}', row 42: '.+' is not a finite"):
        read_recordings(path, USUAL)
    (found,) = read_recordings(path, DataConfig(on_bad="skip"))
    assert found.notes == ("2 samples with missing or infinite readings were left out",)
    kept = np.delete(np.arange(len(recording)), [41, 200])
    np.testing.assert_allclose(found.time, recording.time[kept])
    np.testing.assert_allclose(found.acc, recording.acc[kept])


def test_every_bad_row_is_listed(tmp_path, recording):
    frame = frame_of(recording)
    frame.loc[[3, 4], "acc_x"] = np.nan
    frame.loc[[4, 9], "gyr_x"] = np.nan
    frame.to_parquet(tmp_path / "walk.parquet")
    with pytest.raises(DataError) as caught:
        read_recordings(tmp_path / "walk.parquet", USUAL)
    assert caught.value.violations["row"].to_pylist() == [4, 5, 5, 10]
    assert "3 rows are bad" in caught.value.hint


def test_a_sample_that_is_left_out_leaves_its_place_in_a_file_without_time(tmp_path, recording):
    frame = frame_of(recording).drop(columns="time")
    frame.loc[10, "acc_x"] = np.nan
    frame.to_parquet(tmp_path / "walk.parquet")
    (found,) = read_recordings(tmp_path / "walk.parquet", DataConfig(fs=100.0, on_bad="skip"))
    np.testing.assert_allclose(found.time, np.delete(recording.time, 10))


def test_a_reference_that_is_unknown_for_a_while_is_kept_as_unknown(tmp_path, recording):
    frame = frame_of(recording)
    frame.loc[5:7, ["quat_w", "quat_x", "quat_y", "quat_z"]] = np.nan
    frame.to_csv(tmp_path / "walk.csv", index=False)
    (found,) = read_recordings(tmp_path / "walk.csv", USUAL)
    assert np.isnan(found.reference).any(axis=1).nonzero()[0].tolist() == [5, 6, 7]


def change(name, rows, value):
    def changed(frame):
        frame = frame.copy()
        frame.loc[rows, name] = value
        return frame

    return changed


BROKEN = {
    "time goes back": (change("time", 50, 0.2), r"column 'time', row 51: time goes back from 0\.49 to 0\.2"),
    "time stands": (change("time", slice(None), 3.0), r"row 1: time does not advance"),
    "one row": (lambda frame: frame[:1], r"1 usable sample\."),
    "no rows": (lambda frame: frame[:0], r"no rows"),
    "acc is zero": (
        change(["acc_x", "acc_y", "acc_z"], slice(None), 0.0),
        r"the accelerometer is zero throughout",
    ),
    "a column is missing": (
        lambda frame: frame.rename(columns={"gyr_y": "gyr_yy"}),
        r"column 'gyr_y' is missing; not used: 'gyr_yy'",
    ),
    "movement is a word": (
        lambda frame: frame.assign(movement="moving"),
        r"column 'movement', row 1: 'moving' is not true or false",
    ),
    "a trial without name": (
        lambda frame: frame.assign(trial=["a", *[None] * (len(frame) - 1)]),
        r"column 'trial', row 2: it is missing",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize("on_bad", ["error", "skip"])
def test_a_table_that_cannot_be_used_is_refused_with_a_remedy(tmp_path, recording, case, on_bad):
    break_it, message = BROKEN[case]
    break_it(frame_of(recording)).to_parquet(tmp_path / "walk.parquet")
    with pytest.raises(DataError, match=rf"walk\.parquet.*{message}") as caught:
        read_recordings(tmp_path / "walk.parquet", DataConfig(on_bad=on_bad))
    assert caught.value.hint


def test_a_missing_column_suggests_the_closest_and_how_to_name_it(tmp_path, recording):
    frame_of(recording).rename(columns={"acc_x": "accx"}).to_csv(tmp_path / "walk.csv", index=False)
    with pytest.raises(DataError) as caught:
        read_recordings(tmp_path / "walk.csv", USUAL)
    assert caught.value.hint == (
        "Did you mean 'accx'? Name yours with --set 'data.columns.acc=[acc_x, acc_y, acc_z]'."
    )
    with pytest.raises(DataError, match="column 'stamp' is missing"):
        read_recordings(
            tmp_path / "walk.csv",
            DataConfig(columns=ColumnsConfig(time="stamp", acc=("accx", "acc_y", "acc_z"))),
        )


ARRAYS = {
    "turned": (lambda arrays: {"acc": arrays["acc"].T}, r"array 'acc': its shape is \(3, 400\)", "Transpose"),
    "short": (lambda arrays: {"gyr": arrays["gyr"][:7]}, r"array 'gyr': .*expected \(400, 3\)", "one row"),
    "text": (lambda arrays: {"acc": arrays["acc"].astype(str)}, "array 'acc': it holds <U", "numbers"),
    "rate": (lambda arrays: {"fs": np.array([1.0, 2.0])}, "'fs': it is not one rate", "positive"),
    "counts": (lambda arrays: {"acc_lsb": np.ones(4)}, "'acc_lsb' has 4 values", "one number"),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_arrays_of_another_shape_or_kind_are_refused(tmp_path, recording, case):
    change_it, message, hint = ARRAYS[case]
    arrays = arrays_of(frame_of(recording)) | {"fs": 100.0}
    np.savez(tmp_path / "walk.npz", **(arrays | change_it(arrays)))
    with pytest.raises(DataError, match=message) as caught:
        read_recordings(tmp_path / "walk.npz", USUAL)
    assert hint in caught.value.hint


def test_an_npz_file_without_the_gyroscope_is_refused(tmp_path):
    np.savez(tmp_path / "walk.npz", acc=np.ones((5, 3)))
    with pytest.raises(DataError, match="there is no array 'gyr'; found acc"):
        read_recordings(tmp_path / "walk.npz", USUAL)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "txt", "parquet", "npz", "mat", "jsonl", "ndjson", "xlsx"])
@pytest.mark.parametrize("content", [b"", bytes(range(256)), b"a,b\n1,2\n", b"PK\x03\x04", b"\xff\xfe"])
def test_a_file_that_is_not_what_its_name_says_is_refused_without_a_traceback(tmp_path, suffix, content):
    path = tmp_path / f"odd.{suffix}"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"odd\.") as caught:
        read_recordings(path, USUAL)
    assert caught.value.hint


@pytest.mark.parametrize("kind", WRITERS)
def test_a_file_that_was_cut_short_is_refused_or_read_up_to_there(tmp_path, recording, kind):
    path = tmp_path / f"walk.{kind}"
    WRITERS[kind](path, frame_of(recording))
    path.write_bytes(path.read_bytes()[:-37])
    with pytest.raises(DataError, match=r"walk\.") as caught:
        read_recordings(path, USUAL)
    assert caught.value.hint


def test_an_absent_file_is_refused():
    with pytest.raises(DataError, match="no such file"):
        read_recordings(Path("nowhere.csv"), USUAL)


def test_a_pickle_in_an_npz_file_is_not_opened(tmp_path):
    np.savez(tmp_path / "odd.npz", acc=np.array([{"a": 1}], dtype=object), gyr=np.ones((1, 3)))
    with pytest.raises(DataError, match="cannot be read"):
        read_recordings(tmp_path / "odd.npz", USUAL)


def test_the_raw_table_keeps_the_users_units_and_leaves_the_reference_out(tmp_path, recording):
    frame = frame_of(recording, UNITS)
    frame.to_parquet(tmp_path / "walk.parquet")
    table = raw_table(read_trials(tmp_path / "walk.parquet", UNITS)).to_pandas()
    assert list(table) == ["trial", "time", "acc_x", "acc_y", "acc_z", "gyr_x", "gyr_y", "gyr_z"]
    pd.testing.assert_frame_equal(table[list(table)[1:]], frame[list(table)[1:]])
    assert set(table["trial"]) == {"walk"}


def test_a_magnetometer_is_carried_along_gaps_and_all(tmp_path, recording):
    field = np.tile([20.0, 0.0, -40.0], (len(recording), 1))
    field[3] = np.nan
    frame = frame_of(recording).assign(**dict(zip(("mag_x", "mag_y", "mag_z"), field.T, strict=True)))
    frame.to_csv(tmp_path / "walk.csv", index=False)
    (trial,) = read_trials(tmp_path / "walk.csv", USUAL)
    np.testing.assert_array_equal(trial.mag, field)
    assert raw_table([trial]).column_names[-3:] == ["mag_x", "mag_y", "mag_z"]


def test_a_wrong_unit_is_found_while_reading_unless_the_test_is_switched_off(tmp_path):
    path = write_csv(tmp_path, swaying(), DataConfig(gyr_unit="deg/s"))
    with pytest.raises(DataError, match="gyr looks like deg/s"):
        read_recordings(path, USUAL)
    assert len(read_recordings(path, DataConfig(self_test=False))) == 1


def test_json_lines_without_a_time_are_read_by_the_rate(tmp_path, recording):
    rows = frame_of(recording).drop(columns=["movement"]).assign(time=None).to_dict("records")
    (tmp_path / "walk.ndjson").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (found,) = read_recordings(tmp_path / "walk.ndjson", DataConfig(fs=100.0))
    np.testing.assert_allclose(found.time, recording.time)
