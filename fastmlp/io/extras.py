"""Optional dependencies: imported when used, and a sentence that says how to get them when they are missing."""

from __future__ import annotations

import importlib
from types import ModuleType


def require(module: str, extra: str) -> ModuleType:
    """Import a module of an extra.

    Raises
    ------
    ImportError
        With the command that installs it, or why it cannot be imported although it is there.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if isinstance(error.__cause__, KeyboardInterrupt):  # which a compiled module's own import has made an ImportError of
            raise error.__cause__ from None
        package = module.partition(".")[0]
        is_missing = isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == package
        if not is_missing:  # but a library of the system's, say, or another package that it needs
            why = " ".join(str(error).split()).rstrip(".")
            raise ImportError(f"{package} is needed for this and is installed, but cannot be imported: {why}.") from error
        raise ImportError(f"{package} is needed for this and is not installed: pip install 'fastmlp[{extra}]'.") from error
