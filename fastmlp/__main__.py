"""``python -m fastmlp`` and the ``fastmlp`` command."""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    """Run the command line, or say what it needs."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # rather than ignored, as in the background
        # At once, as there is nothing to tidy up: an exception can be swallowed by what runs during an import, which prints it.
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    try:
        import typer  # noqa: F401  # of the extra
    except ImportError:
        sys.exit("The fastmlp command needs a few more packages: pip install 'fastmlp[cli]'")
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # it was closed, as >&- does
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  # until the end
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:  # a name that the terminal has no letters for is no reason to fail
        utf_8 = {} if sys.stdout.isatty() else {"encoding": "utf-8"}  # a file or a program gets every letter
        reconfigure(errors="backslashreplace", **utf_8)
    from fastmlp.cli import app
    from fastmlp.cli.checks import failed_at

    signal.signal(signal.SIGINT, before)
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:  # which would leave half-written files and copies of rows behind
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        app(windows_expand_args=False)  # a glob is one argument, as in quotes elsewhere
    except KeyboardInterrupt:  # so early that the command had not begun
        sys.exit(130)
    except OSError as error:  # of help, which is written before a command begins
        sys.exit(failed_at(error))


if __name__ == "__main__":
    main()
