"""The compiled part: flat arrays and numbers in, flat arrays out; nothing here knows a Python object of the library.

Begin with ``epoch``, which runs minibatches. It calls, in the order of a step: ``gather``, ``forward``, ``output``, ``delta``
and ``gradient``, of which the three of the equations are made of the one ``product``; ``chunk`` joins them, and ``slots`` and
``copies`` are other ways for threads to share a batch. ``bands``, ``layered``, ``sparse`` and ``bins`` are other ways to do a
part of it, ``online`` and ``narrow`` kernels of their own for one sample a step, ``predict`` is the way forward alone.
``shuffle`` and ``hashes`` are random orders and dropout, ``columns`` makes rows of tables. ``plan`` and ``operands`` say what
all of them are given. Beneath: ``team`` and ``processors`` (threads), ``loops`` and ``elementary`` (formulas), ``simd``
(instructions), ``jit``, ``pipeline`` and ``cache`` (compilation).

How arrays are named
--------------------
An array is flat, and handed over as a whole: ``x`` with ``x0``, the element where the matrix at hand begins, and, unless rows
follow on each other, ``ld``, the distance between them ("leading dimension", as in BLAS). A docstring that says "out (rows, width)
at o0" means that. In ``forward``, z, a and W are those of :mod:`fastmlp.reference`; ``i0`` is where inputs begin, ``o0`` outputs,
``d0`` deltas, ``w0`` weights, ``g0`` a gradient, ``t0`` transposed weights, ``c0`` a step's coefficients.

Words
-----
panel
    16 rows that go through all layers together.
chunk
    Rows of a batch that the workspace holds at once; the gradients of a batch's chunks are added up.
block
    Some rows and columns of one layer's weights, with the bias if they are the last rows: what a thread computes the gradient of,
    and updates, at a time. (In ``output``, a panel of outputs that is transposed; in ``layered``, columns that are packed.)
bin
    A range of the features of sparse samples: the gradient of the weights that belong to it stays in a first-level cache.
band
    A range of the features of wide samples, with the weights of the first layer that belong to it.
copy
    Of the layers above bands: a thread's own, so that threads meet once in a batch.
slot
    A partial gradient; each thread adds whole chunks to its own slots.
strip
    Eight columns of a layer's inputs, row after row, for gradients of what is done layer by layer; in
    :mod:`fastmlp.engine.partition`, eight rows of weights.
meeting, ticket
    The number of a barrier; of a piece of work that whoever is free takes.
workspace, scratch memory
    Activations and deltas of all threads; what each has for itself.
"""
