"""Between the network and its kernels: lays out buffers, fills the records that steer the kernels, and calls them.

No mathematics here. A call of a kernel is cut to about a tenth of a second, so that Ctrl-C, progress bars and callbacks
get their turn.

``engine`` is what a network asks, and keeps what the next call can use again. ``blocking`` decides, by a network's sizes, how the
work is cut, by the numbers in ``limits``; ``records`` writes down for the kernels what the network is, and has the loops of
``loops`` compiled. ``arguments`` is what kernels are called with. ``session`` calls the kernel that trains, ``training`` tells it
the steps of an optimizer, ``partition`` shares weights out to threads; ``prediction`` calls the kernel that predicts; ``ahead``
compiles them all.
"""

from fastmlp.engine.ahead import compile_kernels
from fastmlp.engine.engine import Engine
from fastmlp.engine.training import CompiledTrainer

__all__ = ["CompiledTrainer", "Engine", "compile_kernels"]
