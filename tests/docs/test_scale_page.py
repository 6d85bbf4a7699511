"""The files on the page about scale can be read by what reads them, and the commands in them are ours."""

from __future__ import annotations

import ast
import configparser
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import typer
import yaml

from appliedpapers.cli import app
from appliedpapers.pipelines.schedule_times import Cron

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "scale.md").read_text(encoding="utf-8")
FILES = {
    name.split("/")[-1]: text
    for text, name in (
        (found[1], found[2])
        for found in re.finditer(r"```(?:yaml|python|ini)\n(# (\S+)\n.*?)```", PAGE, re.DOTALL)
    )
}


def parsed(words: list[str]) -> str:
    """Read an ``apps`` command as the program does; return its name."""
    command = typer.main.get_command(app)
    context = command.context_class(command, info_name="apps")
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
        context = command.context_class(command, info_name="apps", parent=context)
    # raises where an option is unknown or missing
    command.parse_args(context, words)
    return str(command.name)


def test_every_file_of_the_page_is_looked_at():
    assert set(FILES) == {
        "ray-cluster.yaml",
        "cronjob.yaml",
        "nightly_scores.py",
        "apps-schedule.service",
        "nightly-scores.service",
        "nightly-scores.timer",
    }


def test_the_cron_job_keeps_one_pod_that_continues_and_stops_where_trying_again_is_vain():
    document = yaml.safe_load(FILES["cronjob.yaml"])
    assert (document["apiVersion"], document["kind"]) == ("batch/v1", "CronJob")
    spec = document["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    assert Cron(spec["schedule"], spec["timeZone"])
    job = spec["jobTemplate"]["spec"]
    # Kubernetes takes a failure policy with this restart policy alone
    assert job["template"]["spec"]["restartPolicy"] == "Never"
    (rule,) = job["podFailurePolicy"]["rules"]
    (container,) = job["template"]["spec"]["containers"]
    assert rule["onExitCodes"]["containerName"] == container["name"]
    assert rule["onExitCodes"]["values"] == [2, 3, 5]
    assert parsed([*container["command"], *container["args"]][1:]) == "run"
    volumes = {volume["name"] for volume in job["template"]["spec"]["volumes"]}
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert set(mounted) == volumes
    paths = [word.partition("=")[2] for word in container["args"] if "/" in word]
    assert all(path.startswith(tuple(mounted.values())) for path in paths)


def test_the_dag_calls_the_command_that_the_ledger_knows():
    tree = ast.parse(FILES["nightly_scores.py"])
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    by_name = {node.func.id: node for node in calls if isinstance(node.func, ast.Name)}
    dag, task = (
        {word.arg: word.value for word in by_name[name].keywords} for name in ("DAG", "BashOperator")
    )
    assert Cron(ast.literal_eval(dag["schedule"]))
    assert ast.literal_eval(dag["max_active_runs"]) == 1
    assert ast.literal_eval(task["skip_on_exit_code"]) == 75
    line = ast.literal_eval(task["bash_command"]).replace("{{ ts }}", "2026-11-22T02:30:00+00:00")
    assert parsed(shlex.split(line)[1:]) == "run-once"


def units() -> dict[str, configparser.ConfigParser]:
    found = {}
    for name, text in FILES.items():
        if name.endswith((".service", ".timer")):
            found[name] = configparser.ConfigParser(interpolation=None)
            found[name].optionxform = str
            found[name].read_string(text)
    return found


def test_services_start_our_commands():
    made = units()
    commands = [unit["Service"]["ExecStart"] for unit in made.values() if "Service" in unit]
    assert [parsed(shlex.split(line)[1:]) for line in commands] == ["run", "run"]
    # an interrupted daemon needs the time that it gives its commands
    assert int(made["apps-schedule.service"]["Service"]["TimeoutStopSec"]) > 90
    assert made["nightly-scores.service"]["Service"]["SuccessExitStatus"] == "75"
    assert made["nightly-scores.timer"]["Timer"]["Persistent"] == "true"


def test_systemd_itself_finds_nothing_wrong(tmp_path):
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    for name in units():
        # the program of the page is not here, nor is its user
        text = FILES[name].replace("/opt/apps/bin/apps", "/bin/true").replace("User=ops\n", "")
        (tmp_path / name).write_text(text)
    files = [str(tmp_path / name) for name in units()]
    done = subprocess.run(
        [program, "verify", *files],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"LANG": "C"},
    )
    ours = [line for line in done.stderr.splitlines() if str(tmp_path) in line or "apps-" in line]
    assert ours == []


def test_the_ray_cluster_installs_and_starts_what_it_needs():
    document = yaml.safe_load(FILES["ray-cluster.yaml"])
    assert document["provider"]["type"] == "local"
    assert document["min_workers"] == len(document["provider"]["worker_ips"])
    assert any("applied-papers[frets,ray]" in line for line in document["setup_commands"])
    assert "--head" in document["head_start_ray_commands"][-1]
    assert "--address $RAY_HEAD_IP" in document["worker_start_ray_commands"][-1]
