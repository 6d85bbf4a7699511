"""Jobs in YAML: what they become, and what is said of those that are wrong."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from scheduled_jobs import job

from appliedpapers.core.errors import ConfigError
from appliedpapers.pipelines.schedule_jobs import Job, command_line, jobs_schema, read_jobs

GOOD = """\
jobs:
  nightly:
    score:
      model: frets@champion
      input: ['inbox/*.parquet', more.csv]
      output: scores/{date}
      strict: true
    cron: 30 2 * * *
    timezone: Europe/Berlin
  weekly:
    run: {plugin: frets, set: [model.horizon=48], register: false, seed: 3}
    every: 7d
"""


def read(folder: Path, text: str) -> dict[str, Job]:
    (folder / "jobs.yaml").write_text(text)
    return read_jobs(folder / "jobs.yaml")


def test_a_job_is_the_command_that_a_person_would_type(tmp_path):
    jobs = read(tmp_path, GOOD)
    # 02:30 in Berlin is the evening before in UTC only in part of the year; the folder is the local day's
    due = datetime(2026, 11, 22, 23, 30, tzinfo=UTC)
    assert command_line(jobs["nightly"].words("nightly", due)) == (
        "apps score run --model=frets@champion '--input=inbox/*.parquet' --input=more.csv "
        "--output=scores/2026-11-23 --strict"
    )
    assert command_line(jobs["weekly"].words("weekly", due)) == (
        "apps run frets --set=model.horizon=48 --no-register --seed=3"
    )


def test_every_placeholder_speaks_of_the_due_time_on_the_job_s_clock():
    text = "{job} {scheduled_for} {date} {time} {year} {month} {day} {hour}"
    made = job(score={"output": text}, timezone="Asia/Tokyo")
    (word,) = made.words("n", datetime(2026, 1, 31, 20, 5, tzinfo=UTC))[2:]
    assert word == "--output=n 2026-01-31T200500Z 2026-02-01 0505 2026 02 01 05"


def test_a_value_is_one_word_whatever_is_in_it():
    nasty = "$(reboot); `x` --strict\n| tee"
    words = job(score={"model": nasty}).words("n", datetime.now(UTC))
    assert words == ["score", "run", f"--model={nasty}"]


def change(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


@pytest.mark.parametrize(
    ("text", "line", "said", "hint"),
    [
        (change("cron:", "crom:"), 8, "unknown key 'crom'", "Did you mean 'cron'?"),
        (change("30 2 * * *", "30 25 * * *"), 8, "higher than the maximum", "schema"),
        (change("Berlin", "Berln"), 9, "Did you mean 'Europe/Berlin'", "schema"),
        (change("strict: true", "strict: {a: 1}"), 7, "score.strict: expected a text", "schema"),
        (change("strict: true", "strict: null"), 7, "score.strict: expected a text", "schema"),
        (change("strict: true", "json: true"), 3, "'json' is the schedule's own", "schema"),
        (change("{date}", "{dat}"), 3, "Did you mean 'date'", "schema"),
        (change("every: 7d", "every: weekly"), 12, "'weekly' is no duration", "schema"),
        (change("every: 7d", "cron: 0 4 * * 0\n    every: 7d"), 10, "cron or every, not both", "schema"),
        (change("    every: 7d\n", ""), 10, "either cron or every, not none", "schema"),
        (change("plugin: frets, ", ""), 10, "run needs a plugin", "schema"),
        (GOOD + "    retries: -1\n", 13, "retries: input should be greater", "schema"),
        (GOOD + "    catch_up: some\n", 13, "'none', 'latest' or 'all', not 'some'", "schema"),
        (GOOD + "    on_failure: {}\n", 13, "says neither command nor webhook", "schema"),
        (GOOD + "    on_failure: {command: rm -rf}\n", 13, "on_failure.command", "schema"),
        (GOOD + "    on_failure: {webhok: x}\n", 13, "unknown key 'webhok'", "Did you mean 'webhook'?"),
        (GOOD + "    on_failure: {webhook: 'file:///etc/passwd'}\n", 13, "is no address", "schema"),
        (GOOD + "  weekly:\n    every: 1d\n", 13, "'weekly' is there twice", "Keep one"),
        (GOOD + "  none:\n", 13, "this is not a mapping", "key: value"),
        (change("nightly", "Nightly Scores"), 2, "is no name for a job", "small letters"),
        (change("cron: 30 2", "cron: * 2"), 8, "expected alphabetic", "Quote"),
        ("jobs: {}\n", 1, "not a file of jobs", "jobs:"),
        ("", 1, "not a file of jobs", "jobs:"),
        ("- 1\n", 1, "not a file of jobs", "jobs:"),
        (GOOD + "other: 1\n", 1, "not a file of jobs", "jobs:"),
    ],
)
def test_an_error_names_file_line_and_remedy(tmp_path, text, line, said, hint):
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    first, _, _ = caught.value.render().partition("\n")
    assert f"jobs.yaml, line {line}" in first
    assert said in first
    assert hint in (caught.value.hint or "")


def test_a_folder_of_files_is_read_and_a_name_stands_in_one_of_them(tmp_path):
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "b.yml").write_text(GOOD.replace("nightly", "daily").replace("weekly", "monthly"))
    assert sorted(read_jobs(tmp_path)) == ["daily", "monthly", "nightly", "weekly"]
    (tmp_path / "c.yaml").write_text(GOOD)
    with pytest.raises(ConfigError, match=r"c\.yaml: job 'nightly' is also in .*a\.yaml"):
        read_jobs(tmp_path)


def test_a_folder_without_jobs_and_a_missing_file_are_said(tmp_path):
    with pytest.raises(ConfigError, match="no YAML file"):
        read_jobs(tmp_path)
    with pytest.raises(ConfigError, match="no such file"):
        read_jobs(tmp_path / "none.yaml")
    (tmp_path / "jobs.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_jobs(tmp_path / "jobs.yaml")


def test_the_published_schema_accepts_what_we_accept_and_refuses_what_we_refuse():
    schema = jobs_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(yaml.safe_load(GOOD), schema)
    for wrong in (change("cron:", "crom:"), change("every: 7d", "every: x"), change("nightly", "Not one")):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(yaml.safe_load(wrong), schema)


def test_a_job_comes_back_from_the_ledger_s_text_as_it_was():
    made = job(on_failure={"command": ["a", "b"]}, retries=5, timeout="90s")
    assert Job.model_validate(json.loads(made.model_dump_json(exclude_unset=True))) == made


KEYS = st.sampled_from(["jobs", "score", "run", "cron", "every", "on_failure", "model", "a"])
LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=8)
ANYTHING = st.recursive(
    LEAVES,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(KEYS, below, max_size=4),
    max_leaves=12,
)


@settings(max_examples=40)
@given(ANYTHING)
def test_whatever_yaml_says_the_answer_is_jobs_or_one_line(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("any")
    said = ""
    try:
        found = read(folder, yaml.safe_dump(content if isinstance(content, dict) else {"jobs": content}))
    except ConfigError as error:
        said, found = error.message, {}
    assert "\n" not in said
    assert "jobs.yaml" in said if not found else all(isinstance(made, Job) for made in found.values())
