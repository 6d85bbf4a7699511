"""The click-log simulator: what it claims to know about its rows is true."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from appliedpapers.core.errors import ConfigError, RunError
from appliedpapers.core.features.fields import check_fields
from appliedpapers.plugins.finalmlp import simulator_world
from appliedpapers.plugins.finalmlp.simulator import (
    _Recent,
    bayes,
    simulate,
    simulated_fields,
    truth_beside,
    write_simulated,
)
from appliedpapers.plugins.finalmlp.simulator_options import (
    INFORMATIVE,
    MAIN,
    NOISE,
    PAIRS,
    RANGES,
    VARIANTS,
    SimulatorOptions,
)
from appliedpapers.plugins.finalmlp.simulator_world import Draws, World

SMALL = SimulatorOptions(rows=6_000, users=300, items=100)


@pytest.fixture(scope="module")
def default():
    return simulate(0)


@pytest.fixture(scope="module")
def small():
    return simulate(3, SMALL)


def codes(table: pa.Table, name: str) -> np.ndarray:
    return np.array([int(token[1:]) for token in table[name].to_pylist()])


def test_every_column_has_a_role_and_the_truth_is_no_column(small):
    assert small.table.column_names == list(small.fields) == list(simulated_fields())
    check_fields(small.fields)
    assert "p_true" not in small.table.column_names
    inputs = [name for name, field in small.fields.items() if field.role in ("categorical", "numeric")]
    assert set(small.informative) < set(inputs)
    assert {name for pair in small.pairs for name in pair} <= set(MAIN)
    assert small.table["tags"].type == pa.list_(pa.string())
    assert small.table["user"].type == pa.string()


def test_the_same_seed_gives_the_same_bits_and_another_seed_other_rows(small):
    again, other = simulate(3, SMALL), simulate(4, SMALL)
    assert again.table.equals(small.table)
    assert again.p_true.tobytes() == small.p_true.tobytes()
    assert not other.table["user"].equals(small.table["user"])


def test_draws_set_aside_are_those_that_the_generator_would_have_given():
    plain = np.random.default_rng(5)
    first, between, second = plain.random(100), plain.standard_normal(7), plain.random(100)
    draws = Draws(5, 100)
    draws.reserve("first")
    np.testing.assert_array_equal(draws.now.standard_normal(7), between)
    draws.reserve("second")
    for name, whole in (("second", second), ("first", first)):
        parts = [draws.read(name, slice(0, 33)), draws.read(name, slice(33, 100))]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_bayes_figures_at_the_defaults_are_near_those_of_the_prototype(default):
    last = slice(180_000, None)
    found = bayes(default.p_true[last], default.table["click"].to_numpy()[last])
    # the prototype drew another world of the same kind: .8733 and .3314
    assert found.auc == pytest.approx(0.8733, abs=0.015)
    assert found.logloss == pytest.approx(0.3314, abs=0.015)


def test_mean_probability_is_the_click_rate_and_labels_follow_the_probabilities(default):
    assert default.p_true.mean() == pytest.approx(0.2, abs=1e-7)
    click = default.table["click"].to_numpy()
    assert set(click) == {0, 1}
    order = np.argsort(default.p_true)
    for part in np.array_split(order, 15):
        p = default.p_true[part]
        assert abs(click[part].mean() - p.mean()) < 4 * np.sqrt((p * (1 - p)).mean() / len(part))


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_simulates_and_says_what_its_options_are(variant):
    options = SimulatorOptions(**{**VARIANTS[variant], "rows": 5_000})
    simulated = simulate(1, options)
    assert simulated.options == options
    assert simulated.p_true.mean() == pytest.approx(options.click_rate, rel=1e-4)
    assert 0.5 < simulated.bayes.auc < 1


def test_scores_are_the_formula(small):
    """Rebuilt from the columns of the table, row by row of the sample at once."""
    world = World(3, SMALL)
    table, effects = small.table, world._effects
    x = {name: codes(table, name) for name in MAIN}
    terms = [effects._own[name][x[name]] for name in MAIN]
    terms += [(a[x[f]] * b[x[g]]).sum(1) for (f, g), (a, b) in zip(PAIRS, effects._pairs, strict=True)]
    terms += [effects._three[x["device"], x["category"], x["country"]]]
    standard = [(term - term.mean()) / term.std() for term in terms]
    score = 0.7 * sum(standard[:8]) / np.sqrt(8) + 1.6 * sum(standard[8:13]) / np.sqrt(5) + 0.5 * standard[13]
    days = (table["time"].to_numpy() - np.datetime64("2024-01-01")) / np.timedelta64(1, "D")
    score += 0.4 * effects.delta[x["item"]] * days / 10
    age = table["age"].to_numpy(zero_copy_only=False)
    score -= 0.25 * (table["position"].to_numpy() - 1) + 0.3 * np.log(table["price"].to_numpy())
    score += np.nan_to_num(0.4 * np.sin(2 * np.pi * (age - 18) / 58))
    intercept = np.log(small.p_true / (1 - small.p_true)) - score
    np.testing.assert_allclose(intercept, intercept[0], atol=1e-6)


def test_additive_has_no_interaction_at_all():
    world = World(2, SimulatorOptions(rows=4_000, inter=0, tri=0, drift=0))
    (_, columns) = next(iter(world._drawn()))
    swapped = dict(columns)
    swapped["category"] = np.roll(columns["category"], 1)
    effect = world._effects._own["category"]
    change = world._score(swapped) - world._score(columns)
    expected = effect[swapped["category"]] - effect[columns["category"]]
    ratio = 0.7 / np.sqrt(8) / world._scale[MAIN.index("category")]
    np.testing.assert_allclose(change, ratio * expected, atol=1e-9)


def test_rows_are_in_the_order_of_time_and_hour_and_weekday_are_those_of_the_timestamp(small):
    time = small.table["time"].to_numpy()
    assert (np.diff(time) >= np.timedelta64(0)).all()
    assert time[0] >= np.datetime64("2024-01-01")
    assert time[-1] < np.datetime64("2024-01-11")
    hours = time.astype("datetime64[h]").astype(int) % 24
    # a microsecond may round up to the next hour
    assert (codes(small.table, "hour") == hours).mean() > 0.999
    assert (codes(small.table, "weekday") == (time.astype("datetime64[D]").astype(int) + 3) % 7).all()


def test_diurnal_traffic_follows_the_curve_and_changes_no_other_draw(default):
    evening = simulate(0, SimulatorOptions(diurnal=True))
    counts = np.bincount(codes(evening.table, "hour"), minlength=24)
    edges = np.arange(25) / 24
    mass = edges + 0.6 / (2 * np.pi) * np.sin(2 * np.pi * (edges - 20 / 24))
    assert stats.chisquare(counts, 200_000 * np.diff(mass)).pvalue > 1e-3
    flat = np.bincount(codes(default.table, "hour"), minlength=24)
    assert stats.chisquare(flat).pvalue > 1e-3
    assert evening.table["noise_1000"].equals(default.table["noise_1000"])
    assert evening.table["position"].equals(default.table["position"])


def test_nobody_appears_before_birth_and_as_many_are_born_late_as_asked():
    options = SimulatorOptions(rows=20_000, users=200, items=50, cold_users=0.3, cold_items=0.5)
    world, table = World(7, options), simulate(7, options).table
    days = (table["time"].to_numpy() - np.datetime64("2024-01-01")) / np.timedelta64(1, "D")
    for name, population, late in (("user", world._users, 60), ("item", world._items, 25)):
        born = np.empty(len(population._order))
        born[population._order] = population._born
        assert np.isfinite(born).sum() == late
        assert (born[codes(table, name)] < days).all()
        assert born[np.isfinite(born)].min() > 0


def test_popularity_is_zipf_over_those_who_were_there_from_the_start():
    options = SimulatorOptions(rows=400_000, users=100, items=50, cold_users=0, cold_items=0, a_item=1.2)
    counts = np.zeros(50)
    for _, columns in World(1, options)._drawn():
        counts += np.bincount(columns["item"], minlength=50)
    shares = np.arange(1, 51.0) ** -1.2
    assert stats.chisquare(np.sort(counts)[::-1], counts.sum() * shares / shares.sum()).pvalue > 1e-4


def test_attributes_belong_to_their_user_or_item(small):
    table = small.table
    for owner, names in (("user", ("country", "age")), ("item", ("category", "brand", "price", "tags"))):
        for name in names:
            values: dict[str, set] = {}
            for key, value in zip(table[owner].to_pylist(), table[name].to_pylist(), strict=True):
                values.setdefault(key, set()).add(str(value))
            assert all(len(found) == 1 for found in values.values())


def test_ages_are_whole_between_18_and_75_and_some_are_missing():
    age = World(0, SimulatorOptions(rows=2_000, users=100_000)).attributes["age"]
    assert np.isnan(age).mean() == pytest.approx(0.03, abs=0.003)
    known = age[~np.isnan(age)]
    assert (known.min(), known.max()) == (18, 75)
    assert (known == np.round(known)).all()
    assert simulate(0, SMALL).table["age"].null_count > 0


def test_items_have_one_to_six_different_tags(small):
    lengths = {len(tags) for tags in small.table["tags"].to_pylist()}
    assert lengths == {1, 2, 3, 4, 5, 6}
    assert all(len(set(tags)) == len(tags) for tags in small.table["tags"].to_pylist())


def test_noise_has_its_number_of_tokens_and_nothing_to_do_with_the_probability(default):
    for name in NOISE:
        noise = codes(default.table, name)
        size = int(name.removeprefix("noise_"))
        assert len(set(noise)) == size
        groups = noise % 10
        means = [default.p_true[groups == g].mean() for g in range(10)]
        assert np.ptp(means) < 6 * default.p_true.std() / np.sqrt(20_000)
        assert name not in INFORMATIVE


def plain_recent(users, categories, clicks):
    past: dict[int, list[int]] = {}
    out = []
    for user, category, click in zip(users, categories, clicks, strict=True):
        out.append(past.get(user, [])[-10:])
        if click:
            past.setdefault(user, []).append(category)
    return out


@given(
    rows=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 39), st.integers(0, 1)), max_size=120),
    cuts=st.lists(st.integers(0, 120), max_size=3),
)
@settings(max_examples=60, deadline=None)
def test_recent_is_what_a_loop_over_the_rows_remembers_however_they_are_cut(rows, cuts):
    users, categories, clicks = (np.array(rows, np.int32).reshape(-1, 3)[:, i] for i in range(3))
    recent, found = _Recent(), []
    for part in np.split(np.arange(len(rows)), sorted(min(cut, len(rows)) for cut in cuts)):
        offsets, flat = recent.before(users[part], categories[part], clicks[part].astype(np.int8))
        found += [flat[a:b].tolist() for a, b in pairwise(offsets)]
    assert found == plain_recent(users.tolist(), categories.tolist(), clicks.tolist())


def test_recent_is_made_of_earlier_clicks_of_the_same_user(small):
    table = small.table
    expected = plain_recent(*(table[name].to_pylist() for name in ("user", "category", "click")))
    assert table["recent"].to_pylist() == expected


@pytest.mark.parametrize("chunk_rows", [1_500, 500_000])
def test_the_written_file_holds_the_rows_of_the_table_in_memory(tmp_path, chunk_rows):
    path = tmp_path / "clicks.parquet"
    truth = write_simulated(path, 3, SMALL, chunk_rows=chunk_rows)
    kept = simulate(3, SMALL, chunk_rows=chunk_rows)
    assert pq.read_table(path).equals(kept.table.combine_chunks())
    assert truth == truth_beside(path) == tmp_path / "clicks.p_true.parquet"
    known = pq.read_table(truth)
    assert known["p_true"].to_numpy().tobytes() == kept.p_true.tobytes()
    assert known["id"].equals(kept.table["id"])
    assert kept.table["id"].to_pylist() == list(range(SMALL.rows))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["clicks.p_true.parquet", "clicks.parquet"]


def test_many_slices_are_distributed_as_one_slice():
    options = SimulatorOptions(rows=40_000)
    one, many = simulate(0, options), simulate(0, options, chunk_rows=2_500)
    days = [
        (part.table["time"].to_numpy() - np.datetime64("2024-01-01")) / np.timedelta64(1, "D")
        for part in (one, many)
    ]
    for times in days:
        assert stats.kstest(times / 10, "uniform").pvalue > 1e-3
        assert (np.diff(times) >= 0).all()
    assert many.p_true.mean() == pytest.approx(0.2, abs=1e-6)
    assert many.bayes.auc == pytest.approx(one.bayes.auc, abs=0.02)
    assert stats.ks_2samp(one.p_true, many.p_true).statistic < 0.02


def test_moments_of_many_slices_are_those_of_the_sample():
    world = World(0, SMALL, 700)
    parts = [columns for _, columns in world._drawn()]
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    terms = np.array(list(world._effects.terms(whole)))
    np.testing.assert_allclose(world._mean, terms.mean(axis=1), atol=1e-12)
    np.testing.assert_allclose(world._scale, terms.std(axis=1), rtol=1e-12)


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError):
        write_simulated(tmp_path / "file" / "clicks.parquet", 0, SMALL)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", RANGES)
def test_options_outside_their_range_are_refused_and_named(name):
    low, high = RANGES[name]
    for value in (low - 1, high + 1, float("nan")):
        with pytest.raises(ConfigError, match=f"'{name}'"):
            SimulatorOptions(**{name: value})


def test_every_option_has_a_range_but_the_switch():
    assert set(SimulatorOptions.__dataclass_fields__) - set(RANGES) == {"diurnal"}


def test_times_of_the_evening_curve_are_monotone_and_stay_in_their_day():
    grid = np.linspace(0, 3, 10_001)[:-1]
    moved = simulator_world._to_evening(grid)
    assert (np.diff(moved) > 0).all()
    assert (np.floor(moved) == np.floor(grid)).all()
