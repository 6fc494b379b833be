"""Between the network and its kernels: lays out buffers, fills the records that steer the kernels, and calls them.

No mathematics here. A call of a kernel is cut to about a tenth of a second, so that Ctrl-C, progress bars and callbacks
get their turn.

``engine`` decides, by a network's sizes, what is done how; ``loops`` has compiled what the tables define; ``arguments`` is what
kernels are called with. ``session`` calls the kernel that trains, ``training`` tells it the steps of an optimizer, ``partition``
shares weights out to threads; ``prediction`` calls the kernel that predicts.
"""

from fastmlp.engine.engine import Engine, compile_kernels
from fastmlp.engine.training import CompiledTrainer

__all__ = ["CompiledTrainer", "Engine", "compile_kernels"]
