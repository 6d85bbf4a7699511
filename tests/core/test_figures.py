from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from appliedpapers.core import figures as f


def draw(points=10, **options):
    canvas, axes = f.start()
    axes.plot(np.arange(points), np.sin(np.arange(points)), color=f.OURS)
    f.label_end(axes, points - 1, 0.0, "ours", f.OURS)
    return f.finish(canvas, name="wave", title="Wave", alt="It goes up and down.", **options)


def test_a_small_figure_is_svg_without_outside_resources():
    figure = draw(synthetic=False)
    text = figure.data.decode()
    assert figure.media == "image/svg+xml"
    assert figure.file_name == "wave.svg"
    assert "<svg" in text
    assert "<script" not in text
    assert "url(http" not in text


def test_synthetic_data_is_written_on_the_figure():
    # glyphs are paths; the comment before them carries the text
    assert b"<!-- synthetic data -->" in draw(synthetic=True).data
    assert b"synthetic" not in draw(synthetic=False).data


def test_many_points_become_png():
    assert draw(points=f.MANY_POINTS + 1, synthetic=True).media == "image/png"


def test_the_same_drawing_gives_the_same_bytes_from_any_thread():
    with ThreadPoolExecutor(4) as pool:
        drawn = list(pool.map(lambda _: draw(synthetic=True).data, range(6)))
    assert len(set(drawn)) == 1


def test_the_global_style_is_left_alone():
    before = dict(mpl.rcParams)
    draw(synthetic=True)
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize(("name", "alt"), [("../up", "x"), ("a b", "x"), ("fine", " ")])
def test_unsafe_names_and_missing_alt_text_are_refused(name, alt):
    with pytest.raises(ValueError, match="figure"):
        f.Figure(name, "t", "c", alt, b"", "image/png")


def curves(history, metric="mse"):
    return f.learning_curves(history, "ours", metric=metric, synthetic=False)


def test_learning_curves_name_the_best_epoch():
    history = [{"train_mse": 3.0, "valid_mse": 4.0}, {"train_mse": 2.0, "valid_mse": 2.5}, {"valid_mse": 3.0}]
    assert "best valid mse is at epoch 2 of 3" in curves(history).alt
    higher = [{"valid_loss": 3.0, "valid_auc": 0.5}, {"valid_loss": 1.0, "valid_auc": 0.6}]
    assert "best valid auc is at epoch 2 of 2" in curves(higher, "auc").alt
    assert "best valid loss" in curves(higher, "accuracy").alt


def test_different_quantities_get_axes_of_their_own():
    figure = curves([{"train_loss": 1.0, "valid_mse": 4.0, "lr": 0.1}, {"train_loss": 0.5, "valid_mse": 3.0}])
    assert b"<!-- loss -->" in figure.data
    assert b"<!-- mse -->" in figure.data
    assert b"axes_2" in figure.data


def test_steps_of_training_have_axes_of_their_own(monkeypatch):
    """Each counts its epochs from 1: one line through all of them would say that training went back."""
    history = [
        *({"step": k, "one/train_loss": 4.0 / k, "one/valid_loss": 5.0 / k} for k in (1, 2, 3)),
        *({"step": k, "two/train_loss": 9.0 / k, "two/valid_mse": 1.0 + k, "two/lr": 0.1} for k in (1, 2)),
        {"step": 1, "short/valid_loss": 7.0},
    ]
    figure = curves(history)
    assert figure.alt == (
        "Training of ours in 2 steps: best valid loss of one 1.67 at epoch 3 of 3; "
        "best valid mse of two 2 at epoch 1 of 2."
    )
    monkeypatch.setattr(f, "finish", lambda canvas, **_: canvas)
    drawn = curves(history).axes
    assert [axes.get_title() for axes in drawn] == ["one", "two"]
    assert [(axes.get_xlabel(), axes.get_ylabel()) for axes in drawn] == [("epoch", "loss"), ("epoch", "mse")]
    lines = [[list(line.get_xdata()) for line in axes.lines] for axes in drawn]
    # training, validation and its best epoch; of two quantities the validation alone
    assert lines == [[[1, 2, 3], [1, 2, 3], [3]], [[1, 2], [1]]]


def test_one_step_with_a_name_is_drawn_as_one_without():
    plain = [{"train_loss": 2.0 / k, "valid_mse": 3.0 / k} for k in (1, 2)]
    named = [{f"network-0/{key}": value for key, value in epoch.items()} for epoch in plain]
    assert curves(named) == curves(plain)


def test_of_very_many_steps_the_first_are_drawn():
    history = [{f"step-{k}/valid_loss": 1.0 / e} for k in range(15) for e in (1, 2)]
    figure = curves(history)
    assert "3 further steps are not shown" in figure.caption
    assert figure.data.decode().count("<!-- epoch -->") == 12


def test_one_epoch_or_nothing_recorded_gives_no_curve():
    assert curves([{"train_loss": 1.0}]) is None
    assert curves([{"lr": 1.0}, {"lr": 0.5}]) is None
    assert curves([]) is None


@pytest.mark.parametrize("color", [f.OURS, f.STRONGEST, f.BASELINE, f.TRUTH, f.FLAGGED, f.INK, f.MUTED])
def test_labels_can_be_read_on_white(color):
    channels = np.array(to_rgb(f.text_colour(color)))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    assert 1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05) >= 4.5


def test_labels_stay_near_their_lines_and_apart():
    _, axes = f.start()
    axes.set_ylim(0, 10)
    f.label_ends(axes, 1.0, [(5.0, "a", "k"), (5.0, "b", "k"), (5.1, "c", "k"), (99.0, "d", "k")])
    places = sorted(text.xy[1] for text in axes.texts)
    assert np.diff(places).min() >= 0.75 - 1e-9
    assert places[-1] == pytest.approx(10)
    assert places[1] == pytest.approx(5.03, abs=0.05)
