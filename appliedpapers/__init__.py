"""Applied Papers: applied machine-learning papers as plugins that run on your own data.

Every command of ``apps`` is a documented function here; nothing heavy is imported before one is used:

    import appliedpapers as ap

    config = ap.resolve_config("frets", preset="quick", assignments=["model.horizon=48"])
    result = ap.run(ap.RunRequest(plugin="frets", config=config, preset="quick"))
    table = ap.predict_file("frets@champion", Path("load.csv"))

======================  ===========================================
``apps list``           :func:`discover`, :func:`find`
``apps config``         :func:`resolve_config`
``apps data``           :func:`describe_file`, :func:`list_datasets`, :func:`load_dataset`,
                        :func:`leakage_audit`
``apps run``            :func:`run`, :func:`start`, :func:`resume_request`
``apps runs``           :func:`list_runs`, :func:`prune_runs`
``apps predict``        :func:`predict_file`, :func:`load_model`
``apps stream``         :func:`stream_lines`
``apps compare``        :func:`compare`
``apps serve``          :func:`serve`
``apps score``          :func:`score_run`, :func:`evaluate_scores`
``apps schedule``       :mod:`appliedpapers.pipelines.schedule`
``apps registry``       :func:`open_store` and :mod:`appliedpapers.pipelines.registry`
``apps check``          :func:`check_plugin`
``apps new``            :func:`new_plugin`
``apps doctor``         :func:`examine`
======================  ===========================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from appliedpapers.core.config import resolve_config
    from appliedpapers.core.data import leakage_audit
    from appliedpapers.core.plugin import discover, find
    from appliedpapers.core.sources import list_datasets, load_dataset
    from appliedpapers.core.testing import check_plugin
    from appliedpapers.pipelines.compare import CompareRequest, Comparison, compare
    from appliedpapers.pipelines.describe import FileFit, describe_file
    from appliedpapers.pipelines.doctor import examine
    from appliedpapers.pipelines.predict import load_model, predict_file
    from appliedpapers.pipelines.run import run, start
    from appliedpapers.pipelines.run_folder import RunRequest, RunResult, list_runs, resume_request
    from appliedpapers.pipelines.run_prune import prune_runs
    from appliedpapers.pipelines.scaffold import new_plugin
    from appliedpapers.pipelines.score import ScoreSummary, score_run
    from appliedpapers.pipelines.score_evaluate import LateEvaluation, evaluate_scores
    from appliedpapers.pipelines.serve import ServeSettings, serve
    from appliedpapers.pipelines.stream import stream_lines
    from appliedpapers.pipelines.tracking_store import open_store

__version__ = "0.1.0"

_HOMES = {
    "appliedpapers.core.config": ("resolve_config",),
    "appliedpapers.core.data": ("leakage_audit",),
    "appliedpapers.core.plugin": ("discover", "find"),
    "appliedpapers.core.sources": ("list_datasets", "load_dataset"),
    "appliedpapers.core.testing": ("check_plugin",),
    "appliedpapers.pipelines.compare": ("CompareRequest", "Comparison", "compare"),
    "appliedpapers.pipelines.describe": ("FileFit", "describe_file"),
    "appliedpapers.pipelines.doctor": ("examine",),
    "appliedpapers.pipelines.predict": ("load_model", "predict_file"),
    "appliedpapers.pipelines.stream": ("stream_lines",),
    "appliedpapers.pipelines.run": ("run", "start"),
    "appliedpapers.pipelines.run_folder": ("RunRequest", "RunResult", "list_runs", "resume_request"),
    "appliedpapers.pipelines.run_prune": ("prune_runs",),
    "appliedpapers.pipelines.scaffold": ("new_plugin",),
    "appliedpapers.pipelines.score": ("ScoreSummary", "score_run"),
    "appliedpapers.pipelines.score_evaluate": ("LateEvaluation", "evaluate_scores"),
    "appliedpapers.pipelines.serve": ("ServeSettings", "serve"),
    "appliedpapers.pipelines.tracking_store": ("open_store",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "CompareRequest",
    "Comparison",
    "FileFit",
    "LateEvaluation",
    "RunRequest",
    "RunResult",
    "ScoreSummary",
    "ServeSettings",
    "check_plugin",
    "compare",
    "describe_file",
    "discover",
    "evaluate_scores",
    "examine",
    "find",
    "leakage_audit",
    "list_datasets",
    "list_runs",
    "load_dataset",
    "load_model",
    "new_plugin",
    "open_store",
    "predict_file",
    "prune_runs",
    "resolve_config",
    "resume_request",
    "run",
    "score_run",
    "serve",
    "start",
    "stream_lines",
]


def __getattr__(name: str) -> Any:
    """Import a name of the Python API when it is first asked for."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'appliedpapers' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    """List the Python API, too."""
    return sorted({*globals(), *__all__})
