"""The command line: ``fastmlp train``, ``predict``, ``evaluate``, ``info``, ``export``, ``warmup`` and ``bench``.

``commands`` is what a person can say; ``checks`` says in one sentence what is wrong with it, before any work. ``training`` trains
on a table, ``demo`` on digits beside plain NumPy; ``predictions`` writes predictions batch by batch.
"""

from fastmlp.cli.commands import app

__all__ = ["app"]
