"""The token stays a secret, and who does not say otherwise serves this machine alone."""

from __future__ import annotations

import hmac
import inspect
import json

import httpx
import pytest
from serve_processes import apps_serve
from starlette.datastructures import Headers

from appliedpapers.cli import production
from appliedpapers.core.errors import ConfigError
from appliedpapers.pipelines import serving_guard
from appliedpapers.pipelines.serving_settings import ServeSettings

ROW = {"plot": "a", "heat": 11.5, "moisture": None, "soil": "clay", "visits": 2}
SECRET = "open-sesame-4711"


def test_the_token_is_in_no_log_answer_or_metric(tiny, tmp_path):
    file, log = tmp_path / "token", tmp_path / "access.jsonl"
    file.write_text(f"{SECRET}\n")
    file.chmod(0o600)
    bodies = (json.dumps({"dataframe_records": [ROW]}), "{", json.dumps({"dataframe_records": [{}]}))
    with apps_serve(tiny.bundle, "--access-log", log, "--token-file", file) as (process, address):
        said = []
        right, wrong = ({"Authorization": f"Bearer {word}"} for word in (SECRET, f"{SECRET}x"))
        with httpx.Client(base_url=address, headers=right, timeout=60) as client:
            for body in bodies:
                answer = client.post(
                    "/invocations", content=body, headers={"Content-Type": "application/json"}
                )
                said.append(answer)
            said += [client.get(path) for path in ("/", "/openapi.json", "/v2", "/nothing", "/metrics")]
        said.append(httpx.get(f"{address}/v2", headers=wrong, timeout=60))
        process.terminate()
        process.wait(60)
    assert [answer.status_code for answer in said] == [200, 400, 422, 200, 200, 200, 404, 200, 401]
    told = "".join(process.said) + log.read_text()
    assert len(log.read_text().splitlines()) >= len(said)
    assert SECRET not in told + "".join(f"{answer.headers} {answer.text}" for answer in said)


def test_settings_that_are_printed_do_not_hold_the_token():
    assert SECRET not in repr(ServeSettings(token=SECRET))
    assert SECRET not in f"{ServeSettings(token=SECRET)}"


def test_the_token_is_compared_in_constant_time(monkeypatch):
    asked = []
    whole = hmac.compare_digest
    monkeypatch.setattr(
        serving_guard.hmac, "compare_digest", lambda a, b: asked.append((a, b)) or whole(a, b)
    )
    for given, right in (("s3cret", True), ("s3creT", False), ("", False)):
        headers = Headers({"authorization": f"Bearer {given}"})
        assert serving_guard._authorised(headers, "s3cret") is right
    assert asked == [(given, b"s3cret") for given in (b"s3cret", b"s3creT", b"")]


def test_without_options_only_this_machine_is_served():
    assert inspect.signature(production.serve).parameters["host"].default == "127.0.0.1"
    assert ServeSettings().host == "127.0.0.1"
    assert not ServeSettings().exposed
    assert ServeSettings(host="0.0.0.0").exposed
    assert ServeSettings().hosts == {"localhost", "127.0.0.1", "[::1]"}
    assert ServeSettings().file_folders == ()


def test_a_token_file_is_read_and_one_that_is_none_is_refused(tmp_path, monkeypatch, capsys):
    file = tmp_path / "token"
    file.write_text(f"{SECRET}\n")
    file.chmod(0o600)
    monkeypatch.setenv("APPS_TOKEN", "from-the-environment")
    assert production._token(file) == SECRET
    assert production._token(None) == "from-the-environment"
    assert capsys.readouterr().err == ""
    file.chmod(0o644)
    assert production._token(file) == SECRET
    told = capsys.readouterr().err
    assert "every user of this machine can read" in told
    assert f"chmod 600 {file}" in told
    assert SECRET not in told
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="it is no UTF-8 text"):
        production._token(file)
    with pytest.raises(ConfigError, match="No such file or directory"):
        production._token(tmp_path / "absent")
    with pytest.raises(ConfigError, match="the token is empty"):
        ServeSettings(token=" ")
