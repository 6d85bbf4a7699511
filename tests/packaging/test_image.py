"""The Dockerfile and the compose file name what is there: files, commands, options, ports."""

from __future__ import annotations

import json
import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
import typer
import yaml

from appliedpapers.cli import app

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
KNOWN = {"FROM", "WORKDIR", "COPY", "ARG", "RUN", "ENV", "USER", "EXPOSE", "HEALTHCHECK", "CMD"}


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile in their order, with continued lines joined."""
    plain = "\n".join(line for line in TEXT.splitlines() if not line.lstrip().startswith("#"))
    lines = re.sub(r"\\\n\s*", " ", plain).splitlines()
    return [tuple(line.split(None, 1)) for line in lines if line.strip()]


def only(name: str) -> str:
    (found,) = [rest for word, rest in instructions() if word == name]
    return found


def parsed(words: list[str]) -> str:
    """Read an ``apps`` command as the program does; return its name."""
    command = typer.main.get_command(app)
    context = command.context_class(command, info_name="apps")
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
        context = command.context_class(command, info_name="apps", parent=context)
    command.parse_args(context, words)
    return str(command.name)


def ignored(path: str) -> bool:
    """Whether ``.dockerignore`` keeps a path away from the build; the last line that fits wins."""
    kept_away = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!").removeprefix("**/")
        if not line or line.startswith("#"):
            continue
        parts = Path(path).parts
        tails = [path, parts[0], *parts] if line.startswith("**/") else [path, parts[0]]
        if any(fnmatch(tail, pattern) for tail in tails):
            kept_away = not line.startswith("!")
    return kept_away


def test_every_instruction_is_known_and_the_last_stage_is_small():
    names = [word for word, _ in instructions()]
    assert set(names) <= KNOWN
    assert names.count("FROM") == 2
    assert [rest for word, rest in instructions() if word == "FROM"] == [
        "python:3.11-slim AS build",
        "python:3.11-slim",
    ]


def test_what_is_copied_exists_and_reaches_the_build():
    for word, rest in instructions():
        if word == "COPY" and "--from" not in rest:
            *sources, _ = rest.split()
            for source in sources:
                assert (ROOT / source).exists()
                assert not ignored(source)
    assert not ignored("appliedpapers/core/page.css")
    assert ignored("appliedpapers/core/__pycache__/page.pyc")
    assert all(
        ignored(name) for name in ("docs/index.md", "tests/conftest.py", ".git/config", ".env", "mlruns/a")
    )


def test_the_extras_are_those_of_the_project_under_the_constraints():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    arguments = dict(rest.partition("=")[::2] for word, rest in instructions() if word == "ARG")
    assert arguments["EXTRAS"] in extras
    (install,) = [rest for word, rest in instructions() if word == "RUN" and "EXTRAS" in rest]
    assert install.count("pip install") == install.count("-c constraints.txt") == 2
    # an index of somebody must not be baked into the image
    assert "http" not in install


def test_it_runs_as_a_user_without_rights_who_may_write_to_the_work_folder():
    names = [word for word, _ in instructions()]
    assert only("USER") == "1000"
    assert names.index("USER") < names.index("CMD")
    assert not [word for word, rest in instructions()[names.index("USER") :] if word == "RUN"]
    assert any("--uid 1000" in rest and "chown apps /data" in rest for word, rest in instructions())


def test_the_command_and_the_health_check_are_ours():
    words = json.loads(only("CMD"))
    assert words[0] == "apps"
    assert parsed(words[1:]) == "serve"
    port = words[words.index("--port") + 1]
    assert only("EXPOSE") == port
    program, _, code = json.loads(only("HEALTHCHECK").partition("CMD ")[2])
    assert program == "python"
    compile(code, "healthcheck", "exec")
    assert f"127.0.0.1:{port}/v2/health/ready" in code


@pytest.mark.parametrize("name", ["mlflow", "serve"])
def test_services_of_the_compose_file_run_what_is_installed(name):
    service = COMPOSE["services"][name]
    assert service["image"] == "applied-papers"
    words = list(service["command"])
    if words[0] == "apps":
        assert parsed(words[1:]) == "serve"
    else:
        from mlflow.cli import cli

        known = {option for found in cli.commands["server"].params for option in found.opts}
        assert words[:2] == ["mlflow", "server"]
        assert {word.partition("=")[0] for word in words[2:]} <= known
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def test_secrets_are_asked_for_and_databases_are_kept():
    services = COMPOSE["services"]
    assert services["database"]["environment"]["POSTGRES_PASSWORD"].startswith("${DATABASE_PASSWORD:?")
    assert services["serve"]["environment"]["APPS_TOKEN"].startswith("${APPS_TOKEN:?")
    assert {
        word.partition(":")[0] for name in ("database", "mlflow") for word in services[name]["volumes"]
    } == set(COMPOSE["volumes"])
    assert ".env" in (ROOT / ".gitignore").read_text().split()
