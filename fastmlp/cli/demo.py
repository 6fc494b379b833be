"""The demonstration: handwritten digits, in compiled kernels and in plain NumPy, from the same weights in the same order."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score, classification_report
from sklearn.model_selection import train_test_split

from fastmlp.callbacks import Progress
from fastmlp.files import replace_file
from fastmlp.io import save
from fastmlp.io.extras import require
from fastmlp.mlp import MLP
from fastmlp.network import Network
from fastmlp.reference import ReferenceMLP

Array = np.ndarray[Any, np.dtype[Any]]

FOLDER = "fastmlp-digits"
SIZES = (64, 15, 10)
EPOCHS, BATCH_SIZE = 100, 15
EARLY_EPOCHS, LOSS_TOLERANCE = 20, 1e-3
"""Relative difference that float32 arithmetic in another order may make to the losses of so many epochs: a hundredth of it..."""
END_TOLERANCE = 0.05
"""...and to the last one: sooner or later a sum that is nearly 0 has another sign, and relu has two slopes there."""


@dataclass(frozen=True)
class Variant:
    """One way to train on the digits."""

    name: str
    activation: tuple[str, str]
    loss: str
    learning_rate: float
    one_hot: bool


VARIANTS = (
    Variant("squared-error", ("relu", "sigmoid"), "squared_error", 0.5, True),
    Variant("cross-entropy", ("relu", "softmax"), "cross_entropy", 0.1, False),
)


@dataclass(frozen=True)
class Digits:
    """The scikit-learn digits, pixels scaled to [0, 1]; a fifth is kept for testing."""

    x: Array
    y: Array
    x_test: Array
    y_test: Array

    @classmethod
    def load(cls) -> Digits:
        """Load and split them, always in the same way."""
        x, y = load_digits(return_X_y=True)
        x, x_test, y, y_test = train_test_split((x / 16).astype(np.float32), y, test_size=0.2, stratify=y, random_state=0)
        return cls(x, y, x_test, y_test)

    def targets(self, variant: Variant) -> Array:
        """Targets to train on: one-hot rows or labels."""
        return np.eye(SIZES[-1], dtype=np.float32)[self.y] if variant.one_hot else self.y


@dataclass(frozen=True)
class Outcome:
    """What came out of one variant."""

    variant: Variant
    network: MLP
    seconds: float
    reference_seconds: float
    loss: float
    reference_loss: float
    accuracy: float
    report: str
    reference_curve: list[float]

    @property
    def agrees(self) -> bool:
        """Whether both trainings had the same losses, but for rounding."""
        ours, theirs = np.array(self.network.loss_curve_), np.array(self.reference_curve)
        difference = np.abs(ours / theirs - 1)
        return bool(difference[:EARLY_EPOCHS].max() <= LOSS_TOLERANCE and difference[-1] <= END_TOLERANCE)


def compile_kernels() -> float:
    """Compile the kernels and the loops over the variants' functions, or read them from the disk; seconds that it took."""
    start = time.perf_counter()
    for variant in VARIANTS:
        network = MLP((1, 1, 2), variant.activation, variant.loss)
        # One sample a step has other kernels, and one step an epoch no order of samples.
        network.fit([[0]] * 4, [[0, 1]] * 4, epochs=1, batch_size=2).predict([[0]])
    return time.perf_counter() - start


def train(kind: type[Network], variant: Variant, digits: Digits, description: str, *, progress: bool) -> tuple[Network, float]:
    """Train one network; returns it and the seconds that training took. The seed decides the weights and the order of rows."""
    network = kind(SIZES, variant.activation, variant.loss, random_state=0)
    targets = digits.targets(variant)
    callbacks = [Progress(description)] if progress else []
    start = time.perf_counter()
    network.fit(digits.x, targets, epochs=EPOCHS, batch_size=BATCH_SIZE, learning_rate=variant.learning_rate, callbacks=callbacks)
    return network, time.perf_counter() - start


