"""How good a model is on rows that it has not seen."""

from __future__ import annotations

import io
import os
import unicodedata
import warnings
from collections.abc import Iterable
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from fastmlp.data.errors import TableError, naming
from fastmlp.data.model import TableModel, best_epoch
from fastmlp.data.preparation import Target, missing_column, shown
from fastmlp.files import replace_file
from fastmlp.io.extras import require

Array = np.ndarray[Any, np.dtype[Any]]


def evaluate(model: TableModel, name: object, parts: Iterable[tuple[object, Any]]) -> dict[str, Any]:
    """Figures of rows that have the target.

    Parameters
    ----------
    model : TableModel
    name : object
        Of all the rows, for errors.
    parts : iterable of (object, pyarrow.Table or pyarrow.RecordBatch)
        The rows, and what they were read from. Only their targets and predictions are kept, not the rows.

    Returns
    -------
    dict
        ``rows``; of classes: ``accuracy``, ``log_loss``, ``roc_auc`` (of several classes the mean of one against the rest; None
        where a class does not occur) and ``confusion``, rows by true class, columns by predicted; of numbers: ``r2``, ``mae``,
        ``rmse``, None where they are too large to be squared.

    Raises
    ------
    TableError
        Where columns are missing or of another kind, a class is not the model's, no row has a target, or a prediction is not
        finite.
    """
    truths: list[Array] = []
    outputs: list[Array] = []
    for source, rows in parts:
        with naming(source):
            truth, output = _truth_and_outputs(model, rows)
        truths.append(truth)
        outputs.append(output)
    target = model.preparation.target
    if sum(map(len, truths)) == 0:
        raise TableError(f"{name}: No row has a value of the target {target.name!r}.")
    try:
        return _measures(target, np.concatenate(truths), np.concatenate(outputs))
    except ValueError as error:  # scikit-learn's, of predictions that are not finite
        raise TableError(f"{name}: The predictions cannot be measured: {error}") from None


def _truth_and_outputs(model: TableModel, rows: Any) -> tuple[Array, Array]:
    """Of those rows that have a target."""
    target = model.preparation.target
    if target.name not in rows.schema.names:
        raise TableError(missing_column(target.name, rows.schema.names))
    truth, there = target.values(rows.column(target.name))
    return truth, model.outputs(rows)[there]


def _measures(target: Target, truth: Array, outputs: Array) -> dict[str, Any]:
    from sklearn import metrics

    if target.classes is None:
        numbers = truth[:, 0] * target.scale + target.mean
        with np.errstate(over="ignore", invalid="ignore"):
            return {
                "rows": len(numbers),
                "r2": finite_or_none(metrics.r2_score(numbers, outputs)) if len(numbers) > 1 else None,
                "mae": finite_or_none(metrics.mean_absolute_error(numbers, outputs)),
                "rmse": finite_or_none(metrics.root_mean_squared_error(numbers, outputs)),
            }
    labels = np.arange(len(target.classes))
    probabilities = outputs.astype(np.float64)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    all_there = len(np.unique(truth)) == len(labels)
    scores = probabilities[:, 1] if len(labels) == 2 else probabilities
    return {
        "rows": len(truth),
        "accuracy": float(metrics.accuracy_score(truth, outputs.argmax(axis=1))),
        "log_loss": float(metrics.log_loss(truth, probabilities, labels=labels)),
        "roc_auc": float(metrics.roc_auc_score(truth, scores, multi_class="ovr", labels=labels)) if all_there else None,
        "confusion": metrics.confusion_matrix(truth, outputs.argmax(axis=1), labels=labels).tolist(),
    }


def finite_or_none(figure: float) -> float | None:
    """None for what JSON has no number for."""
    return float(figure) if np.isfinite(figure) else None


def figures(result: dict[str, Any], target: str) -> str:
    """One line."""
    words = {
        "accuracy": "accuracy", "roc_auc": "ROC AUC", "log_loss": "log loss", "r2": "R2", "mae": "mean absolute error",
        "rmse": "root mean squared error",
    }  # fmt: skip
    parts = [f"{word} {result[key]:.4g}" for key, word in words.items() if result.get(key) is not None]
    rows = f"{result['rows']:,} row{'s' * (result['rows'] != 1)}"
    return f"{shown(target)}, {rows}: {', '.join(parts) or 'the errors are too large for a number'}"


_TRAINING, _VALIDATION, _RATE = "#1f4e79", "#d95f02", "#666666"
_MOST_LABELS = 12


