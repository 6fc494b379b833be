"""``python -m fastmlp`` and the ``fastmlp`` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line, or say what it needs."""
    try:
        import typer  # noqa: F401  # of the extra
    except ImportError:
        sys.exit("The fastmlp command needs a few more packages: pip install 'fastmlp[cli]'")
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:  # a name that the terminal has no letters for is no reason to fail
        reconfigure(errors="backslashreplace")
    try:
        from fastmlp.cli import app

        app(windows_expand_args=False)  # a glob is one argument, as in quotes elsewhere
    except KeyboardInterrupt:  # while modules were being imported
        sys.exit(130)


if __name__ == "__main__":
    main()
