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


def _wait_asleep() -> None:
    """Let threads of GNU OpenMP, torch's on Linux, wait for each other asleep after a short while awake.

    Awake they hold the core that the thread they wait for may need: on two cores with a load of twelve a step
    of a small network took 300 ms so, and 9 ms with this. What is computed stays the same.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(os.environ):
        os.environ["GOMP_SPINCOUNT"] = "1000"


def main() -> None:
    """Load the command line and run it."""
    _wait_asleep()
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
