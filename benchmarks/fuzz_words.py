"""Fuzzing of what people type: configuration files, ``--set``, ``--over``, modules by name, schedules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from appliedpapers.core import plugin as plugins
from appliedpapers.core.config import TaskConfig, commented_yaml, option_paths, resolve
from benchmarks.fuzz_cases import ODD_WORDS, changed_words, documents, mutated, nearly, texts
from benchmarks.fuzz_target import CONFIG, Fuzzing, Target, of_file

JOBS = """\
jobs:
  nightly:
    score: {model: frets@champion, input: "inbox/*.parquet", output: "scores/{date}"}
    cron: "30 2 * * *"
    timezone: Europe/Berlin
    retries: 3
    on_failure: {command: [notify, ops]}
  weekly:
    run: {plugin: frets, dataset: etth1, set: [model.horizon=24]}
    every: 6h
    catch_up: all
"""
_MODULES = (
    *("mlp", "fan", "kan(grid=5)", "kan(basis=rbf, grid=8)", "hourglass(depth=2)", "kan(hidden=[8, 8])"),
    "mowst(weak=mlp, strong=kan(grid=3))",
)
_CRON_WORDS = (
    "*",
    "*/5",
    "0",
    "59",
    "1-5",
    "mon-fri",
    "7",
    "31",
    "feb",
    "*/0",
    "5-1",
    "1,2,3",
    "l",
    "?",
    "60",
)


def configs() -> list[type[TaskConfig]]:
    """Return the configuration classes of every plugin that is installed and works."""
    found: list[type[TaskConfig]] = []
    for state in plugins.discover():
        if state.spec is not None and not state.spec.id.startswith("tiny"):
            found += [task.load("config") for task in state.spec.tasks]
    return found


def _dumped(document: Any) -> bytes:
    try:
        return yaml.safe_dump(document, allow_unicode=True).encode("utf-8", "surrogatepass")
    except (yaml.YAMLError, UnicodeError):
        return repr(document).encode("utf-8", "surrogatepass")


def _files(folder: Path) -> Fuzzing:
    classes = configs()
    written = [commented_yaml(resolve(config)).encode() for config in classes]
    odd = nearly(yaml.safe_load(written[0])).map(_dumped)
    contents = st.one_of(mutated(written, changed_words), odd)
    write = of_file(folder / "config.yaml", lambda path: resolve(classes[chosen[0]], file=path))
    chosen = [0]

    def attempt(case: tuple[int, bytes]) -> None:
        chosen[0] = case[0]
        write(case[1])

    return Fuzzing(st.tuples(st.integers(0, len(classes) - 1), contents), attempt)


def _assignments(folder: Path) -> Fuzzing:
    classes = configs()
    paths = [(config, path) for config in classes for path in option_paths(config)]
    values = st.one_of(
        texts(), documents().map(lambda document: _dumped(document).decode("utf-8", "replace"))
    )
    words = st.one_of(
        st.builds(lambda pair, value: (pair[0], f"{pair[1]}={value}"), st.sampled_from(paths), values),
        st.tuples(st.sampled_from(classes), st.one_of(texts(), st.builds("{}={}".format, texts(), texts()))),
    )
    return Fuzzing(words, lambda case: resolve(case[0], assignments=[case[1]]) and None)


def _overs(folder: Path) -> Fuzzing:
    from appliedpapers.pipelines.compare_choices import choices

    values = st.one_of(st.sampled_from(_MODULES), texts(), _specs())
    lists = st.lists(values, max_size=3).map(", ".join)
    names = st.one_of(st.sampled_from(("head", "lookback", "model.head", "seed", "data.freq")), texts())
    cases = st.one_of(st.builds("{}=[{}]".format, names, lists), texts())
    return Fuzzing(cases, lambda text: choices("frets", [text], preset="quick") and None)


def _specs() -> st.SearchStrategy[str]:
    names = st.sampled_from(("mlp", "kan", "fan", "hourglass", "chebykan", "linear", "Mowst", "nothing"))
    keys = st.sampled_from(
        ("grid", "hidden", "depth", "basis", "dropout", "degree", "order", "weak", "x", "1")
    )
    values = st.one_of(
        st.sampled_from(ODD_WORDS), st.integers(-3, 9).map(str), st.sampled_from(_MODULES), texts()
    )
    options = st.lists(st.builds("{}={}".format, keys, values), max_size=3).map(", ".join)
    changed = mutated([module.encode() for module in _MODULES], changed_words)
    return st.one_of(
        st.builds("{}({})".format, names, options),
        changed.map(lambda content: content.decode("utf-8", "replace")),
    )


def _modules(folder: Path) -> Fuzzing:
    from appliedpapers.plugins.frets.config import FretsConfig

    # as `--set model.head=kan(grid=5)` has it
    return Fuzzing(_specs(), lambda spec: resolve(FretsConfig, assignments=[f"model.head={spec}"]) and None)


def _jobs(folder: Path) -> Fuzzing:
    from appliedpapers.pipelines.schedule_jobs import read_jobs

    odd = nearly(yaml.safe_load(JOBS)).map(_dumped)
    cases = st.one_of(mutated([JOBS.encode()], changed_words), odd)
    return Fuzzing(cases, of_file(folder / "jobs.yaml", read_jobs))


def _cron(folder: Path) -> Fuzzing:
    from appliedpapers.pipelines.schedule_jobs import read_jobs

    field = st.one_of(st.sampled_from(_CRON_WORDS), texts())
    expressions = st.lists(field, min_size=4, max_size=6).map(" ".join)
    read = of_file(folder / "cron.yaml", read_jobs)
    job: dict[str, Any] = {"score": {"model": "frets@champion", "input": "a.csv", "output": "b"}}
    zones = st.one_of(st.just("Europe/Berlin"), texts())

    def attempt(case: tuple[str, str]) -> None:
        read(_dumped({"jobs": {"one": {**job, "cron": case[0], "timezone": case[1]}}}))

    return Fuzzing(st.tuples(expressions, zones), attempt)


TARGETS = (
    Target("config-yaml", "configuration files of every plugin", _files, CONFIG),
    Target("config-set", "--set on every option of every plugin", _assignments, CONFIG),
    Target("compare-over", "--over of apps compare", _overs, CONFIG),
    Target("module-spec", "modules by name, such as kan(grid=5)", _modules, CONFIG),
    Target("jobs-yaml", "job files of apps schedule", _jobs, CONFIG),
    Target("cron", "cron expressions and time zones", _cron, CONFIG),
)
