"""The acceptance cases of pansharpening: real scenes, what must hold whatever the scores, speed, memory.

Each configuration of a real scene is measured once, in a process of its own, by
``python -m benchmarks.pansharpening_scenes``; back-projection is applied to its product afterwards, so that
what a network adds and what back-projection adds stand beside each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.acceptance_case import Case, Check, Measured, Settings, printed_by

Runs = Mapping[str, Measured]
Figure = Callable[[Runs], float]
Options = tuple[str, ...]

_SCENE = "san-francisco"
_PARIS = "paris"
_CLASSICAL = ("exp", "gsa", "mtf-glp-fs", "bt-h", "brovey")
_NETWORKS = ("r-pnn", "rho-pnn")
_BASES = ("gsa", "mtf-glp-fs")
_STEPS = (0, 1, 2, 3)
_VISIBLE_NM = 700.0
_PARIS_EVERY = 4
_TARGET = 0.65

# published or measured on public code; Q2n of the standard crop is that of 96 x 96 pixels
_GLP_ERGAS, _GLP_QNR = 1.876, 0.944
_EXP_D_LAMBDA, _MOST_D_SR, _MOST_LR_ERGAS = 0.0417, 0.20, 2.02
_PUBLISHED_FULL = {"gsa": (2.233, 3.196), "mtf-glp-fs": (2.229, 3.184)}
_PUBLISHED_CROP = {"exp": (2.395, 3.619), "gsa": (1.884, 3.110), "mtf-glp-fs": (1.876, 3.108)}


def _method(name: str, base: str = "exp") -> Options:
    """Return the options of a method, and of what a network adds to."""
    return (f"method={name}",) if name in _CLASSICAL else (f"method={name}", f"adaptation.base={base}")


def _measured(dataset: str, options: Options) -> dict[str, Any]:
    words = [word for option in options for word in ("--set", option)]
    words += ["--bands-every", str(_PARIS_EVERY)] if _thinned(dataset, options) else []
    return printed_by("pansharpening_scenes", "--dataset", dataset, *words)


def _thinned(dataset: str, options: Options) -> bool:
    """Return whether only some bands are measured: rho-PNN takes an hour for all 128 of the real pair."""
    return dataset == _PARIS and options[0] == "method=rho-pnn"


def _name(dataset: str, options: Options) -> str:
    name = " on ".join(option.partition("=")[2] for option in options)
    return f"{name}, every {_PARIS_EVERY}th band" if _thinned(dataset, options) else name


def _of(dataset: str, options: Options, name: str, steps: int = 0) -> Figure:
    return lambda _: float(_measured(dataset, options)["steps"][str(steps)][name])


def _seconds(dataset: str, options: Options) -> Check:
    return Check(
        f"{_name(dataset, options)}: seconds", lambda _: float(_measured(dataset, options)["seconds"])
    )


def _less(first: Figure, second: Figure) -> Figure:
    return lambda runs: first(runs) - second(runs)


def _over(first: Figure, second: Figure) -> Figure:
    return lambda runs: first(runs) / second(runs)


def _words(dataset: str, *options: Options) -> dict[str, str]:
    """Return the command of each configuration."""
    return {
        ", ".join(one): " ".join(["apps run pansharpening --dataset", dataset, *(f"--set {o}" for o in one)])
        for one in options
    }


def _script(name: str, *words: str) -> dict[str, str]:
    return {name: " ".join([f"python -m benchmarks.{name}", *words])}


def _bands(dataset: str, options: Options) -> list[dict[str, Any]]:
    reports: list[dict[str, Any]] = _measured(dataset, options)["reports"]
    return reports


def _fallen_back(dataset: str, options: Options) -> Check:
    """Return how many bands are given as what the network adds to, because it ended worse."""
    return Check(
        f"{_name(dataset, options)}: bands where the network ended worse and is left out",
        lambda _: float(sum(bool(band["fallback"]) for band in _bands(dataset, options))),
    )


# classical methods


def _as_published(method: str, rows: str, metric: str) -> Figure:
    def found(_: Runs) -> float:
        one = printed_by("pansharpening_scenes", "--set", f"method={method}", "--parity", rows)
        return float(one["steps"]["0"][metric])

    return found


def _near(what: str, figure: Figure, published: float) -> Check:
    return Check(what, figure, low=0.99 * published, high=1.01 * published)


def _parity(rows: str, where: str, table: Mapping[str, tuple[float, float]]) -> tuple[Check, ...]:
    return tuple(
        _near(f"{method}, {where}, as published: {metric.upper()}", _as_published(method, rows, metric), one)
        for method, both in table.items()
        for metric, one in zip(("ergas", "sam"), both, strict=True)
    )


_CROP_METRICS = {
    "ergas": "ERGAS",
    "ergas_visible": "ERGAS below 700 nm",
    "ergas_infrared": "ERGAS above 700 nm",
    "sam": "SAM",
    "q2n": "Q2n",
    "cc": "CC",
    "psnr": "PSNR",
    "lr_ergas": "LR-ERGAS",
}


def _reported(
    dataset: str, options: Options, metrics: Mapping[str, str], steps: int = 0
) -> tuple[Check, ...]:
    name = _name(dataset, options)
    back = f", {steps} steps back" if steps else ""
    return tuple(
        Check(f"{name}{back}: {word}", _of(dataset, options, metric, steps))
        for metric, word in metrics.items()
    )


_CLASSICAL_CASE = Case(
    "classical",
    (2,),
    {},
    (
        *_parity("0:288", "rows 0 to 287", _PUBLISHED_FULL),
        *_parity("144:276", "standard crop", _PUBLISHED_CROP),
        *(check for name in _CLASSICAL for check in _reported(_SCENE, _method(name), _CROP_METRICS)),
    ),
    _words(_SCENE, *map(_method, _CLASSICAL)),
)


# R-PNN

_R = _method("r-pnn")


def _shipped(_: Runs) -> float:
    """Return the number of shipped weights whose checksum and provenance are there."""
    from appliedpapers.plugins.pansharpening.first_weights import shipped_weights

    weights, provenance = shipped_weights()
    told = {"seed", "options", "train_fingerprint", "licence", "sha256"} <= set(provenance)
    return float(sum(value.size for value in weights.values())) if told else math.nan


_R_CASE = Case(
    "r-pnn",
    (3, 12),
    {},
    (
        Check("ERGAS", _of(_SCENE, _R, "ergas"), high=2.10),
        Check("ERGAS below 700 nm", _of(_SCENE, _R, "ergas_visible"), high=1.00),
        Check("ERGAS above 700 nm", _of(_SCENE, _R, "ergas_infrared")),
        Check("Q2n", _of(_SCENE, _R, "q2n"), low=0.75),
        Check("CC", _of(_SCENE, _R, "cc"), low=0.80),
        Check(
            "SAM beside EXP's", _over(_of(_SCENE, _R, "sam"), _of(_SCENE, _method("exp"), "sam")), high=1.10
        ),
        Check("SAM", _of(_SCENE, _R, "sam")),
        Check("PSNR", _of(_SCENE, _R, "psnr")),
        Check("LR-ERGAS", _of(_SCENE, _R, "lr_ergas")),
        _fallen_back(_SCENE, _R),
        Check("shipped weights with provenance", _shipped, low=43_473, high=43_473),
        *(check for name in _CLASSICAL for check in _reported(_SCENE, _method(name), _CROP_METRICS)),
        _seconds(_SCENE, _R),
    ),
    _words(_SCENE, _R, *map(_method, _CLASSICAL)),
)


# rho-PNN

# the product's default: on GSA, with one step of back-projection
_RHO = _method("rho-pnn", "gsa")
_DEFAULT_STEPS = 1


def _reaching(dataset: str, options: Options, most_nm: float = math.inf) -> Figure:
    """Return the share of bands up to a wavelength whose adaptation reached the target."""

    def found(_: Runs) -> float:
        shares = [band["share"] for band in _bands(dataset, options) if band["nm"] < most_nm]
        return float(sum(share <= _TARGET for share in shares)) / len(shares)

    return found


def _worst_share(dataset: str, options: Options) -> Figure:
    return lambda _: max(float(band["share"]) for band in _bands(dataset, options))


def _unflagged(_: Runs) -> float:
    return float(sum(band["share"] > _TARGET and not band["missed"] for band in _bands(_SCENE, _RHO)))


def _ended(how: str) -> Figure:
    return lambda _: float(sum(band["ending"] == how for band in _bands(_SCENE, _RHO)))


def _beside(method: str, metric: str) -> Figure:
    return _over(_of(_SCENE, _RHO, metric, _DEFAULT_STEPS), _of(_SCENE, _method(method), metric))


_RHO_CASE = Case(
    "rho-pnn",
    (4,),
    {},
    (
        Check("share of bands below 700 nm at the target", _reaching(_SCENE, _RHO, _VISIBLE_NM), low=0.9),
        Check("share of all bands at the target", _reaching(_SCENE, _RHO), low=0.9, stretch=True),
        Check("largest spectral loss beside EXP's", _worst_share(_SCENE, _RHO), high=1 - 1e-9),
        Check("bands off the target and not flagged", _unflagged, high=0.0),
        Check("ERGAS beside EXP's", _beside("exp", "ergas"), high=1.0),
        Check("SAM beside EXP's", _beside("exp", "sam"), high=1.0),
        Check("ERGAS above 700 nm beside GSA's", _beside("gsa", "ergas_infrared"), high=1.0, stretch=True),
        Check("ERGAS beside GSA's", _beside("gsa", "ergas"), high=1.0, stretch=True),
        *(Check(word, _of(_SCENE, _RHO, metric, _DEFAULT_STEPS)) for metric, word in _CROP_METRICS.items()),
        *_reported(_SCENE, _RHO, _CROP_METRICS),
        Check(
            "share of all bands at the target, back-projected", _of(_SCENE, _RHO, "reached", _DEFAULT_STEPS)
        ),
        Check(
            "most iterations of a band",
            lambda _: float(max(band["iterations"] for band in _bands(_SCENE, _RHO))),
        ),
        Check("bands that ended at the cap", _ended("cap")),
        Check("bands that ended on a plateau", _ended("plateau")),
        _fallen_back(_SCENE, _RHO),
        _seconds(_SCENE, _RHO),
    ),
    _words(_SCENE, _RHO, _method("exp"), _method("gsa")),
)


# as the papers have them: nothing but the network, added to the interpolated band

_PAPER_RHO = (*_method("rho-pnn"), "adaptation.fallback=false")
_PAPER_R = (*_R, "adaptation.fallback=false")
_PAPER_CASE = Case(
    "paper",
    (3, 4),
    {},
    (
        *(check for one in (_PAPER_R, _PAPER_RHO) for check in _reported(_SCENE, one, _CROP_METRICS)),
        Check(
            "rho-pnn: share of bands below 700 nm at the target", _reaching(_SCENE, _PAPER_RHO, _VISIBLE_NM)
        ),
        Check("rho-pnn: share of all bands at the target", _reaching(_SCENE, _PAPER_RHO)),
        Check("rho-pnn: largest spectral loss beside EXP's", _worst_share(_SCENE, _PAPER_RHO)),
        Check("r-pnn: largest spectral loss beside EXP's", _worst_share(_SCENE, _PAPER_R)),
        _seconds(_SCENE, _PAPER_RHO),
    ),
    _words(_SCENE, _PAPER_R, _PAPER_RHO),
)


# the real pair

_PARIS_METRICS = {
    "d_lambda": "D_lambda",
    "d_sr": "D_sR",
    "qnr": "QNR",
    "lr_ergas": "LR-ERGAS",
    "d_rho": "D_rho",
}


def _of_paris(options: Options, steps: int) -> tuple[Check, ...]:
    name = f"{_name(_PARIS, options)}, {steps} steps back"
    return (
        Check(f"{name}: D_lambda", _of(_PARIS, options, "d_lambda", steps), high=_EXP_D_LAMBDA),
        Check(f"{name}: D_sR", _of(_PARIS, options, "d_sr", steps), high=_MOST_D_SR),
        Check(f"{name}: LR-ERGAS", _of(_PARIS, options, "lr_ergas", steps), high=_MOST_LR_ERGAS),
        Check(f"{name}: QNR", _of(_PARIS, options, "qnr", steps), low=_GLP_QNR, stretch=True),
        Check(f"{name}: D_rho", _of(_PARIS, options, "d_rho", steps)),
    )


_PARIS_CASE = Case(
    "paris",
    (5,),
    {},
    (
        *(check for steps in (0, 1) for check in _of_paris(_R, steps)),
        _fallen_back(_PARIS, _R),
        _seconds(_PARIS, _R),
        *(check for name in _CLASSICAL for check in _reported(_PARIS, _method(name), _PARIS_METRICS)),
    ),
    _words(_PARIS, _R, *map(_method, _CLASSICAL)),
)
_PARIS_RHO_CASE = Case(
    "paris-rho",
    (5,),
    {},
    (
        *(check for steps in (0, 1) for check in _of_paris(_RHO, steps)),
        Check("share of bands at the target", _reaching(_PARIS, _RHO)),
        _fallen_back(_PARIS, _RHO),
        _seconds(_PARIS, _RHO),
    ),
    _words(_PARIS, _RHO),
)


# the goals

_WITH_NETWORK = (_R, _RHO)
_WITHOUT = tuple(_method(name) for name in _BASES)


def _least(dataset: str, every: tuple[Options, ...], metric: str) -> Figure:
    return lambda runs: min(
        _of(dataset, options, metric, steps)(runs) for options in every for steps in _STEPS
    )


def _best_qnr(every: tuple[Options, ...]) -> Figure:
    """Return the best QNR among those with no more D_lambda than MTF-GLP-FS has without back-projection."""

    def found(runs: Runs) -> float:
        bound = _of(_PARIS, _method("mtf-glp-fs"), "d_lambda")(runs)
        fit = [
            _of(_PARIS, options, "qnr", steps)(runs)
            for options in every
            for steps in _STEPS
            if _of(_PARIS, options, "d_lambda", steps)(runs) <= bound
        ]
        return max(fit, default=math.nan)

    return found


_CROP_SHORT = {"ergas": "ERGAS", "sam": "SAM", "q2n": "Q2n", "reached": "share of bands at .65 of EXP's loss"}
_PARIS_SHORT = {"qnr": "QNR", "d_lambda": "D_lambda", "d_sr": "D_sR", "reached": "share of bands at .65"}

_BEST_CASE = Case(
    "best",
    (),
    {},
    (
        Check("crop: least ERGAS, with a network", _least(_SCENE, _WITH_NETWORK, "ergas"), high=_GLP_ERGAS),
        Check("crop: least ERGAS, without one", _least(_SCENE, _WITHOUT, "ergas"), high=_GLP_ERGAS),
        Check(
            "crop: what the network takes off the least ERGAS",
            _less(_least(_SCENE, _WITHOUT, "ergas"), _least(_SCENE, _WITH_NETWORK, "ergas")),
        ),
        Check("Paris: best QNR at no more D_lambda, with a network", _best_qnr((_R,)), low=_GLP_QNR),
        Check("Paris: best QNR at no more D_lambda, without one", _best_qnr(_WITHOUT), low=_GLP_QNR),
        Check(
            "Paris: what the network adds to the best QNR",
            _less(_best_qnr((_R,)), _best_qnr(_WITHOUT)),
        ),
        Check("rho-pnn, crop: share of all bands at the target", _reaching(_SCENE, _RHO), low=0.9),
        Check(
            "rho-pnn, crop: share of all bands at the target, back-projected",
            _of(_SCENE, _RHO, "reached", _DEFAULT_STEPS),
            low=0.9,
        ),
        *(
            check
            for dataset, metrics, networks in (
                (_SCENE, _CROP_SHORT, _WITH_NETWORK),
                (_PARIS, _PARIS_SHORT, (_R,)),
            )
            for options in (*_WITHOUT, *networks)
            for steps in _STEPS
            for check in _reported(
                dataset, options, {m: f"{w}, {dataset}" for m, w in metrics.items()}, steps
            )
        ),
    ),
    _words(_SCENE, *_WITHOUT, *_WITH_NETWORK),
)


# what must hold whatever the scores


def _property(what: str, part: str, name: str, *words: str) -> Figure:
    return lambda _: float(printed_by("pansharpening_properties", what, *words)[part][name])


# four bands, a shorter first training: units, order and repeats are asked for, not how well it sharpens
_INVARIANCE = (
    *("--bands-every", "12"),
    *("--set", "adaptation.rho.soups=2", "--set", "adaptation.rho.most_first_steps=100"),
)


def _invariant(method: str) -> tuple[Check, ...]:
    def of(name: str) -> Figure:
        return _property("invariance", method, name, *_INVARIANCE)

    return (
        Check(
            f"{method}: change of ERGAS at ten times the values",
            of("change at ten times the values"),
            high=0.02,
        ),
        Check(f"{method}: change of ERGAS as floats / 1e4", of("change as floats / 1e4"), high=0.02),
        Check(f"{method}: difference of shuffled bands", of("difference of shuffled bands"), high=0.0),
        Check(f"{method}: difference of a second try", of("difference of a second try"), high=0.0),
        Check(f"{method}: a second try writes the same bytes", of("identical files"), low=1.0),
    )


_INVARIANCE_CASE = Case(
    "invariance",
    (6,),
    {},
    tuple(check for method in ("gsa", *_NETWORKS) for check in _invariant(method)),
    _script("pansharpening_properties", "invariance", *_INVARIANCE),
)

_NOTHING = (
    *("pixels of another footprint", "another CRS", "another transform", "another nodata value", "tags lost"),
    *("values out of range", "change by another nodata value"),
)


def _enmap(ratio: int) -> tuple[Check, ...]:
    part = f"ratio {ratio}"
    return (
        *(
            Check(f"{part}, {method}: {what}", _property("enmap", part, f"{method}: {what}"), high=0.0)
            for method in (*_BASES, *_NETWORKS)
            for what in _NOTHING
        ),
        *(
            Check(
                f"{part}, {method}: tiled beside untiled",
                _property("enmap", part, f"{method}: tiled beside untiled"),
                high=1.0,
            )
            for method in (*_CLASSICAL, *_NETWORKS)
        ),
    )


_ENMAP_CASE = Case(
    "enmap",
    (7,),
    {},
    (*_enmap(2), *_enmap(3)),
    _script("pansharpening_properties", "enmap"),
)


def _simulated(name: str) -> Figure:
    return _property("simulator", "simulator", name)


_SIMULATOR_CASE = Case(
    "simulator",
    (9,),
    {},
    (
        Check("scenes of 16 where mtf-glp-fs beats EXP", _simulated("mtf-glp-fs ahead of exp"), low=15),
        Check("the same in ERGAS alone", _simulated("mtf-glp-fs ahead of exp in ERGAS")),
        Check("the same at 144 x 144 pixels and 24 bands", _simulated("mtf-glp-fs ahead, 24 bands")),
        Check("largest error of the shift in PAN pixels", _simulated("error of the shift"), high=0.1),
        Check("dead bands in the scenes", _simulated("dead bands"), low=1),
        Check("dead bands mistaken", _simulated("dead bands mistaken"), high=0.0),
        Check("scenes of other bytes the second time", _simulated("scenes of other bytes"), high=0.0),
    ),
    _script("pansharpening_properties", "simulator"),
)


# speed and memory


def _fast(part: str, name: str) -> Figure:
    return lambda _: float(printed_by("pansharpening_speed", "--only", part)[part][name])


def _iteration(threads: int, network: str, name: str) -> Figure:
    def found(_: Runs) -> float:
        every = printed_by("pansharpening_speed", "--only", "iterations")["iterations"]
        return float(every[str(threads)][network][name])

    return found


def _of_iteration(threads: int) -> tuple[Check, ...]:
    word = "1 thread" if threads == 1 else f"{threads} threads"
    most = {"r-pnn": 5.0, "rho-pnn": math.inf}
    return tuple(
        check
        for network in _NETWORKS
        for check in (
            Check(
                f"{network}, {word}: an iteration beside its forward pass",
                _iteration(threads, network, "to_forward"),
                high=most[network],
            ),
            Check(
                f"{network}, {word}: times as fast as the plain iteration",
                _iteration(threads, network, "speedup"),
                low=2.0,
                stretch=True,
            ),
            Check(f"{network}, {word}: seconds an iteration", _iteration(threads, network, "ours")),
        )
    )


_SPEED_CASE = Case(
    "speed",
    (10,),
    {},
    (
        *_of_iteration(1),
        *_of_iteration(2),
        Check("Q2n of 218 bands beside its recursion", _fast("q2n", "speedup"), low=20),
        Check("Q2n: difference from its recursion", _fast("q2n", "difference"), high=1e-7),
        Check("gsa by windows beside in memory, time", _fast("gsa", "to_in_memory"), high=1.5),
        Check("goal: gsa, 1200 x 1200 x 60, seconds", _fast("gsa", "seconds"), high=60),
        Check("goal: gsa, 1200 x 1200 x 60, GB", _fast("gsa", "gigabytes"), high=2.0),
        Check("preset quick, seconds", _fast("quick", "seconds"), high=60),
    ),
    {**_script("pansharpening_speed"), **_script("pansharpening_gsa")},
)


def _peak(method: str, name: str, scale: float = 1.0) -> Figure:
    return lambda _: float(printed_by("pansharpening_memory")[method][name]) / scale


_MEMORY_CASE = Case(
    "memory",
    (7,),
    {},
    (
        Check("gsa, 4000 x 4000 x 100: peak GB", _peak("gsa", "bytes", 1e9), high=2.0),
        Check("rho-pnn, one band of it: peak GB", _peak("rho-pnn", "bytes", 1e9), high=2.0),
        Check("gsa: seconds", _peak("gsa", "seconds")),
        Check("rho-pnn, one band: seconds", _peak("rho-pnn", "seconds")),
    ),
    _script("pansharpening_memory"),
)


# R-PNN's first weights, trained again


def _rebuilt(runs: Runs) -> float:
    """Return by how much ERGAS differs between weights trained anew and the shipped ones."""
    from typing import cast

    from appliedpapers.core.bundle import load_bundle
    from appliedpapers.core.config import resolve
    from appliedpapers.plugins.pansharpening.assessment import beside_truth
    from appliedpapers.plugins.pansharpening.config import PansharpeningConfig
    from appliedpapers.plugins.pansharpening.model import Pansharpener
    from benchmarks.pansharpening_scenes import scene_of

    trained = cast("Pansharpener", load_bundle(runs["rebuilt"].report.parent / "model")[0])
    config = resolve(PansharpeningConfig, assignments=_R)
    model = Pansharpener(config)
    model.weights = trained.weights
    scene = scene_of(_SCENE, config)
    ergas = beside_truth(scene, model.sharpen(scene)).value("ergas")
    return abs(ergas / _of(_SCENE, _R, "ergas")(runs) - 1)


# what the run is judged on takes longer than its training, and is not looked at here
_TRAINING_ALONE = ("baselines=[]", "simulator.test_scenes=1", "simulator.bands=8")
_FIRST_WEIGHTS_CASE = Case(
    "first-weights",
    (3,),
    {"rebuilt": Settings("r-pnn-init", "simulated", _TRAINING_ALONE)},
    (Check("change of ERGAS by weights trained anew", _rebuilt, high=0.03),),
)

CASES = (
    *(_CLASSICAL_CASE, _R_CASE, _RHO_CASE, _PAPER_CASE, _PARIS_CASE, _PARIS_RHO_CASE, _BEST_CASE),
    *(_INVARIANCE_CASE, _ENMAP_CASE),
    *(_SIMULATOR_CASE, _SPEED_CASE, _MEMORY_CASE, _FIRST_WEIGHTS_CASE),
)
