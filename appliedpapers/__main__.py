"""``apps``, and ``python -m appliedpapers``: the door to the command line.

The modules of the command line take some tenths of a second to load. Ctrl-C ends that with one word, not with
the traceback of whichever import was cut.
"""

import os
import signal


def _leave(signum: int, frame: object) -> None:
    # nothing was begun, so nothing has to be finished
    os.write(2, b"interrupted.\n")
    os._exit(130)


def main() -> None:
    """Load the command line and run it."""
    # a shell that put us into the background has Ctrl-C ignored, which stays
    waits = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if waits:
        signal.signal(signal.SIGINT, _leave)
    from appliedpapers import cli

    if waits:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    cli.main()


if __name__ == "__main__":
    main()
