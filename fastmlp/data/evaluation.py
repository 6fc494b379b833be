"""How good a model is on rows that it has not seen."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastmlp.data.files import TableError
from fastmlp.data.model import TableModel
from fastmlp.data.preparation import missing_column

Array = np.ndarray[Any, np.dtype[Any]]


def evaluate(model: TableModel, table: Any) -> dict[str, Any]:
    """Figures of a table that has the target.

    Returns
    -------
    dict
        ``rows``; of classes: ``accuracy``, ``log_loss``, ``roc_auc`` (of several classes the mean of one against the rest; None
        where a class does not occur) and ``confusion``, rows by true class, columns by predicted; of numbers: ``r2``, ``mae``,
        ``rmse``.
    """
    from sklearn import metrics

    target = model.preparation.target
    if target.name not in table.schema.names:
        raise TableError(missing_column(target.name, table.schema.names))
    truth, there = target.values(table.column(target.name))
    outputs = model.outputs(table)[there]
    if len(truth) == 0:
        raise TableError(f"No row has a value of the target {target.name!r}.")
    if target.classes is None:
        numbers = truth[:, 0] * target.scale + target.mean
        return {
            "rows": len(numbers),
            "r2": float(metrics.r2_score(numbers, outputs)) if len(numbers) > 1 else None,
            "mae": float(metrics.mean_absolute_error(numbers, outputs)),
            "rmse": float(metrics.root_mean_squared_error(numbers, outputs)),
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


def figures(result: dict[str, Any], target: str) -> str:
    """One line."""
    words = {
        "accuracy": "accuracy", "roc_auc": "ROC AUC", "log_loss": "log loss", "r2": "R2", "mae": "mean absolute error",
        "rmse": "root mean squared error",
    }  # fmt: skip
    parts = [f"{word} {result[key]:.4g}" for key, word in words.items() if result.get(key) is not None]
    return f"{target}, {result['rows']:,} rows: {', '.join(parts)}"


def plot(model: TableModel, result: dict[str, Any], path: str, learning_rate: float) -> None:
    """A picture of the training: losses, the learning rate, and of classes the confusion matrix."""
    from matplotlib.figure import Figure

    classes = model.classes
    figure = Figure(figsize=(10, 4.2) if classes else (6, 4.2), layout="constrained")
    panels = figure.subplots(1, 2 if classes else 1, squeeze=False)[0]
    epochs = range(1, len(model.history["loss"]) + 1)
    panels[0].plot(epochs, model.history["loss"], label="training")
    panels[0].plot(range(1, len(model.history["validation_loss"]) + 1), model.history["validation_loss"], label="validation")
    if model.history["validation_loss"]:
        best = int(np.argmin(model.history["validation_loss"]))
        panels[0].plot(best + 1, model.history["validation_loss"][best], "o", color="C1", label=f"kept: epoch {best + 1}")
    panels[0].set(xlabel="epoch", ylabel="loss", title=f"{model.preparation.target.name}, learning rate {learning_rate:g}")
    panels[0].legend()
    if classes:
        matrix = np.array(result["confusion"])
        share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        panels[1].imshow(share, cmap="Blues", vmin=0, vmax=1)
        panels[1].set(xlabel="predicted", ylabel="true", title=f"accuracy {result['accuracy']:.3f}")
        ticks = np.arange(len(classes))
        panels[1].set_xticks(ticks, classes, rotation=45 if len(classes) > 4 else 0, ha="right" if len(classes) > 4 else "center")
        panels[1].set_yticks(ticks, classes)
        for row, column in np.ndindex(*matrix.shape) if len(classes) <= 12 else ():
            ink = "white" if share[row, column] > 0.5 else "black"
            panels[1].text(column, row, str(matrix[row, column]), ha="center", va="center", color=ink, fontsize=9)
    figure.savefig(path, dpi=150)