def run(variant: Variant, digits: Digits, *, progress: bool) -> Outcome:
    """Train a variant in both ways and compare."""
    network, seconds = train(MLP, variant, digits, f"{variant.name}, fastmlp", progress=progress)
    reference, reference_seconds = train(ReferenceMLP, variant, digits, f"{variant.name}, NumPy  ", progress=progress)
    assert isinstance(network, MLP)
    targets = digits.targets(variant)
    predicted = network.predict(digits.x_test).argmax(axis=1)
    return Outcome(
        variant,
        network,
        seconds,
        reference_seconds,
        network.eval_loss(digits.x, targets),
        reference.eval_loss(digits.x, targets),
        float(accuracy_score(digits.y_test, predicted)),
        str(classification_report(digits.y_test, predicted, digits=3)),
        reference.loss_curve_,
    )


def files_in(folder: Path) -> list[Path]:
    """What a demonstration writes: a model for each variant, and a picture."""
    return [*(folder / f"{variant.name}.safetensors" for variant in VARIANTS), folder / "loss-curves.png"]


def draw_loss_curves(outcomes: list[Outcome], path: Path) -> None:
    """A picture of the loss of each epoch, one panel for each variant."""
    require("matplotlib", "cli")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * len(outcomes), 3.6), layout="constrained")
    panels = figure.subplots(1, len(outcomes), squeeze=False)[0]
    for outcome, axes in zip(outcomes, panels, strict=True):
        epochs = np.arange(1, EPOCHS + 1)
        axes.plot(epochs, outcome.reference_curve, linewidth=5, color="#f2b36b", label="NumPy reference")
        axes.plot(epochs, outcome.network.loss_curve_, linewidth=1.5, color="#1f4e79", label="fastmlp")
        axes.set(title=f"{outcome.variant.loss}, {' + '.join(outcome.variant.activation)}", xlabel="epoch", yscale="log")
        axes.set_ylabel("training loss")
        axes.legend()
        axes.grid(alpha=0.3, which="both")
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120)
    replace_file(path, content.getvalue())


def in_a_line(outcome: Outcome) -> str:
    """What came out, for people in a hurry."""
    return (
        f"{outcome.variant.loss}: accuracy {outcome.accuracy:.4g}, loss {outcome.loss:.4g}; "
        f"{outcome.reference_seconds / outcome.seconds:.1f} times as fast as NumPy"
    )


def as_dict(folder: Path, outcomes: list[Outcome]) -> dict[str, Any]:
    """What came out, for programs."""
    *models, picture = map(str, files_in(folder))
    results = [
        {
            "model": model, "loss": outcome.variant.loss, "accuracy": outcome.accuracy, "seconds": outcome.seconds,
            "final_loss": outcome.loss, "reference_seconds": outcome.reference_seconds,
            "reference_final_loss": outcome.reference_loss, "agrees": outcome.agrees,
        }
        for model, outcome in zip(models, outcomes, strict=True)
    ]  # fmt: skip
    return {"results": results, "picture": picture}


def demonstrate(folder: Path, say: Callable[[str], None] | None, *, progress: bool) -> list[Outcome]:
    """Train on digits, report, and write the models and the picture into ``folder``; what came out of each variant."""
    say = say or (lambda _: None)
    folder.mkdir(parents=True, exist_ok=True)
    digits = Digits.load()
    say(
        f"Digits: {len(digits.x)} images to train on, {len(digits.x_test)} to test; a {'-'.join(map(str, SIZES))} network, "
        f"{EPOCHS} epochs in batches of {BATCH_SIZE}."
    )
    say(f"Kernels ready after {compile_kernels():.1f} s.")
    outcomes = []
    *models, picture = files_in(folder)
    for variant, model in zip(VARIANTS, models, strict=True):
        outcome = run(variant, digits, progress=progress)
        outcomes.append(outcome)
        save(outcome.network, model)
        say(f"\n{variant.loss} with {' and '.join(variant.activation)}, learning rate {variant.learning_rate:g}\n")
        say(outcome.report)
        say(
            f"  fastmlp          {outcome.seconds:8.3f} s   loss {outcome.loss:.6f}   "
            f"accuracy on the test images {outcome.accuracy:.3f}\n"
            f"  NumPy reference  {outcome.reference_seconds:8.3f} s   loss {outcome.reference_loss:.6f}   "
            "same initial weights, same order of rows\n"
            f"  {outcome.reference_seconds / outcome.seconds:.1f} times as fast; "
            + ("the same losses, but for rounding." if outcome.agrees else "THE LOSSES DIFFER, which they must not.")
        )
        say(f"  model: {model}")
    draw_loss_curves(outcomes, picture)
    say(f"\nLoss curves: {picture}")
    return outcomes
