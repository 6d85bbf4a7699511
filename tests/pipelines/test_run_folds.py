"""A protocol with folds: all is fitted and tested on each, scores are pooled, the last fit sees all rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from tinyplugins.rows.config import RowsConfig
from tinyplugins.rows.data import DATASETS, RowsDatasets
from tinyplugins.rows.model import RowsModel

from appliedpapers.core.bundle import load_bundle
from appliedpapers.core.data import TableSplit
from appliedpapers.core.errors import DataError
from appliedpapers.core.model import FitContext
from appliedpapers.pipelines.run import run
from appliedpapers.pipelines.run_folder import RunRequest

QUICK = RowsConfig().replace(data={"rows": 60})
FOLDS = 3


def in_folds(self, config, *, honest=RowsDatasets.simulated, leaky=False):
    """All simulated rows in folds: a third is tested, a few of the others are chosen on."""
    whole = honest(self, config)
    rows = pa.concat_tables([whole.train.table, whole.valid.table, whole.test.table])
    number = np.arange(rows.num_rows) % FOLDS

    def part(mask):
        return TableSplit(rows.filter(pa.array(mask)), key=("plot",), targets=("harvest",))

    chosen_on = np.arange(rows.num_rows) % 10 == 0
    folds = tuple(
        replace(
            whole,
            train=part((number != fold) & ~chosen_on | leaky),
            valid=part((number != fold) & chosen_on),
            test=part(number == fold),
            fold=f"fold-{fold}",
        )
        for fold in range(FOLDS)
    )
    learned, looked_at = part(~chosen_on), part(chosen_on)
    return replace(
        whole, protocol="3-fold", train=learned, valid=looked_at, test=part(number == 0), folds=folds
    )


@pytest.fixture
def live(tmp_path, store_folder, monkeypatch):
    def _live(config=QUICK, **how):
        monkeypatch.setattr(RowsDatasets, "simulated", lambda self, config: in_folds(self, config, **how))
        request = RunRequest(plugin="tiny-rows", config=config, register=False)
        return run(request, runs=tmp_path / "runs", store_folder=store_folder)

    return _live


def value_of(result, model, metric="mse"):
    (row,) = [
        row
        for row in result.results["rows"]
        if (row["model"], row["metric"], row["slice"], row["seed"]) == (model, metric, {}, None)
    ]
    return row


def harvest_errors(model, split):
    predicted = model.predict(split.inputs()).column("harvest").to_numpy()
    return (predicted - split.table.column("harvest").to_numpy()) ** 2


def test_errors_are_pooled_over_the_folds(live, tmp_path):
    result = live()
    folds = in_folds(DATASETS, QUICK).folds
    errors = np.concatenate(
        [
            harvest_errors(
                RowsModel(QUICK).fit(one.train, one.valid, FitContext(tmp_path / one.fold)), one.test
            )
            for one in folds
        ]
    )
    row = value_of(result, "tiny-rows")
    assert row["n"] == errors.size == result.results["test_size"] == 60
    assert row["value"] == pytest.approx(errors.mean())
    assert row["low"] < row["value"] < row["high"]
    assert {test["b"] for test in result.results["tests"]}


def test_what_is_saved_has_learned_from_all_rows(live, tmp_path):
    saved, _ = load_bundle(live().folder / "model")
    whole = in_folds(DATASETS, QUICK)
    again = RowsModel(QUICK).fit(whole.train, whole.valid, FitContext(tmp_path / "all"))
    probe = whole.folds[0].test.inputs()
    assert saved.predict(probe).equals(again.predict(probe))
    of_a_fold = RowsModel(QUICK).fit(
        whole.folds[0].train, whole.folds[0].valid, FitContext(tmp_path / "fold")
    )
    assert not saved.predict(probe).equals(of_a_fold.predict(probe))


def test_candidates_are_chosen_on_what_all_folds_choose_on(live):
    wild = QUICK.replace(candidates={"numb": {"model": {"alpha": 1e9}}})
    result = live(wild)
    assert next(row["model"] for row in result.results["rows"] if row["selected"]) == "tiny-rows"


def test_a_leak_within_one_fold_names_the_fold(live):
    with pytest.raises(DataError, match="rows in both train of fold-0 and"):
        live(leaky=True)
