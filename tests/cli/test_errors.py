"""Bad input of every kind: the right exit code, one line that names the thing, a remedy, nothing left."""

from __future__ import annotations

import errno
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from outcome import Outcome
from tinyplugins.bundles import plots

from appliedpapers.core.tables import write_table

RUN = ("run", "tiny-rows", "--preset", "quick")


def everything(folder: Path) -> dict[str, bytes]:
    """Every file below ``folder`` with its bytes; the store's own journal and locks aside."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "mlruns" not in path.parts
    }


def training_rows() -> list[dict]:
    rows = plots(40).to_pylist()
    return [{**row, "harvest": float(number)} for number, row in enumerate(rows)]


def write_missing(path: Path) -> None:
    pass


def write_empty(path: Path) -> None:
    path.write_bytes(b"")


def write_header_only(path: Path) -> None:
    path.write_text("plot,heat,moisture,soil,visits,harvest\n")


def write_truncated_parquet(path: Path) -> None:
    write_table(plots(500), path)
    path.write_bytes(path.read_bytes()[:-40])


def write_without_a_column(path: Path) -> None:
    write_table(plots(5).drop_columns(["visits"]), path)


def write_misspelt_column(path: Path) -> None:
    write_table(plots(5).rename_columns(["plot", "heat", "moisture", "soill", "visits"]), path)


def write_text_in_row_3(path: Path) -> None:
    lines = ["plot,heat,moisture,soil,visits", *(f"p{n},20.5,40,clay,3" for n in range(5))]
    lines[3] = "p2,warm,40,clay,3"
    path.write_text("\n".join(lines) + "\n")


def write_folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("command", ["predict", "score"])
@pytest.mark.parametrize(
    ("name", "write", "said"),
    [
        ("x.csv", write_missing, "x.csv"),
        ("x.csv", write_empty, "empty"),
        ("x.csv", write_header_only, "no rows"),
        ("x.parquet", write_truncated_parquet, "x.parquet"),
        ("x.csv", write_without_a_column, "visits"),
        ("x.csv", write_misspelt_column, "soil"),
        ("x.docx", write_empty, "x.docx"),
    ],
    ids=["missing", "empty", "no rows", "truncated", "column", "misspelt", "format"],
)
def test_a_file_that_cannot_be_used_is_exit_4_and_named(apps, bundle, command, name, write, said):
    write(Path(name))
    before = everything(Path())
    words = {
        "predict": ("predict", bundle, "--input", name, "--output", "out.csv"),
        "score": ("score", "run", "--model", bundle, "--input", name, "--output", "scores"),
    }[command]
    outcome = apps(*words)
    assert outcome.code == 4, outcome.err
    assert outcome.first.startswith("data error: ")
    assert said in outcome.first
    assert len(outcome.err.splitlines()) == 2
    assert outcome.out == ""
    left = {path for path in everything(Path()) if path not in before}
    assert left <= {"scores/.lock", "scores/.journal.jsonl"}


def test_a_wrong_type_names_row_and_column(apps, bundle):
    write_text_in_row_3(Path("x.csv"))
    outcome = apps("predict", bundle, "--input", "x.csv", "--output", "out.csv")
    assert outcome.code == 4
    assert "column 'heat'" in outcome.first
    assert "row 3" in outcome.first
    assert "warm" in outcome.first
    assert not Path("out.csv").exists()


def test_bad_rows_of_a_batch_are_exit_0_with_a_count_and_4_under_strict(apps, bundle):
    rows = plots(10).to_pylist()
    rows[4]["heat"] = 900.0
    write_table(pa.Table.from_pylist(rows), Path("x.csv"))
    words = ("score", "run", "--model", bundle, "--input", "x.csv", "--output")
    said = apps(*words, "scores").out
    assert "1 rows broke the contract" in said
    assert " first       x.csv, row 5, column 'heat': " in said
    assert apps(*words, "strict", "--strict").code == 4
    (bad,) = pq.read_table("scores/quarantine.parquet").to_pylist()
    assert (bad["row"], bad["column"]) == (5, "heat")


def test_a_run_on_bad_rows_leaves_only_the_quarantine(apps, workspace):
    rows = training_rows()
    rows[3]["heat"] = 900.0
    write_table(pa.Table.from_pylist(rows), Path("mine.csv"))
    outcome = apps(*RUN, "--data", "mine.csv")
    assert outcome.code == 4
    assert "row 4" in outcome.first
    assert "quarantine.parquet" in outcome.err
    assert [path.rpartition("/")[2] for path in everything(Path())] == ["mine.csv", "quarantine.parquet"]


BAD_YAML = {
    "broken.yaml": b"model: [1\n",
    "list.yaml": b"- 1\n",
    "binary.yaml": b"\xff\xfe\x00\x01",
    "typo.yaml": b"modle: {alpha: 2}\n",
    "deep.yaml": b"model: {alhpa: 2}\n",
    "range.yaml": b"model: {alpha: -1}\n",
    "class.yaml": b"model: !!python/object/apply:os.system ['true']\n",
}


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("absent.yaml", "--config"),
        ("broken.yaml", "YAML"),
        ("list.yaml", "key: value"),
        ("binary.yaml", "UTF-8"),
        ("typo.yaml", "Did you mean 'model'?"),
        ("deep.yaml", "Did you mean 'model.alpha'?"),
        ("range.yaml", "apps config show"),
        ("class.yaml", "YAML"),
    ],
)
@pytest.mark.parametrize(
    "words", [(*RUN, "--config"), ("config", "validate", "tiny-rows")], ids=["run", "validate"]
)
def test_a_configuration_that_cannot_be_read_is_exit_2_and_named(apps, workspace, words, name, hint):
    for file, content in BAD_YAML.items():
        Path(file).write_bytes(content)
    before = everything(Path())
    outcome = apps(*words, name)
    assert outcome.code == 2, outcome.err
    assert outcome.first.startswith(f"config error: {name}")
    assert hint in outcome.err.splitlines()[1]
    assert everything(Path()) == before


@pytest.mark.parametrize(
    ("words", "code", "first", "hint"),
    [
        (("run", "tiny-row"), 3, "plugin error: no plugin is called 'tiny-row'", "Did you mean 'tiny-rows'?"),
        (("info", "tiny-row"), 3, "plugin error", "Did you mean 'tiny-rows'?"),
        (("check", "tiny-row"), 3, "plugin error", "Did you mean"),
        (("config", "show", "tiny-row"), 3, "plugin error", "Did you mean"),
        (("lisst",), 2, "usage error: no command is called 'lisst'", "Did you mean 'list'?"),
        (("score", "rum"), 2, "usage error: no command is called 'rum'", "Did you mean 'run'?"),
        (("list", "--jsn"), 2, "usage error: no option is called '--jsn'", "Did you mean '--json'?"),
        (("run",), 2, "usage error: missing argument 'ID'", "apps run --help"),
        ((*RUN, "--pre", "x"), 2, "config error: no option is called '--pre'", "Did you mean '--preset'?"),
        ((*RUN, "--alpha", "3"), 2, "config error: no option is called '--alpha'", "Use --set model.alpha="),
        ((*RUN, "stray"), 2, "config error: 'stray' is one word too many", "--"),
        (
            (*RUN, "--set", "modle.alpha=1"),
            2,
            "config error: unknown option 'modle'",
            "Did you mean 'model'?",
        ),
        ((*RUN, "--set", "model.alpha"), 2, "config error: --set model.alpha", "section.option=value"),
        ((*RUN, "--set", "model.alpha=[1"), 2, "config error: --set model.alpha=[1", "Quote"),
        ((*RUN, "--set", "model.alpha=-1"), 2, "config error: option 'model.alpha'", "apps config show"),
        ((*RUN, "--preset", "quik"), 2, "config error: unknown preset 'quik'", "Did you mean 'quick'?"),
        ((*RUN, "--task", "x"), 2, "config error: tiny-rows has no task 'x'", "regression"),
        (("run", "tiny-tasks"), 2, "config error: tiny-tasks has several tasks", "--task"),
        ((*RUN, "--dataset", "simulatd"), 2, "config error: unknown dataset", "Did you mean 'simulated'?"),
        ((*RUN, "--dataset", "a", "--data", "b"), 2, "config error: --dataset and --data", "not both"),
        ((*RUN, "--data", "absent.csv"), 4, "data error: absent.csv: no such file", "--data"),
        ((*RUN, "--data", "a" * 300), 4, "data error: aaa", "Check the path"),
        ((*RUN, "--device", "gpu"), 2, "config error: unknown device 'gpu'", "cpu"),
        ((*RUN, "--precision", "8"), 2, "config error: unknown precision '8'", "bf16"),
        ((*RUN, "--threads", "0"), 2, "usage error: invalid value for '--threads'", "apps run --help"),
        ((*RUN, "--init-from", "absent"), 2, "config error: no model is registered here", "apps run"),
        (("run", "tiny-rows", "--resume", "."), 2, "config error: .: not a run's folder", "apps runs list"),
        (("runs", "list", "--output", "absent"), 2, "config error: absent: no such folder", "apps run"),
        (("predict", "tiny-rows", "-i", "x.csv"), 2, "config error: no model is registered here", "apps run"),
        (
            ("predict", "tiny-rows", "-i", "x", "-o", "y.doc"),
            2,
            "config error: y.doc: unknown format",
            ".csv",
        ),
        (("serve", "absent"), 2, "config error: no model is registered here", "apps run"),
        (("registry", "show", "absent"), 2, "config error: no model is registered here", "apps run"),
        (("registry", "import", "absent.zip"), 2, "config error: absent.zip", "path"),
        (("data", "fetch", "frets", "etth2"), 2, "config error: unknown dataset", "Did you mean 'etth1'?"),
        (("check", "tiny-rows", "--only", "x"), 2, "config error: unknown check 'x'", ""),
        (("new", "My_Paper"), 2, "config error: 'My_Paper' cannot be", "my-paper"),
        (("new", "tiny-rows"), 2, "config error: 'tiny-rows' is taken", "another id"),
    ],
)
def test_a_wrong_word_is_answered_with_the_remedy(apps, workspace, words, code, first, hint):
    outcome = apps(*words)
    assert outcome.code == code, outcome.err
    said = outcome.first if outcome.first.startswith(first[:6]) else outcome.err
    assert first in said
    assert hint in outcome.err.split(first, 1)[1]
    assert "Traceback" not in outcome.err
    assert outcome.out == ""
    assert everything(workspace) == {}


def test_an_unknown_model_is_answered_with_those_that_there_are(apps, after_a_run):
    outcome = apps("predict", "tiny-row@champion", "--input", "plots.csv")
    assert outcome.code == 2
    assert outcome.first == "config error: no registered model is called 'tiny-row'."
    assert "Did you mean 'tiny-rows'?" in outcome.err
    assert "Did you mean 'champion'?" in apps("predict", "tiny-rows@champ", "--input", "plots.csv").err
    assert apps("predict", "tiny-rows@7", "--input", "plots.csv").first.endswith("has no version 7.")


def test_without_network_the_message_says_what_to_place_where(apps, workspace, monkeypatch, tmp_path):
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    outcome = apps("data", "fetch", "frets", "illness")
    assert outcome.code == 4
    assert f"place it as national_illness.csv in {tmp_path / 'data' / 'frets'}" in outcome.err
    assert "sha256 b390a695" in outcome.err
    assert everything(tmp_path / "data") == {}


@pytest.mark.parametrize("words", [("predict",), ("score", "run", "--model"), ("serve",), ("stream",)])
def test_a_corrupt_bundle_is_exit_1_and_never_loaded(apps, bundle, words):
    part = next(path for path in bundle.iterdir() if path.suffix != ".json" or path.name == "bundle.json")
    part.write_bytes(part.read_bytes()[:-3] + b"}} ")
    more = {
        "predict": ("--input", "plots.csv"),
        "score": ("--input", "plots.csv", "--output", "scores"),
    }.get(words[0], ())
    outcome = apps(*words, bundle, *more)
    assert outcome.code == 1
    assert outcome.first.startswith("bundle error: ")
    assert "Restore" in outcome.err or "train again" in outcome.err


@pytest.mark.parametrize(
    ("content", "said"),
    [("", "cannot be read"), ("[1]", "not what apps run writes"), ("{}", "not what apps run writes")],
)
def test_a_damaged_request_cannot_be_resumed_and_does_not_hide_other_runs(apps, after_a_run, content, said):
    Path("runs/odd").mkdir()
    Path("runs/odd/request.json").write_text(content)
    outcome = apps("run", "tiny-rows", "--resume", "runs/odd")
    assert outcome.code == 2
    assert said in outcome.first
    states = {run["id"]: run["state"] for run in json.loads(apps("runs", "list", "--json").out)}
    assert sorted(states.values()) == ["complete", "damaged"]


def test_a_complete_run_and_a_run_of_another_plugin_are_not_resumed(apps, after_a_run):
    (folder,) = Path("runs").iterdir()
    assert "is complete" in apps("run", "tiny-rows", "--resume", folder).first
    (folder / "results.json").unlink()
    other = apps("run", "tiny-scenes", "--resume", folder)
    assert (other.code, "a run of tiny-rows" in other.first) == (2, True)


@pytest.mark.parametrize(
    "change", [("--preset", "quick"), ("--set", "model.alpha=2"), ("--seed=3",), ("--dataset", "simulated")]
)
def test_resume_refuses_other_settings_rather_than_ignore_them(apps, after_a_run, change):
    (folder,) = Path("runs").iterdir()
    (folder / "results.json").unlink()
    outcome = apps("run", "tiny-rows", "--resume", folder, *change)
    assert outcome.code == 2
    assert change[0].partition("=")[0] in outcome.first


def refuse(code: int):
    def replace(source, target, *_, **__):
        raise OSError(code, os.strerror(code), str(target))

    return replace


FULL = (errno.ENOSPC, "the disk is full", "Free some space")
FORBIDDEN = (errno.EACCES, "no permission to write", "another folder")


@pytest.mark.parametrize(("code", "said", "remedy"), [FULL, FORBIDDEN], ids=["full disk", "no permission"])
@pytest.mark.parametrize(
    "words",
    [
        RUN,
        ("predict", "BUNDLE", "--input", "plots.csv", "--output", "out/x.parquet"),
        ("score", "run", "--model", "BUNDLE", "--input", "plots.csv", "--output", "out"),
        ("config", "init", "tiny-rows", "start"),
        ("registry", "export", "tiny-rows", "model.zip"),
        ("new", "my-paper"),
    ],
    ids=["run", "predict", "score", "init", "export", "new"],
)
def test_what_cannot_be_written_is_exit_1_and_leaves_no_half_file(
    apps, bundle, monkeypatch, words, code, said, remedy
):
    before = everything(Path())
    monkeypatch.setattr(os, "replace", refuse(code))
    outcome = apps(*(bundle if word == "BUNDLE" else word for word in words))
    assert outcome.code == 1, outcome.err
    assert "run error: " in outcome.err
    assert said in outcome.err
    assert remedy in outcome.err
    assert "Traceback" not in outcome.err
    left = {path for path in everything(Path()) if path not in before}
    assert left <= {"out/.lock", "out/.journal.jsonl"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("words", [("list",), ("list", "--json"), ("config", "schema", "tiny-rows")])
def test_a_full_disk_behind_stdout_is_said(words):
    with open("/dev/full", "w") as full:
        program = [sys.executable, "-m", "appliedpapers", *words]
        found = subprocess.run(program, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert found.returncode == 1
    assert found.stderr.splitlines()[0] == "run error: stdout: the disk is full."
    assert len(found.stderr.splitlines()) == 2


def test_a_folder_that_may_not_be_written_is_said(apps, workspace):
    locked = Path("locked")
    locked.mkdir()
    locked.chmod(0o555)
    if os.access(locked, os.W_OK):
        # root writes everywhere; a file in the folder's place stops it, too
        shutil.rmtree(locked)
        locked.write_text("")
    outcome = apps(*RUN, "--output", "locked")
    assert outcome.code == 1
    assert outcome.first.startswith("run error: locked/") or "run error: locked/" in outcome.err


def interrupt(*_, **__):
    raise KeyboardInterrupt


def test_an_interrupt_before_anything_was_learned_leaves_nothing(apps, workspace, monkeypatch):
    from appliedpapers.pipelines import run

    monkeypatch.setattr(run, "load_dataset", interrupt)
    assert apps(*RUN) == Outcome(130, "", "interrupted.\n")
    assert everything(workspace) == {}


def test_an_interrupted_run_says_how_to_resume_with_its_store(apps, workspace, monkeypatch):
    from appliedpapers.pipelines.run_fit import Fitter

    with monkeypatch.context() as patch:
        patch.setattr(Fitter, "baselines", interrupt)
        outcome = apps(*RUN, "--quiet", "--output", "my runs", "--store", "my store")
    assert outcome.code == 130
    said, line = outcome.err.splitlines()
    assert said.startswith("interrupted: what was learned is kept in my runs/")
    program, *words = shlex.split(line)
    assert program == "apps"
    assert apps(*words, "--quiet").code == 0


def test_an_interrupted_scoring_says_that_the_same_command_continues(apps, bundle, monkeypatch):
    from appliedpapers.pipelines import score

    words = ("score", "run", "--model", bundle, "--input", "plots.csv", "--output", "scores")
    with monkeypatch.context() as patch:
        patch.setattr(score, "execute", interrupt)
        outcome = apps(*words)
    assert outcome.code == 130
    assert outcome.first == "interrupted: finished parts are kept in scores."
    assert "same command" in outcome.err
    assert apps(*words).code == 0


@pytest.mark.parametrize("words", [("check", "tiny-rows"), ("info", "tiny-rows"), ("doctor",)])
def test_any_other_interrupt_is_130_and_one_word(apps, workspace, monkeypatch, words):
    from appliedpapers.core import testing
    from appliedpapers.core.plugin import TaskSpec
    from appliedpapers.pipelines import doctor

    monkeypatch.setattr(testing, "check_plugin", interrupt)
    monkeypatch.setattr(TaskSpec, "load", interrupt)
    monkeypatch.setattr(doctor, "examine", interrupt)
    assert apps(*words) == Outcome(130, "", "interrupted.\n")


def test_an_unexpected_error_is_one_line_and_a_traceback_with_debug(apps, monkeypatch):
    from appliedpapers.pipelines import doctor

    def broken(*_):
        raise ZeroDivisionError("a slip")

    monkeypatch.setattr(doctor, "examine", broken)
    outcome = apps("doctor")
    assert outcome.code == 1
    assert outcome.first == "internal error: ZeroDivisionError: a slip"
    assert "--debug" in outcome.err
    from appliedpapers.cli import main

    with pytest.raises(ZeroDivisionError):
        main(["doctor", "--debug"])


def test_an_interrupt_while_the_command_line_loads_is_130_and_one_word():
    import subprocess
    import sys

    cut = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "class Cut:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'typer':\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Cut())\n"
        "from appliedpapers.__main__ import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", cut], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted.\n")


@pytest.mark.parametrize("folder", ["taken", "taken/below"])
def test_a_file_where_a_folder_is_due_is_refused_before_any_work(apps, bundle, workspace, folder):
    Path("taken").write_text("mine")
    write_table(plots(3), Path("plots.csv"))
    before = everything(workspace)
    for words in (
        ("predict", bundle, "--input", "plots.csv", "--files", folder),
        ("config", "init", "tiny-rows", folder),
    ):
        outcome = apps(*words)
        assert outcome.code == 2, outcome.err
        assert "taken is a file." in outcome.err
        assert "Expected a folder" in outcome.err
    assert everything(workspace) == before
