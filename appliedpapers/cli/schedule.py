"""Commands that run others when they are due: schedule."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from appliedpapers.cli import options
from appliedpapers.cli.output import Interrupted, print_columns, print_json
from appliedpapers.core.errors import ConfigError

if TYPE_CHECKING:
    from appliedpapers.pipelines.schedule_firing import Firing, StoredJob
    from appliedpapers.pipelines.schedule_jobs import Job

_TIMES_SHOWN = 5

schedule_app = typer.Typer(
    help="Scoring and retraining when they are due.", no_args_is_help=True, rich_markup_mode=None
)

Name = Annotated[str, typer.Argument(help="Name of a job.", metavar="JOB")]
Folder = Annotated[
    Path, typer.Option("--folder", envvar="APPS_SCHEDULE", help="Folder of the ledger and the logs.")
]
DEFAULT_FOLDER = Path("schedule")


def attach(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(schedule_app, name="schedule")


@schedule_app.command("add")
def add(
    source: Annotated[Path, typer.Argument(help="YAML file of jobs, or a folder of such files.")],
    folder: Folder = DEFAULT_FOLDER,
    as_json: options.Json = False,
) -> None:
    """Add the jobs in a file, or change those that are there; each line is checked first."""
    from appliedpapers.pipelines.schedule_jobs import read_jobs
    from appliedpapers.pipelines.schedule_ledger import Ledger

    jobs = read_jobs(source)
    homes = {name: (Path.cwd() / (job.folder or "")).resolve() for name, job in jobs.items()}
    for name, job in jobs.items():
        _check(source, name, job, homes[name])
    ledger, now = Ledger(folder), datetime.now(UTC)
    done = {name: ledger.put_job(name, job, homes[name], now) for name, job in jobs.items()}
    if as_json:
        print_json(done)
        return
    for name, what in done.items():
        due = jobs[name].trigger.next(now)
        print(f" {what:<9}  {name}  {jobs[name].when}  next {_local(due, jobs[name].timezone)}")


@schedule_app.command("list")
def list_jobs(folder: Folder = DEFAULT_FOLDER, as_json: options.Json = False) -> None:
    """List the jobs: when they are due and how the last firing went."""
    from appliedpapers.pipelines.schedule_ledger import DATABASE, Ledger

    # looking makes no ledger
    ledger = Ledger(folder) if (folder / DATABASE).is_file() else None
    listed = []
    for stored in ledger.jobs() if ledger else []:
        assert ledger is not None
        firings = ledger.firings(stored.name, latest=1)
        listed.append(_summary(stored, firings[-1] if firings else None))
    if as_json:
        print_json(listed)
        return
    rows = [
        (
            item["name"],
            item["kind"],
            item["when"],
            "paused" if item["paused"] else _local(item["next"], item["timezone"]),
            f"{item['last']['state']} ({item['last']['scheduled_for']})" if item["last"] else "-",
        )
        for item in listed
    ]
    print_columns(("job", "kind", "when", "next", "last"), rows)
    if not rows:
        print(" none yet. apps schedule add FILE adds jobs.")


@schedule_app.command("show")
def show(name: Name, folder: Folder = DEFAULT_FOLDER, as_json: options.Json = False) -> None:
    """Show a job: what it says, the command that it runs, and when it is due next."""
    import yaml

    from appliedpapers.pipelines.schedule_jobs import command_line
    from appliedpapers.pipelines.schedule_ledger import Ledger

    stored = Ledger(folder, create=False).job(name)
    moment = datetime.now(UTC)
    times: list[datetime] = []
    while len(times) < _TIMES_SHOWN and (due := stored.job.trigger.next(moment)) is not None:
        times.append(due)
        moment = due
    command = command_line(stored.job.words(name, times[0] if times else moment))
    document = stored.job.model_dump(mode="json", exclude_none=True)
    if as_json:
        facts = {"name": name, "folder": stored.folder, "paused": stored.paused, "command": command}
        print_json({**facts, "job": document, "next": [due.isoformat() for due in times]})
        return
    print(f" job      {name}{' (paused)' if stored.paused else ''}")
    print(f" folder   {stored.folder}")
    print(f" command  {command}")
    for number, due in enumerate(times):
        print(f" {'next' if number == 0 else '':<7}  {_local(due, stored.job.timezone)}")
    print(yaml.safe_dump({"jobs": {name: document}}, sort_keys=False, allow_unicode=True).rstrip())


@schedule_app.command("remove")
def remove(name: Name, folder: Folder = DEFAULT_FOLDER) -> None:
    """Forget a job; its history and its logs stay, and a command at work goes on."""
    from appliedpapers.pipelines.schedule_ledger import Ledger

    Ledger(folder, create=False).remove_job(name)
    print(f" removed  {name}")


@schedule_app.command("pause")
def pause(name: Name, folder: Folder = DEFAULT_FOLDER) -> None:
    """Let a job rest until it is resumed; a command at work goes on."""
    from appliedpapers.pipelines.schedule_ledger import Ledger

    Ledger(folder, create=False).set_paused(name, True, datetime.now(UTC))
    print(f" paused  {name}")


@schedule_app.command("resume")
def resume(name: Name, folder: Folder = DEFAULT_FOLDER) -> None:
    """Let a paused job run again; what was due meanwhile is not made up for."""
    from appliedpapers.pipelines.schedule_ledger import Ledger

    ledger, now = Ledger(folder, create=False), datetime.now(UTC)
    ledger.set_paused(name, False, now)
    job = ledger.job(name).job
    print(f" resumed  {name}  next {_local(job.trigger.next(now), job.timezone)}")


@schedule_app.command("run")
def run(
    folder: Folder = DEFAULT_FOLDER,
    parallel: Annotated[int, typer.Option("--parallel", min=1, help="Most commands at a time.")] = 2,
) -> None:
    """Run the daemon: start what is due, try again what failed, until SIGTERM or Ctrl-C."""
    from appliedpapers.pipelines.schedule import run_daemon
    from appliedpapers.pipelines.schedule_ledger import Ledger

    run_daemon(Ledger(folder), parallel=parallel)


@schedule_app.command("run-once")
def run_once(
    name: Name,
    scheduled_for: Annotated[
        str | None,
        typer.Option("--scheduled-for", metavar="TIME", help="Due time, ISO 8601; default: now."),
    ] = None,
    folder: Folder = DEFAULT_FOLDER,
    as_json: options.Json = False,
) -> None:
    """Run one firing here and now, with its retries; one that is done is not done again."""
    from appliedpapers.pipelines.schedule import run_once as pipeline
    from appliedpapers.pipelines.schedule_ledger import Ledger
    from appliedpapers.pipelines.schedule_runner import stop_signals

    ledger = Ledger(folder, create=False)
    due = _moment(scheduled_for, ledger.job(name).job)
    with stop_signals() as stop:
        try:
            firing = pipeline(ledger, name, due, stop=stop)
        except KeyboardInterrupt:
            raise Interrupted(
                f"job {name} was stopped.",
                hint=f"It goes on with: apps schedule run-once {name} --scheduled-for {due.isoformat()}",
            ) from None
    if as_json:
        print_json(asdict(firing))
    else:
        print(f" {firing.state}  {firing.result or firing.reason or ''}".rstrip())
    if firing.state != "done":
        raise typer.Exit(firing.exit_code if firing.exit_code and firing.exit_code > 0 else 1)


@schedule_app.command("history")
def history(
    name: Annotated[str | None, typer.Argument(help="Name of a job; default: all.", metavar="JOB")] = None,
    state: Annotated[
        str | None, typer.Option("--state", help="waiting, running, done, failed or missed.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Most firings, the latest.")] = 20,
    folder: Folder = DEFAULT_FOLDER,
    as_json: options.Json = False,
) -> None:
    """Show what became of firings, also of removed jobs: state, tries, model version, result, log."""
    from appliedpapers.core.errors import did_you_mean
    from appliedpapers.pipelines.schedule_firing import STATES
    from appliedpapers.pipelines.schedule_ledger import Ledger

    ledger = Ledger(folder, create=False)
    if state is not None and state not in STATES:
        raise ConfigError(f"--state {state}: no such state.", hint=did_you_mean(state, STATES))
    firings = ledger.firings(name, [state] if state else [], latest=limit)
    if name is not None and not firings and state is None:
        ledger.job(name)
    if as_json:
        print_json([_plain(firing) for firing in firings])
        return
    rows = [
        (
            firing.job,
            firing.scheduled_for,
            firing.state,
            str(firing.attempts),
            _took(firing),
            f"{firing.model} {firing.model_version or ''}".strip() if firing.model else "-",
            firing.reason or firing.result or "-",
        )
        for firing in firings
    ]
    print_columns(("job", "due", "state", "tries", "took", "model", "what came of it"), rows)
    logs = [firing.log for firing in firings if firing.log and firing.state in ("failed", "waiting")]
    if logs:
        print(f" log of the last failure  {logs[-1]}")


@schedule_app.command("schema")
def schema() -> None:
    """Print the JSON Schema of a job file, for editors."""
    from appliedpapers.pipelines.schedule_jobs import jobs_schema

    print_json(jobs_schema())


def _check(source: Path, name: str, job: Job, folder: Path) -> None:
    """Read the job's command as it will be read at night, plugin and configuration included."""
    from appliedpapers.cli import app
    from appliedpapers.core.errors import AppsError

    if not folder.is_dir():
        raise ConfigError(f"{source}: job {name}: folder {folder} is not there.", hint="Make it first.")
    words = job.words(name, datetime.now(UTC))
    command: Any = typer.main.get_command(app)
    context = None
    try:
        for _ in range(2 if job.kind == "score" else 1):
            context = command.context_class(command, info_name=words[0], parent=context)
            command = command.commands[words.pop(0)]
        context = command.make_context(command.name, words, parent=context)
        if job.kind == "run":
            _check_run(context, folder)
    except AppsError as error:
        raise type(error)(f"{source}: job {name}: {error.message}", hint=error.hint) from None
    except Exception as error:
        from appliedpapers.cli import usage_text

        if not hasattr(error, "format_message"):
            raise
        said, _, hint = usage_text(error).removeprefix("usage error: ").partition("\n  ")
        raise ConfigError(f"{source}: job {name}: {said}", hint=hint) from None


