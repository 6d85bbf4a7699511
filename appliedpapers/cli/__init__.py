"""The face: each command parses, calls one pipeline function, prints.

Data goes to stdout, progress and messages to stderr. Exit codes: 0 ok, 1 run failed, 2 usage or
configuration, 3 plugin unknown or unavailable, 4 data contract, 5 quality gate, 75 locked, 130 interrupted.
"""

from __future__ import annotations

import errno
import gc
import os
import platform
import re
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from appliedpapers import __version__
from appliedpapers.cli import compare, models, plugins, production, schedule, training
from appliedpapers.cli.output import settle_streams
from appliedpapers.core.errors import AppsError, DataError, did_you_mean

_NO_NAME = (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR)
_OF_THE_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)

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
compare.attach(app)
models.attach(app)
production.attach(app)
schedule.attach(app)


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
    code = _run(words, debug)
    # what torch and MLflow left need not be searched for garbage before the process ends: 2 s of a run
    gc.freeze()
    sys.exit(code)


def _run(words: list[str], debug: bool) -> int:
    signal.signal(signal.SIGTERM, _interrupt)
    settle_streams()
    # MLflow asks for it at import, which starts a process: Ctrl-C just then would leave that one behind
    vars(platform.uname())["processor"] = ""
    try:
        if words == ["list"]:
            # typer reads options with pydantic, which takes longer to import than the list to make
            plugins.list_plugins()
            code = 0
        else:
            code = int(app(args=words, prog_name="apps", standalone_mode=False) or 0)
        sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except BrokenPipeError:
        # the reader of our stdout left, as `head` does; nothing is wrong
        _leave_stdout()
        return 0
    except SystemExit as error:
        # typer's way to say the same
        if not isinstance(error.__context__, BrokenPipeError):
            raise
        _leave_stdout()
        return 0
    except Exception as error:
        if debug and not _is_usage(error):
            raise
        return _report(error)
    if code == 130:
        # typer makes the code of it and says nothing
        print("interrupted.", file=sys.stderr)
    return code


def _report(error: Exception) -> int:
    if isinstance(error, AppsError):
        print(error.render(), file=sys.stderr)
        return error.exit_code
    if _is_usage(error):
        print(usage_text(error), file=sys.stderr)
        return 2
    if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE:
        from appliedpapers.core.files import write_error

        if error.filename is None:
            _leave_stdout()
        print(write_error(Path(error.filename or "stdout"), error).render(), file=sys.stderr)
        return 1
    if isinstance(error, OSError) and error.errno in _NO_NAME and error.filename:
        words = f"{error.filename}: cannot be opened ({error.strerror})."
        print(DataError(words, hint="Check the path.").render(), file=sys.stderr)
        return DataError.exit_code
    if isinstance(error, MemoryError):
        print("run error: out of memory.\n  Use less data, or smaller batches.", file=sys.stderr)
        return 1
    text = str(error).splitlines()[0] if str(error) else ""
    print(f"internal error: {type(error).__name__}: {text}", file=sys.stderr)
    print("  This is a defect of ours. Add --debug to see where, and report it.", file=sys.stderr)
    return 1


def _leave_stdout() -> None:
    """Let what is still buffered go nowhere, or the interpreter would complain at its end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _is_usage(error: Exception) -> bool:
    # typer keeps its exceptions private
    return hasattr(error, "format_message") and hasattr(error, "exit_code")


def usage_text(error: Exception) -> str:
    """Return what typer complains of in our words: what is wrong, and what to do."""
    message: str = error.format_message()  # type: ignore[attr-defined]
    hint = "apps --help lists the commands."
    context = getattr(error, "ctx", None)
    if context is not None:
        if message == context.get_help():
            return message
        hint = f"{context.command_path} --help lists what it takes."
        message, hint = _unknown_word(message, context.command) or (message, hint)
    message = " ".join(message.split())
    return f"usage error: {message[0].lower()}{message[1:]}\n  {hint}"


def _unknown_word(message: str, command: Any) -> tuple[str, str] | None:
    commands = getattr(command, "commands", None)
    unknown = re.search(r"No such command '(.*?)'", message)
    if commands and unknown:
        word = unknown.group(1)
        return f"no command is called '{word}'.", did_you_mean(word, commands)
    unknown = re.search(r"No such option: (\S+?)\.?(\s|$)", message)
    if unknown:
        word = unknown.group(1)
        options = [name for parameter in command.params for name in parameter.opts if name.startswith("--")]
        return f"no option is called '{word}'.", did_you_mean(word, [*options, "--help"])
    return None


def _interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt
