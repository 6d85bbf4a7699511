"""Every command on its happy path: exit code 0, data on stdout, everything else on stderr."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tinyplugins.bundles import make_bundle

import appliedpapers


def test_list_names_every_plugin_and_what_to_type_next(apps):
    outcome = apps("list")
    assert outcome.code == 0
    assert {"tiny-rows", "tiny-tasks"} <= {line.split()[0] for line in outcome.out.splitlines()}
    assert "apps info" in outcome.out


def test_list_without_its_parser_equals_list_with_it(apps):
    # "apps list" goes around typer; a longer line does not
    assert apps("list").out == apps("--debug", "list").out
    assert {item["id"] for item in json.loads(apps("list", "--json").out)} >= {"tiny-rows", "tiny-scenes"}


def test_list_says_whose_work_a_plugin_is_for_and_what_it_takes(apps):
    lines = apps("list").out.splitlines()
    frets = next(number for number, line in enumerate(lines) if line.split()[0] == "frets")
    assert lines[frets + 1].strip() == "forecasting · series: CSV, text, Parquet"
    assert lines[frets + 1].index("forecasting") == lines[frets].index("forecast")
    (known,) = (item for item in json.loads(apps("list", "--json").out) if item["id"] == "frets")
    assert (known["field"], known["data"]) == ("forecasting", "series: CSV, text, Parquet")


def test_info_sets_what_was_measured_beside_what_is_printed(apps):
    said = apps("info", "frets").out
    assert "strongest baseline" in said
    assert "printed 0.3" in said
    assert "docs/frets.md" in said
    rows = json.loads(apps("info", "frets", "--json").out)["measured"]
    assert {row["verdict"] for row in rows} <= {"better", "not told apart", "worse", "not tested"}
    # one of another distribution brings none
    assert json.loads(apps("info", "tiny-rows", "--json").out)["measured"] == []
    assert "measured" not in apps("info", "tiny-rows").out


def test_config_show_and_init_take_a_plugin_s_flags_as_run_does(apps, workspace):
    shown = json.loads(
        apps("config", "show", "frets", "--freq", "h", "--set", "model.head=kan", "--json").out
    )
    assert (shown["data"]["freq"], shown["model"]["head"]) == ("h", "kan")
    words = ("config", "init", "frets", "--freq", "h", "here", "--set", "model.head=kan", "--preset", "quick")
    assert apps(*words).code == 0
    assert apps("config", "validate", "frets", "here/frets.yaml").code == 0
    written = Path("here/frets.yaml").read_text()
    assert "freq: h " in written
    assert "head: kan " in written
    for wrong, said in (
        (("a", "b"), "'b' is one word too many"),
        (("--fre", "h"), "no option is called '--fre'"),
        (("--head", "kan"), "no option is called '--head'"),
    ):
        outcome = apps("config", "init", "frets", *wrong)
        assert outcome.code == 2
        assert said in outcome.err
    assert not Path("a").exists()


def test_the_version_is_the_package_s(apps):
    assert apps("--version").out.strip() == f"apps {appliedpapers.__version__}"


@pytest.mark.parametrize("words", [(), ("config",), ("registry",), ("score",)])
def test_a_command_group_alone_shows_its_commands_as_written(apps, words):
    outcome = apps(*words)
    assert outcome.code == 2
    assert outcome.err.startswith("Usage: apps")
    assert "\nCommands:\n" in outcome.err


def test_info_says_how_a_task_is_registered_and_what_it_is_compared_with(apps):
    document = json.loads(apps("info", "tiny-tasks", "--json").out)
    assert [task["registered"] for task in document["tasks"]] == [
        f"apps.tiny-tasks.{task['name']}" for task in document["tasks"]
    ]
    assert "registered as apps.tiny-rows" in apps("info", "tiny-rows").out


def test_config_show_takes_preset_file_and_assignments_in_this_order(apps, workspace):
    Path("mine.yaml").write_text("model: {alpha: 2}\ndata: {rows: 70}\n")
    words = ("config", "show", "tiny-rows", "--preset", "quick", "--config", "mine.yaml", "--json")
    assert json.loads(apps(*words).out)["data"]["rows"] == 70
    assert json.loads(apps(*words, "--set", "data.rows=80").out)["data"]["rows"] == 80
    assert "# strength of the ridge penalty" in apps("config", "show", "tiny-rows").out
    assert apps("config", "validate", "tiny-rows", "mine.yaml").code == 0
    assert json.loads(apps("config", "schema", "tiny-rows").out)["title"] == "RowsConfig"


def test_config_init_writes_files_that_the_next_commands_take(apps, workspace, bundle):
    assert apps("config", "init", "tiny-rows", "start").code == 0
    assert apps("config", "validate", "tiny-rows", "start/tiny-rows.yaml").code == 0
    assert apps("predict", bundle, "--input", "start/tiny-rows-sample.csv").code == 0


def test_data_list_and_audit(apps, workspace):
    (row,) = json.loads(apps("data", "list", "tiny-rows", "--json").out)
    assert (row["id"], row["state"]) == ("simulated", "ready")
    audit = json.loads(apps("data", "audit", "tiny-rows", "--preset", "quick", "--json").out)
    assert audit["findings"] == []


def test_run_prints_one_json_document_and_no_progress_with_json(apps, after_a_run):
    outcome = apps("run", "tiny-rows", "--preset", "quick", "--json", "--seed", "3", "--no-register")
    assert outcome.code == 0
    assert outcome.err == ""
    document = json.loads(outcome.out)
    assert (document["plugin"], document["seeds"], document["model_version"]) == ("tiny-rows", [3], None)
    assert len(json.loads(apps("runs", "list", "--json").out)) == 2


def test_run_prints_progress_on_stderr_and_what_to_type_next(apps, after_a_run):
    outcome = apps("run", "tiny-rows", "--preset", "quick")
    assert "synthetic: true" in outcome.first
    assert "In words:" in outcome.out
    assert "@challenger" in outcome.out
    assert "synthetic: true" not in outcome.out
    models = json.loads(apps("registry", "list", "--json").out)
    assert [(model["name"], model["versions"]) for model in models] == [("apps.tiny-rows", 2)]
    assert json.loads(apps("registry", "diff", "tiny-rows", 1, 2, "--json").out)["config"] == {}
    assert apps("registry", "promote", "tiny-rows").code == 0
    assert apps("registry", "rollback", "tiny-rows").code == 0
    history = json.loads(apps("registry", "show", "tiny-rows", "--json").out)
    assert [version["number"] for version in history["versions"]] == [1, 2]


def test_a_version_travels_in_one_file(apps, after_a_run):
    assert apps("registry", "export", "tiny-rows@champion", "model.zip").code == 0
    assert "@champion" in apps("registry", "import", "model.zip", "--store", "elsewhere").out


def test_cards_of_a_version_are_files_and_what_old_runs_left_is_pruned(apps, after_a_run):
    (version,) = json.loads(apps("registry", "show", "tiny-rows", "--json").out)["versions"]
    card = Path(version["cards"]["data"]).read_text()
    assert "synthetic: true" in card
    assert "leakage audit: nothing crosses splits" in card
    assert version["cards"]["model"] in apps("registry", "show", "tiny-rows").out
    (run,) = Path("runs").iterdir()
    (run / "results.json").unlink()
    words = ("runs", "prune", "--older-than", 0)
    assert "would make" in apps(*words, "--dry-run").out
    assert [item["what"] for item in json.loads(apps(*words, "--json").out)] == ["run"]
    assert list(Path("runs").iterdir()) == []


def test_predict_gives_the_same_rows_as_csv_json_and_parquet(apps, bundle):
    csv = apps("predict", bundle, "--input", "plots.csv")
    rows = json.loads(apps("predict", "tiny-rows", "--input", "plots.csv", "--json").out)
    written = apps("predict", bundle, "--input", "plots.csv", "--output", "out/plots.parquet")
    assert written.out == ""
    assert pq.read_table("out/plots.parquet").to_pylist() == rows
    header, *lines = csv.out.splitlines()
    assert header == ",".join(rows[0])
    assert len(lines) == len(rows) == 20


def test_stream_answers_line_by_line(apps, workspace, monkeypatch):
    folder = make_bundle(workspace, "tiny-stream")

    def answers(*records):
        lines = "\n".join(json.dumps(record) for record in records)
        monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
        outcome = apps("stream", folder)
        assert outcome.code == 0, outcome.err
        return [json.loads(line) for line in outcome.out.splitlines()]

    def sample(device, tick, value):
        return {"device": device, "time": f"2024-01-31T14:00:0{tick}", "value": value}

    one = [sample("ü", tick, float(tick)) for tick in range(5)]
    other = [sample("b", tick, 100.0 - tick) for tick in range(5)]
    mixed = answers(*(record for pair in zip(one, other, strict=True) for record in pair))
    assert len(mixed) == 10
    # devices that take turns on one line do not disturb each other
    assert [answer for answer in mixed if answer["device"] == "ü"] == answers(*one)


def test_stream_answers_csv_with_csv_and_json_when_asked(apps, workspace, monkeypatch):
    folder = make_bundle(workspace, "tiny-stream")
    lines = ["device,time,value", *(f"d,2024-01-31T14:00:0{tick},{tick}" for tick in range(4))]

    def answer(text, *words):
        monkeypatch.setattr(sys, "stdin", io.StringIO(text))
        return apps("stream", folder, *words)

    plain, asked = answer("\n".join(lines)), answer("\n".join(lines), "--json")
    header, *rows = plain.out.splitlines()
    records = [json.loads(line) for line in asked.out.splitlines()]
    assert header == ",".join(records[0])
    assert len(rows) == len(records) == 4
    broken = answer("\n".join([*lines[:3], "d,2024-01-31T14:00:09,x"]))
    assert broken.code == 4
    # what came before is answered
    assert len(broken.out.splitlines()) == 3
    assert "stdin, line 4" in broken.first
    missing = answer("device,tiem,value\n")
    assert missing.code == 4
    assert "'time'" in missing.first


def test_score_run_does_nothing_the_second_time(apps, bundle):
    words = ("score", "run", "--model", bundle, "--input", "plots.csv", "--output", "scores", "--json")
    first, second = json.loads(apps(*words).out), json.loads(apps(*words).out)
    assert (first["rows_out"], first["parts_written"]) == (20, 1)
    assert (second["rows_out"], second["parts_written"]) == (20, 0)


def test_check_runs_the_conformance_suite(apps):
    (result,) = json.loads(apps("check", "tiny-rows", "--only", "no-pickle", "--json").out)
    assert result["ok"] is True


def test_new_writes_a_distribution(apps, workspace):
    assert apps("new", "my-paper").code == 0
    assert Path("my-paper/src/my_paper/plugin.py").is_file()


def test_doctor_looks_at_the_store_without_making_one(apps, workspace):
    findings = {item["name"]: item for item in json.loads(apps("doctor", "--json").out)}
    assert findings["store"]["ok"]
    assert "made by the first run" in findings["store"]["detail"]
    assert list(workspace.iterdir()) == []
    Path("mlruns").mkdir()
    Path("mlruns/mlflow.db").write_text("not a database, but long enough to be read as the head of one" * 9)
    damaged = apps("doctor", "--json")
    assert damaged.code == 1
    assert not {item["name"]: item for item in json.loads(damaged.out)}["store"]["ok"]


def test_looking_makes_nothing(apps, workspace):
    assert json.loads(apps("registry", "list", "--json").out) == []
    assert list(workspace.iterdir()) == []


def test_an_ascii_terminal_gets_plain_letters_and_whole_json(lived):
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}

    def run(*words):
        program = [sys.executable, "-m", "appliedpapers", *words]
        return subprocess.run(program, capture_output=True, cwd=lived, env=environment, check=False)

    info = run("info", "tiny-rows")
    assert info.returncode == 0, info.stderr
    assert b"registered as apps.tiny-rows" in info.stdout
    assert info.stdout.isascii()
    listed = run("list", "--json")
    assert listed.stdout.isascii()
    assert json.loads(listed.stdout)


def test_a_reader_that_leaves_is_no_error():
    shell = f"{sys.executable} -m appliedpapers config schema frets | head -1; echo ${{PIPESTATUS[0]}}"
    found = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["{", "0"]
    assert found.stderr == ""


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_completion_names_the_plugins():
    environment = os.environ | {
        "_APPS_COMPLETE": "complete_bash",
        "COMP_WORDS": "apps run tiny-",
        "COMP_CWORD": "2",
    }
    program = [sys.executable, "-c", "from appliedpapers.cli import main; main()"]
    found = subprocess.run(program, capture_output=True, text=True, env=environment, check=False)
    assert {"tiny-rows", "tiny-tasks"} <= set(found.stdout.split()), found.stderr


def test_every_name_of_the_python_api_is_there_and_documented():
    assert set(appliedpapers.__all__) == set(appliedpapers._HOME_OF)
    for name in appliedpapers.__all__:
        assert getattr(appliedpapers, name).__doc__
        assert name in dir(appliedpapers)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = appliedpapers.nonsense