def _check_run(context: Any, folder: Path) -> None:
    from appliedpapers.core.config import resolve_config

    given = context.params
    file = given["config"] and folder / given["config"]
    assignments = [*options.plugin_flags(context, given["plugin"], given["task"]), *(given["sets"] or [])]
    resolve_config(
        given["plugin"],
        task=given["task"],
        preset=given["preset"],
        file=file,
        assignments=assignments,
        dataset=given["dataset"],
    )


def _summary(stored: StoredJob, last: Firing | None) -> dict[str, Any]:
    due = None if stored.paused else stored.job.trigger.next(datetime.now(UTC))
    facts = {"name": stored.name, "kind": stored.job.kind, "when": stored.job.when, "paused": stored.paused}
    return {**facts, "timezone": stored.job.timezone, "next": due, "last": _plain(last) if last else None}


def _plain(firing: Firing) -> dict[str, Any]:
    """Return a firing with times as a person writes them."""
    values = asdict(firing)
    for key in ("next_try", "started", "ended", "heartbeat"):
        if values[key] is not None:
            values[key] = datetime.fromtimestamp(values[key], UTC).isoformat(timespec="seconds")
    return {key: value for key, value in values.items() if key not in ("owner_born", "pid_born")}


def _took(firing: Firing) -> str:
    if firing.started is None or firing.ended is None:
        return "-"
    return f"{firing.ended - firing.started:,.0f} s"


def _local(moment: datetime | None, zone: str) -> str:
    from appliedpapers.pipelines.schedule_times import time_zone

    return "never" if moment is None else f"{moment.astimezone(time_zone(zone)):%a %Y-%m-%d %H:%M %Z}"


def _moment(text: str | None, job: Job) -> datetime:
    from appliedpapers.pipelines.schedule_times import time_zone

    if text is None:
        return datetime.now(UTC).replace(microsecond=0)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"--scheduled-for {text}: not a time.", hint="Expected ISO 8601, such as 2026-11-22T02:30:00Z."
        ) from None
    local = found if found.tzinfo else found.replace(tzinfo=time_zone(job.timezone))
    return local.astimezone(UTC).replace(microsecond=0)
