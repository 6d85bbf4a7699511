"""Figures that answer a trader's questions: what it sees, how good it is, when, and what it looks at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from appliedpapers.core import figures as drawing
from appliedpapers.core.figures import BASELINE, OURS, TRUTH, Figure
from appliedpapers.plugins.volatility_images.linear import qlike_losses
from appliedpapers.plugins.volatility_images.market import Floats
from appliedpapers.plugins.volatility_images.pictures import colours
from appliedpapers.plugins.volatility_images.scoring import Forecast
from appliedpapers.plugins.volatility_images.windows import LEAST_FORECAST, floor_of

if TYPE_CHECKING:
    from appliedpapers.core.evaluation import Material
    from appliedpapers.plugins.volatility_images.model import VolatilityForecaster
    from appliedpapers.plugins.volatility_images.splits import VolatilitySplit

_SHOWN = 4
_DECILES = 10
_BP = 1e4
_MOST_POINTS = 900
_CELL_ROWS, _CELL_SECONDS = 16, 15
_OCCLUDED = 24
_EMBEDDED = 600


def draw(material: Material) -> list[Figure]:
    """Draw all figures of a run; of several folds, those of the last."""
    scene = _Scene(material)
    made = [_images(scene), _over_time(scene), _by_decile(scene)]
    if scene.sees_images:
        made += [_saliency(scene), _embedding(scene)]
    return [figure for figure in made if figure is not None]


class _Scene:
    """What is drawn: the test part of one triple, and the forecasts of it."""

    def __init__(self, material: Material) -> None:
        samples = material.dataset.resamples()
        folded = len(samples) > 1
        self.split = cast("VolatilitySplit", samples[-1].test)
        self.model = cast("VolatilityForecaster", material.model)
        self.synthetic = material.synthetic
        self.models: list[tuple[Floats, str, str]] = [
            (cast("Forecast", told[-1] if folded else told).values, name, color)
            for told, name, color in material.compared()
        ]
        ours: Any = material.predictions[material.model_name]
        self.ours = cast("Forecast", ours[-1] if folded else ours)

    @property
    def sees_images(self) -> bool:
        """Whether the model looks at images."""
        return self.model.config.model.network not in ("mlp", "raw-mlp")


def _images(scene: _Scene) -> Figure | None:
    """Draw the images before calm and before volatile windows."""
    split, builder = scene.split, scene.model.builder
    if split.num_rows < _SHOWN:
        return None
    order = np.argsort(split.targets)
    chosen = order[np.linspace(0.05 * (len(order) - 1), 0.98 * (len(order) - 1), _SHOWN).astype(np.int64)]
    raw = split.images(builder, chosen)
    fig, grid = drawing.start(height=2.6, columns=_SHOWN, squeeze=False)
    for axes, row, image in zip(grid[0], chosen.tolist(), raw, strict=True):
        axes.imshow(colours(image, rgb=builder.config.rgb), aspect="auto", interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        axes.grid(visible=False)
        moment = str(split.time_us[row].astype("datetime64[us]").astype("datetime64[s]"))[11:]
        axes.set_title(f"{_BP * split.targets[row]:.1f} bp")
        axes.set_xlabel(f"to {moment}")
    width = split.config.data.window
    return drawing.finish(
        fig,
        name="images",
        title="What the network sees",
        alt=f"Order-flow images before four test windows, from {_BP * split.targets[chosen[0]]:.1f} to "
        f"{_BP * split.targets[chosen[-1]]:.1f} basis points of volatility.",
        caption=f"The {builder.config.seconds} s before four test windows of {width} s, by what came. "
        "Grey: resting orders. Blue: bought. Orange: sold. Up: higher prices.",
        synthetic=scene.synthetic,
    )


def _over_time(scene: _Scene) -> Figure:
    """Draw forecast and truth along the last session of the test part."""
    split, forecast = scene.split, scene.ours
    number, _ = split.place
    own = np.flatnonzero(number == number[-1])[-_MOST_POINTS:]
    hours = (split.time_us[own] % 86_400_000_000) / 3.6e9
    fig, axes = drawing.start(height=3.0)
    axes.plot(hours, _BP * split.targets[own], color=TRUTH, lw=0.9)
    if forecast.low is not None and forecast.high is not None:
        axes.fill_between(
            hours, _BP * forecast.low[own], _BP * forecast.high[own], color=OURS, alpha=0.18, lw=0
        )
    axes.plot(hours, _BP * forecast.values[own], color=OURS, lw=1.4)
    top = float(np.quantile(_BP * split.targets[own], 0.995)) * 1.25
    axes.set_ylim(0, max(top, 1e-6))
    axes.set(xlabel="hour of the day, UTC", ylabel="volatility, bp")
    inside = ""
    if forecast.low is not None and forecast.high is not None:
        held = np.maximum(split.targets, floor_of(split.config.data.window))
        share = 100 * float(np.mean((held >= forecast.low) & (held <= forecast.high)))
        inside = f" The {forecast.level} % interval holds {share:.1f} % of all test windows."
    return drawing.finish(
        fig,
        name="forecast-over-time",
        title="Forecast and what came",
        alt=f"Forecast and realised volatility along {split.session_names[own[0]]}.{inside}",
        caption=f"Blue: forecast and interval. Green: what came.{inside}",
        synthetic=scene.synthetic,
        points=2 * len(own),
    )


def _by_decile(scene: _Scene) -> Figure | None:
    """Draw the mean ratio of forecast to truth, and QLIKE, by decile of the volatility of the last window."""
    split = scene.split
    if split.num_rows < 5 * _DECILES:
        return None
    order = np.argsort(split.naive, kind="stable")
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order)) * _DECILES // len(order)
    held = np.maximum(split.targets, floor_of(split.config.data.window))
    fig, grid = drawing.start(height=2.9, columns=2)
    words = []
    for told, name, color in scene.models:
        losses = qlike_losses(held, np.maximum(told, LEAST_FORECAST))
        loss = [float(losses[place == one].mean()) for one in range(_DECILES)]
        ratio = [float(told[place == one].mean() / held[place == one].mean()) for one in range(_DECILES)]
        x = np.arange(1, _DECILES + 1)
        grid[0].plot(x, loss, color=color, marker="o", ms=3, lw=1.5)
        grid[1].plot(x, ratio, color=color, marker="o", ms=3, lw=1.5)
        words.append(
            f"{name}: QLIKE {loss[0]:.2f} in the calmest decile, {loss[-1]:.2f} in the most volatile"
        )
    grid[1].axhline(1, color=BASELINE, lw=1, ls="--")
    grid[0].set(ylabel="QLIKE", xlabel="decile of the last window")
    grid[1].set(ylabel="mean forecast / mean truth", xlabel="decile of the last window")
    grid[0].set_ylim(bottom=0)
    drawing.name_lines(grid[0], [(name, color) for _, name, color in scene.models], (0.05, 0.97))
    return drawing.finish(
        fig,
        name="by-volatility",
        title="When it is good",
        alt=f"{'; '.join(words)}.",
        caption="By how volatile the last window was, which is known when the forecast is made.",
        synthetic=scene.synthetic,
    )


def _saliency(scene: _Scene) -> Figure | None:
    """Draw how much the forecast moves where a part of the image is covered, and by channel."""
    import torch

    split, model = scene.split, scene.model
    network, inputs = model.networks[0], model.inputs
    rows = np.unique(np.linspace(0, split.num_rows - 1, _OCCLUDED).astype(np.int64))
    images = inputs.images(split, rows)
    features = inputs.features(split)[torch.from_numpy(rows)]
    device = network.skip.device
    height, width = images.shape[2:]
    tall, wide = max(height // _CELL_ROWS, 1), max(width // _CELL_SECONDS, 1)
    moved = np.zeros((-(-height // tall), -(-width // wide)))
    with torch.inference_mode():
        told = network.correction(images.to(device), features.to(device))
        for one in range(moved.shape[0]):
            for other in range(moved.shape[1]):
                covered = images.clone()
                covered[:, :, one * tall : (one + 1) * tall, other * wide : (other + 1) * wide] = 0
                change = network.correction(covered.to(device), features.to(device)) - told
                moved[one, other] = float(change.abs().mean())
        channel = [100 * one for one in _by_channel(network, images, features, told)]
    moved *= 100
    fig, grid = drawing.start(height=2.8, columns=2, gridspec_kw={"width_ratios": [2, 1]})
    shown = grid[0].imshow(
        moved[::-1],
        aspect="auto",
        cmap="Blues",
        extent=(-width, 0, -height / 2, height / 2),
        interpolation="nearest",
    )
    grid[0].grid(visible=False)
    grid[0].set(xlabel="seconds before the forecast", ylabel="rows from the last mid")
    fig.colorbar(shown, ax=grid[0], label="change of the forecast, %")
    names = _channel_names(model)
    grid[1].barh(range(len(names)), [channel[one] for one in range(len(names))], color=OURS)
    grid[1].set_yticks(range(len(names)), names)
    grid[1].set_xlabel("change when mixed, %")
    last = moved[:, -max(moved.shape[1] // 4, 1) :].sum() / max(moved.sum(), 1e-12)
    strongest = names[int(np.argmax(channel))]
    return drawing.finish(
        fig,
        name="saliency",
        title="What the network looks at",
        alt=f"{100 * last:.0f} % of the change comes from the last quarter of the seconds; the strongest "
        f"channel is {strongest}.",
        caption=f"Left: how much covering a part of {len(rows)} images moves the first network's forecast. "
        "Right: likewise when a channel is exchanged between images. Both before the share that is kept of "
        f"the correction, {float(network.share):.2f}.",
        synthetic=scene.synthetic,
        points=10_000,
    )


def _by_channel(network: Any, images: Any, features: Any, told: Any) -> list[float]:
    import torch

    found = []
    for channel in range(images.shape[1]):
        mixed = images.clone()
        mixed[:, channel] = torch.roll(images[:, channel], len(images) // 2, dims=0)
        change = network.correction(mixed.to(told.device), features.to(told.device)) - told
        found.append(float(change.abs().mean()))
    return found


def _channel_names(model: VolatilityForecaster) -> list[str]:
    options = model.config.image
    names = ["bought", "depth", "sold"] if options.rgb else ["bids", "asks", "bought", "sold"]
    return [*names, "mid and spread"] if options.trace else names


def _embedding(scene: _Scene) -> Figure | None:
    """Draw the first two principal components of the pooled embedding, by the volatility that came."""
    import torch

    split, model = scene.split, scene.model
    network, inputs = model.networks[0], model.inputs
    if network.body is None or split.num_rows < _SHOWN:
        return None
    rows = np.unique(np.linspace(0, split.num_rows - 1, _EMBEDDED).astype(np.int64))
    with torch.inference_mode():
        pooled = [
            network.body(inputs.images(split, rows[start : start + 64]).to(network.skip.device)).cpu()
            for start in range(0, len(rows), 64)
        ]
    inputs.forget()
    values = torch.cat(pooled).double().numpy()
    values = values - values.mean(axis=0)
    if not np.abs(values).max() > 0:
        return None
    _, sizes, axes_of = np.linalg.svd(values, full_matrices=False)
    places = values @ axes_of[:2].T
    if places.shape[1] < 2:
        return None
    logs = np.log10(np.maximum(_BP * split.targets[rows], _BP * floor_of(split.config.data.window)))
    fig, axes = drawing.start(height=3.1)
    dots = axes.scatter(places[:, 0], places[:, 1], c=logs, s=9, cmap="viridis", lw=0)
    fig.colorbar(dots, ax=axes, label="log10 of the volatility that came, bp")
    share = 100 * float((sizes[:2] ** 2).sum() / (sizes**2).sum())
    tie = abs(float(np.corrcoef(places[:, 0], logs)[0, 1])) if logs.std() > 0 else 0.0
    axes.set(xlabel="first component", ylabel="second component")
    return drawing.finish(
        fig,
        name="embedding",
        title="How images lie beside one another",
        alt=f"Two components hold {share:.0f} % of the embedding; the first correlates "
        f"with volatility by {tie:.2f}.",
        caption=f"Pooled images of {len(rows)} test windows, by their first two principal components "
        f"({share:.0f} % of the variance). The first correlates with the volatility that came by {tie:.2f}.",
        synthetic=scene.synthetic,
    )