def plot(model: TableModel, result: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """A picture of the training: losses, the learning rate, and of classes the confusion matrix.

    Parameters
    ----------
    model : TableModel
    result : dict
        What :func:`evaluate` has found.
    path : str or path-like
        The end of its name is the format: .png, .svg or .pdf. Replaced if it is there.
    """
    require("matplotlib", "cli")
    from matplotlib.figure import Figure

    classes = model.classes
    figure = Figure(figsize=(11, 5) if classes else (6.6, 5), layout="constrained")
    name, _, words = figures(result, model.preparation.target.name).partition(": ")
    figure.suptitle(f"{name}\n{words}", fontsize=11, parse_math=False)  # a person's dollars are no mathematics
    parts: Any = figure.subfigures(1, 2, width_ratios=(1.25, 1)) if classes else [figure.subfigures(1, 1)]
    losses, rates = parts[0].subplots(2, 1, sharex=True, height_ratios=(3.5, 1))
    _draw_losses(losses, model.history, model.network.loss.replace("_", " "))
    _draw_rates(rates, model.history)
    if classes:
        _draw_confusion(parts[1].subplots(), np.array(result["confusion"]), classes)
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # the font has not every script's; there is a box then
        figure.savefig(content, format=Path(path).suffix.lower().lstrip("."), dpi=150)
    replace_file(path, content.getvalue())


def _draw_losses(axes: Any, history: dict[str, list[float]], name: str) -> None:
    training, validation = history["loss"], history["validation_loss"]
    axes.plot(
        range(1, len(training) + 1), training, color=_TRAINING, label="training rows", marker="." if len(training) < 3 else ""
    )
    axes.plot(range(1, len(validation) + 1), validation, color=_VALIDATION, label="validation rows")
    best = best_epoch(validation)
    axes.plot(best + 1, validation[best], "o", color=_VALIDATION, label=f"kept: epoch {best + 1}, {validation[best]:.4g}")
    low, high = min(*training, *validation), max(*training, *validation)
    axes.set(ylabel=name, yscale="log" if low > 0 and high > 10 * low else "linear")
    axes.legend(frameon=False)
    _tidy(axes)


def _draw_rates(axes: Any, history: dict[str, list[float]]) -> None:
    from matplotlib.ticker import MaxNLocator

    rates = history["learning_rate"]
    axes.step(range(1, len(rates) + 1), rates, where="mid", color=_RATE, marker="." if len(rates) < 3 else "")
    axes.set(xlabel="epoch", ylabel="learning rate", ylim=(0, 1.15 * max(rates)), xlim=(0.5, len(rates) + 0.5))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_yticks([0, max(rates)])
    axes.yaxis.set_major_formatter("{x:g}")
    _tidy(axes)


def _tidy(axes: Any) -> None:
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _width(text: str) -> int:
    """In letters of Latin's width: one of Chinese, say, takes as much room as two."""
    return sum(1 + (unicodedata.east_asian_width(letter) in "FW") for letter in text)


def _in_short(name: str) -> str:
    """A name that leaves the picture its room."""
    if _width(name) <= 16:
        return name
    first, last = (sum(width <= most for width in accumulate(map(_width, part))) for part, most in ((name, 8), (name[::-1], 7)))
    return f"{name[:first]}…{name[len(name) - last :]}"


def _draw_confusion(axes: Any, matrix: Array, classes: tuple[str, ...]) -> None:
    """Shares of each true class as colours, and numbers of rows where there is room for them."""
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.figure.colorbar(image, ax=axes, fraction=0.046, pad=0.04, label="share of the true class", format="{x:.0%}")
    step = -(-len(classes) // 25)
    ticks = np.arange(0, len(classes), step)
    names = [_in_short(shown(name)) for name in classes[::step]]
    turned, size = sum(map(_width, names)) > 32, 10 if len(names) <= 10 else 8
    axes.set_xticks(ticks, names, rotation=90 if turned else 0, fontsize=size, parse_math=False)
    axes.set_yticks(ticks, names, fontsize=size, parse_math=False)
    axes.set(xlabel="predicted", ylabel="true")
    for row, column in np.ndindex(*matrix.shape) if len(classes) <= _MOST_LABELS else ():
        text = f"{matrix[row, column]:,}" + (f"\n{share[row, column]:.1%}" if len(classes) <= 5 else "")
        ink = "white" if share[row, column] > 0.5 else "black"
        axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=10 if len(classes) <= 5 else 8)
