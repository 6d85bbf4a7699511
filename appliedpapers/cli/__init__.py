"""The face: each command parses, calls one pipeline function, prints.

Data goes to stdout, progress and messages to stderr. Exit codes: 0 ok, 1 run failed, 2 usage or
configuration, 3 plugin unknown or unavailable, 4 data contract, 5 quality gate, 75 locked, 130 interrupted.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from appliedpapers import __version__
from appliedpapers.cli import models, plugins, production, training
from appliedpapers.core.errors import AppsError, did_you_mean

app = typer.Typer(
    name="apps",
    help="Applied Papers: train, evaluate honestly, register, serve and score with applied ML papers.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
plugins.attach(app)
training.attach(app)
models.attach(app)
production.attach(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"apps {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error (anywhere on the line).")
    ] = False,
) -> None:
    """Hold the options that every command takes."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with the documented code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    sys.exit(_run(words, debug))


def _run(words: list[str], debug: bool) -> int:
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        code = app(args=words, prog_name="apps", standalone_mode=False)
        return int(code or 0)
    except AppsError as error:
        if debug:
            raise
        print(error.render(), file=sys.stderr)
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # the reader of our stdout left, as `head` does; nothing is wrong
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        return _report(error, debug)


def _report(error: Exception, debug: bool) -> int:
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):
        print(f"usage error: {_usage_text(error)}", file=sys.stderr)
        return 2
    if debug:
        raise error
    text = str(error).splitlines()[0] if str(error) else ""
    print(f"internal error: {type(error).__name__}: {text}", file=sys.stderr)
    print("  This is a defect of ours. Add --debug to see where, and report it.", file=sys.stderr)
    return 1


def _usage_text(error: Exception) -> str:
    message = " ".join(error.format_message().split())  # type: ignore[attr-defined]
    hint = "apps --help lists the commands."
    context = getattr(error, "ctx", None)
    if context is not None:
        hint = f"{context.command_path} --help lists what it takes."
        choices = getattr(context.command, "commands", None)
        unknown = re.search(r"No such command '(.*?)'", message)
        if choices and unknown:
            word = unknown.group(1)
            message, hint = f"no command is called '{word}'.", did_you_mean(word, choices)
    return f"{message}\n  {hint}"


def _interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt
