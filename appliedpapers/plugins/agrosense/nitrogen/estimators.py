"""Regressions, fitted by scikit-learn and kept as arrays, so that no later version of it breaks a model."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from appliedpapers.plugins.agrosense.nitrogen.config import ModelConfig

Floats = NDArray[np.float64]
Arrays = dict[str, NDArray[Any]]

_WHITENED = 25
_NETWORK_COMPONENTS = 20
_LARGEST_SPREAD = 3.0
_KERNEL_ROWS = 350
_INNER = 5


def fit_learner(name: str, x: Floats, y: Floats, options: ModelConfig, seed: int) -> Arrays:
    """Fit a regression and return its arrays, for :func:`predict_learner`.

    Args:
        name: ``pls``, ``svr``, ``gpr``, ``mlp``, ``ridge`` or ``mean``.
        x: ``(rows, columns)``, no NaN.
        y: ``(rows,)``.
        options: Components and seeds.
        seed: Of whatever is drawn.
    """
    with warnings.catch_warnings():
        # networks stop where they are told, kernels at their bounds: both are meant
        warnings.simplefilter("ignore")
        return _FITS[name](x, y, options, seed)


def predict_learner(name: str, arrays: Arrays, x: Floats) -> Floats:
    """Return predictions ``(rows,)`` float64 of a fitted regression."""
    return np.asarray(_PREDICTIONS[name](arrays, x), dtype=np.float64)


def _standard(x: Floats) -> Arrays:
    spread = x.std(axis=0)
    return {"mean": x.mean(axis=0), "spread": np.where(spread > 1e-12, spread, 1.0)}


def _scaled(arrays: Arrays, x: Floats) -> Floats:
    return np.asarray((x - arrays["mean"]) / arrays["spread"])


def _fit_mean(x: Floats, y: Floats, options: ModelConfig, seed: int) -> Arrays:
    return {"value": np.array([y.mean()])}


def _fit_ridge(x: Floats, y: Floats, options: ModelConfig, seed: int) -> Arrays:
    from sklearn.linear_model import RidgeCV

    arrays = _standard(x)
    model = RidgeCV(np.logspace(-3, 3, 13)).fit(_scaled(arrays, x), y)
    return {**arrays, "weights": model.coef_, "bias": np.array([model.intercept_])}


def _fit_pls(x: Floats, y: Floats, options: ModelConfig, seed: int) -> Arrays:
    from sklearn.cross_decomposition import PLSRegression
    from sklearn.model_selection import KFold

    arrays = _standard(x)
    scaled = _scaled(arrays, x)
    most = max(1, min(options.components, x.shape[1], len(y) * (_INNER - 1) // _INNER - 1))
    errors = np.zeros(most)
    for learned, judged in KFold(min(_INNER, len(y)), shuffle=True, random_state=seed).split(scaled):
        for count in range(1, most + 1):
            model = PLSRegression(count, scale=False).fit(scaled[learned], y[learned])
            errors[count - 1] += float(((model.predict(scaled[judged]).ravel() - y[judged]) ** 2).sum())
    model = PLSRegression(int(errors.argmin()) + 1, scale=False).fit(scaled, y)
    weights = np.ravel(model.coef_)
    return {**arrays, "weights": weights, "bias": np.array([y.mean() - scaled.mean(axis=0) @ weights])}


def _linear(arrays: Arrays, x: Floats) -> Floats:
    return np.asarray(np.einsum("nd,d->n", _scaled(arrays, x), arrays["weights"]) + arrays["bias"][0])


def _fit_svr(x: Floats, y: Floats, options: ModelConfig, seed: int) -> Arrays:
    from sklearn.svm import SVR

    arrays = _standard(x)
    scaled = _scaled(arrays, x)
    gamma = 1.0 / (scaled.shape[1] * max(float(scaled.var()), 1e-12))
    centre, scale = float(y.mean()), max(float(y.std()), 1e-12)
    # C 10 and a tube of 0.02 are meant for logarithms of g/kg, whose deviation is below 1
    small = min(scale, 1.0)
    model = SVR(kernel="rbf", C=10.0 / small, epsilon=0.02 / small, gamma=gamma)
    model.fit(scaled, (y - centre) / scale)
    return {
        **arrays,
        "vectors": model.support_vectors_,
        "weights": model.dual_coef_[0] * scale,
        "numbers": np.array([gamma, model.intercept_[0] * scale + centre]),
    }


def _predict_svr(arrays: Arrays, x: Floats) -> Floats:
    from scipy.spatial.distance import cdist

    gamma, bias = arrays["numbers"]
    kernel = np.exp(-gamma * cdist(_scaled(arrays, x), arrays["vectors"], "sqeuclidean"))
    return np.asarray(np.einsum("nv,v->n", kernel, arrays["weights"]) + bias)


def _components(scaled: Floats, count: int) -> tuple[Floats, Floats]:
    """Return principal directions ``(columns, count)`` and their deviations; the signs are fixed."""
    count = min(count, *scaled.shape)
    _, values, rows = np.linalg.svd(scaled - scaled.mean(axis=0), full_matrices=False)
    signs = np.sign(rows[np.arange(len(rows)), np.abs(rows).argmax(axis=1)])
    directions = (rows * signs[:, None])[:count].T
    return directions, np.maximum(values[:count] / np.sqrt(max(len(scaled) - 1, 1)), 1e-9)


def _fit_gpr(x: Floats, y: Floats, options: ModelConfig, seed: int) -> Arrays:
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct, WhiteKernel

    arrays = _standard(x)
    scaled = _scaled(arrays, x)
    directions, spread = _components(scaled, _WHITENED)
    points = (scaled @ directions) / spread
    centre, scale = float(y.mean()), max(float(y.std()), 1e-12)
    told = (y - centre) / scale
    kernel = ConstantKernel(1.0) * RBF(10.0) + ConstantKernel(0.1) * DotProduct() + WhiteKernel(0.1)
    # the kernel's few numbers need no more rows, and their search costs the cube of the rows
    some = np.random.default_rng(seed).permutation(len(y))[:_KERNEL_ROWS]
    found = GaussianProcessRegressor(kernel).fit(points[some], told[some]).kernel_
    model = GaussianProcessRegressor(found, optimizer=None).fit(points, told)
    smooth, line = found.k1.k1, found.k1.k2
    numbers = [smooth.k1.constant_value, smooth.k2.length_scale, line.k1.constant_value, line.k2.sigma_0]
    return {
        **arrays,
        "directions": directions / spread,
        "points": points,
        "weights": np.ravel(model.alpha_) * scale,
        "numbers": np.array([*map(float, numbers), centre]),
    }


def _predict_gpr(arrays: Arrays, x: Floats) -> Floats:
    from scipy.spatial.distance import cdist

    size, length, slope, offset, centre = arrays["numbers"]
    points = np.einsum("nd,dc->nc", _scaled(arrays, x), arrays["directions"])
    kernel = size * np.exp(-0.5 * cdist(points, arrays["points"], "sqeuclidean") / length**2)
    kernel += slope * (offset**2 + np.einsum("nc,pc->np", points, arrays["points"]))
    return np.asarray(np.einsum("np,p->n", kernel, arrays["weights"]) + centre)


def _fit_mlp(x: Floats, y: Floats, options: ModelConfig, seed: int) -> Arrays:
    from sklearn.neural_network import MLPRegressor

    arrays = _standard(x)
    scaled = _scaled(arrays, x)
    directions, spread = _components(scaled, _NETWORK_COMPONENTS)
    directions = directions * (_LARGEST_SPREAD / spread.max())
    points = scaled @ directions
    centre, scale = float(y.mean()), max(float(y.std()), 1e-12)
    found: Arrays = {**arrays, "directions": directions, "numbers": np.array([centre, scale])}
    parts: dict[str, list[Any]] = {"first": [], "first_bias": [], "last": [], "last_bias": []}
    for number in range(options.seeds):
        model = MLPRegressor(
            hidden_layer_sizes=(32,),
            activation="tanh",
            solver="adam",
            learning_rate_init=5e-3,
            alpha=1e-2,
            early_stopping=len(y) >= 40,
            n_iter_no_change=40,
            max_iter=1000,
            random_state=(seed + number) % 2**32,
        ).fit(points, (y - centre) / scale)
        parts["first"].append(model.coefs_[0])
        parts["first_bias"].append(model.intercepts_[0])
        parts["last"].append(model.coefs_[1][:, 0])
        parts["last_bias"].append(model.intercepts_[1][0])
    return {**found, **{name: np.array(values) for name, values in parts.items()}}


def _predict_mlp(arrays: Arrays, x: Floats) -> Floats:
    centre, scale = arrays["numbers"]
    points = np.einsum("nd,dc->nc", _scaled(arrays, x), arrays["directions"])
    hidden = np.tanh(np.einsum("nc,sch->snh", points, arrays["first"]) + arrays["first_bias"][:, None])
    told = np.einsum("snh,sh->sn", hidden, arrays["last"]) + arrays["last_bias"][:, None]
    return np.asarray(told.mean(axis=0) * scale + centre)


_FITS: dict[str, Callable[[Floats, Floats, ModelConfig, int], Arrays]] = {
    "mean": _fit_mean,
    "ridge": _fit_ridge,
    "pls": _fit_pls,
    "svr": _fit_svr,
    "gpr": _fit_gpr,
    "mlp": _fit_mlp,
}
_PREDICTIONS: dict[str, Callable[[Arrays, Floats], Floats]] = {
    "mean": lambda arrays, x: np.full(len(x), arrays["value"][0]),
    "ridge": _linear,
    "pls": _linear,
    "svr": _predict_svr,
    "gpr": _predict_gpr,
    "mlp": _predict_mlp,
}
