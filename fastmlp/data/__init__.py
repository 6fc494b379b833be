"""Where rows come from: sources for ``fit``, of files of any length; and tables, prepared for a network and predicted.

Tables need ``pip install 'fastmlp[cli]'``.
"""

from fastmlp.data.cache import cached as cached
from fastmlp.data.errors import TableError as TableError
from fastmlp.data.sources import Source as Source
from fastmlp.data.sources import from_blocks as from_blocks
from fastmlp.data.sources import from_npy as from_npy
from fastmlp.data.tables import from_files as from_files
