"""LightGBM in one way: trees are those of a call by hand, and files that hold none are refused by name."""

import lightgbm
import numpy as np
import pytest

from appliedpapers.core.errors import BundleError
from appliedpapers.core.lightgbm_trees import grow, read_booster

PARAMETERS = {"objective": "binary", "metric": "auc", "num_leaves": 7, "min_data_in_leaf": 5, "max_bin": 31}
FIXED = {"deterministic": True, "force_row_wise": True, "verbosity": -1, "seed": 3, "num_threads": 1}


def datasets(**options):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 4))
    y = (x[:, 0] * x[:, 1] + rng.normal(size=600) > 0).astype(float)
    train = lightgbm.Dataset(x[:400], y[:400], **options)
    return train, lightgbm.Dataset(x[400:], y[400:], reference=train), x[400:]


def grown(**options):
    train, valid, x = datasets()
    named = {"rounds": 60, "patience": 5, "seed": 3, "threads": 1, **options}
    return grow(PARAMETERS, train, valid, **named), x


def test_the_trees_are_those_of_the_same_call_by_hand():
    train, valid, _ = datasets(params={**FIXED, **PARAMETERS})
    expected = lightgbm.train(
        {**FIXED, **PARAMETERS},
        train,
        60,
        valid_sets=[valid],
        callbacks=[lightgbm.early_stopping(5, verbose=False)],
    )
    booster, _ = grown()
    assert booster.model_to_string() == expected.model_to_string()
    assert booster.current_iteration() == expected.best_iteration < 60


def test_threads_change_no_tree():
    one, two = (grown(threads=threads)[0].model_to_string().split("parameters:")[0] for threads in (1, 2))
    assert one == two


def test_what_judges_and_who_is_told_is_the_callers_choice():
    train, valid, _ = datasets()
    values, rounds = iter([1.0, 2.0, 3.0, 2.0, 2.0, 2.0]), []
    booster = grow(
        {**PARAMETERS, "metric": "none"},
        train,
        valid,
        rounds=6,
        patience=2,
        seed=3,
        threads=1,
        judge=lambda scores, data: ("script", next(values), True),
        told=[lambda state: rounds.append(state.iteration)],
    )
    assert booster.current_iteration() == 3
    assert rounds == [0, 1, 2, 3, 4]


def test_what_was_written_and_read_answers_alike(tmp_path):
    booster, x = grown()
    booster.save_model(str(tmp_path / "trees.txt"))
    back = read_booster(tmp_path / "trees.txt")
    assert back.current_iteration() == booster.current_iteration()
    np.testing.assert_array_equal(back.predict(x), booster.predict(x))


@pytest.mark.parametrize("content", [None, b"", b"no trees"])
def test_a_file_without_trees_is_refused_with_its_name(tmp_path, content):
    path = tmp_path / "trees.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BundleError, match=r"trees\.txt: cannot be read"):
        read_booster(path)
