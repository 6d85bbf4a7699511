"""The four published files of the field, read as a user would read them."""

from __future__ import annotations

import csv
import gzip

import numpy as np
import pytest

from appliedpapers.plugins.frets.config import DataConfig
from appliedpapers.plugins.frets.readers import read_panel

pytestmark = pytest.mark.shared


@pytest.mark.parametrize(
    ("file", "options", "shape", "freq", "first", "last"),
    [
        ("ETTh1.csv", {}, (17420, 7), "h", "2016-07-01T00", "2018-06-26T19"),
        ("covid.csv", {}, (335, 55), "D", "2020-02-01T00", "2020-12-31T00"),
        ("national_illness.csv", {}, (966, 7), "W-TUE", "2002-01-01T00", "2020-06-30T00"),
        (
            "exchange_rate.txt.gz",
            {"freq": "B", "start": "1990-01-01"},
            (7588, 8),
            "B",
            "1990-01-01T00",
            "2019-01-30T00",
        ),
    ],
)
def test_a_published_file_is_read_whole_and_unchanged(shared, file, options, shape, freq, first, last):
    path = shared / "data" / "frets" / file
    panel = read_panel(path, DataConfig(**options))
    assert panel.values.shape == shape
    assert panel.freq == freq
    assert [str(stamp)[:13] for stamp in panel.ds[[0, -1]]] == [first, last]
    assert panel.notes == ()
    assert (np.diff(panel.ds) > np.timedelta64(0)).all()

    opener = gzip.open if file.endswith(".gz") else open
    with opener(path, "rt") as stream:
        rows = list(csv.reader(stream))
    header = rows.pop(0)[1:] if not options else [f"series_{n}" for n in range(1, shape[1] + 1)]
    cells = np.array(rows)[:, -shape[1] :].astype(float)
    order = [header.index(name) for name in panel.unique_ids]
    np.testing.assert_array_equal(panel.values, cells[:, order])
