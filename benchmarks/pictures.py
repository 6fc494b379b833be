"""The pictures of the report, drawn with matplotlib. Text takes the colour of the page around it, light or dark."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from .analyse import Comparison, Scaling, Start, fastest_predictions, predictions, ways
from .peers import OURS, PEERS
from .sections.scaling import THREADS
from .tables import number

INK = "#010203"
"""Stands for the colour of the text around the picture."""

_PALETTE = ("#e5484d", "#8a8f98", "#d9822b", "#3e8ede", "#2aa198", "#8e5bd0", "#c2569b", "#6b9e2e", "#b08900", "#708090")
"""Seen on white and on black; ours first."""

COLOURS = dict(zip([OURS, *(name for name in PEERS if name != OURS)], _PALETTE, strict=False))

_STYLE = {
    "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 11,
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK, "xtick.color": INK, "ytick.color": INK,
    "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False, "axes.titlesize": 11,
    "axes.grid": True, "grid.color": "#8a8f98", "grid.alpha": 0.25, "lines.linewidth": 1.8, "lines.markersize": 4,
}  # fmt: skip


def svg(figure: Figure, salt: str) -> str:
    """The picture as an element of HTML."""
    with mpl.rc_context(_STYLE | {"svg.hashsalt": salt}):
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, bbox_inches="tight", metadata={"Date": None})
    text = file.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\1{salt}-", text)  # several pictures share the page
    return re.sub(r'<svg ([^>]*?)width="[^"]*" ', r"<svg \1", re.sub(r'height="[\d.]+pt"', "", text, count=1), count=1)


def _figure(rows: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False)
    return figure, list(axes.flat)


def _grid(names: Sequence[Any], columns: int, height: float) -> tuple[Figure, list[Axes]]:
    """A small picture for each name, in rows of so many; what is left of the last row stays empty."""
    columns = min(columns, len(names))
    rows = -(-len(names) // columns)
    figure, axes = _figure(rows, columns, 3.6 * columns if columns > 1 else 6, height * rows)
    for unused in axes[len(names) :]:
        unused.set_axis_off()
    return figure, axes


def _bars(axes: Axes, values: Sequence[tuple[str, str, float]], logarithmic: bool = True) -> None:
    """Horizontal bars of (label, peer, value), each with its value behind it."""
    if not values:
        axes.set_axis_off()
        return
    with mpl.rc_context(_STYLE):
        for position, (_, peer, value) in enumerate(values):
            axes.barh(position, value, color=COLOURS.get(peer, "#8a8f98"), height=0.7)
            axes.annotate(number(value), (value, position), (3, 0), textcoords="offset points", va="center", fontsize=9)
        axes.set_yticks(range(len(values)), [label for label, _, _ in values], fontsize=9)
        axes.invert_yaxis()
        axes.grid(False, axis="y")
        if logarithmic:
            axes.set_xscale("log")
            axes.xaxis.set_minor_formatter(NullFormatter())
            positive = [value for _, _, value in values if value > 0]
            axes.set_xlim(min(positive) / 3, max(positive) * 4)
        else:
            axes.set_xlim(0, max(value for _, _, value in values) * 1.2)
        axes.tick_params(axis="x", labelsize=8)


def training(found: Sequence[Comparison]) -> Figure:
    """Bars for each problem on a log axis, ours first."""
    figure, axes = _grid(found, 3, 2.4)
    for one, part in zip(found, axes, strict=False):
        values = [(OURS, OURS, one.ours.median)] if one.ours else []
        values += [(name, name, timing.median) for name, timing in one.rivals.items()]
        _bars(part, values)
        part.set_title(f"{one.problem}: us per step")
    return figure


def quality(goals: Sequence[dict[str, Any]]) -> Figure:
    """The metric over seconds since the start, for each goal."""
    figure, axes = _grid(goals, 2, 3.6)
    with mpl.rc_context(_STYLE):
        for goal, part in zip(goals, axes, strict=False):
            for way in ways(goal):
                seconds, values = zip(*way.points, strict=True)
                part.plot(
                    seconds, values, marker="o", label=way.peer, color=COLOURS.get(way.peer), zorder=3 if way.peer == OURS else 2
                )
            part.axhline(goal["target"], color=INK, linestyle=":", linewidth=1)
            part.set_xscale("log")
            part.set_title(f"{goal['goal']}: {goal['metric']}")
            part.set_xlabel("seconds, import and compilation included")
            part.legend(fontsize=8)
    return figure


def scaling(found: Sequence[Scaling]) -> Figure:
    """Curves on two log axes, with the roof as the dotted floor of time."""
    figure, axes = _grid(found, 2, 3.2)
    with mpl.rc_context(_STYLE):
        for one, part in zip(found, axes, strict=False):
            for curve in one.curves:
                part.plot(*zip(*curve.points, strict=True), marker="o", label=curve.peer, color=COLOURS.get(curve.peer))
            part.plot(*zip(*one.floor, strict=True), linestyle=":", color=INK, label="roof of the tile")
            part.set_xscale("log", base=2 if one.axis.startswith(THREADS) else 10)
            part.set_yscale("log")
            part.set_xlabel(one.title)
            part.set_ylabel("us per epoch" if one.axis == "rows" else "us per step")
            part.legend(fontsize=8)
    return figure


def inference(units: Sequence[dict[str, Any]]) -> Figure:
    """Bars: one row and many, for each network; each peer with the fastest of the numbers of threads that were measured."""
    figure, axes = _figure(len(units), 2, 8, 2.3 * len(units))
    for number_, unit in enumerate(units):
        everyone = [one for one in predictions(unit) if one.comparable and one.trains]
        for part, key, title in ((0, "median", "one row"), (1, "many", f"{unit['rows']} rows")):
            fastest = sorted(fastest_predictions(everyone, key).items(), key=lambda pair: pair[1])
            _bars(axes[2 * number_ + part], [(peer, peer, value) for peer, value in fastest])
            axes[2 * number_ + part].set_title(f"{unit['network']}, {title}: us")
    return figure


def cold(found: Sequence[Start]) -> Figure:
    """Stacked bars of import and first fit, with an empty and a full cache; and memory."""
    figure, axes = _figure(1, 2, 8, 0.42 * len(found) + 1.6)
    with mpl.rc_context(_STYLE):
        for position, one in enumerate(found):
            colour = COLOURS.get(one.peer)
            for shift, first, label in ((-0.2, one.first_cold, "empty cache"), (0.2, one.first_warm, "full cache")):
                axes[0].barh(position + shift, one.import_, height=0.36, color="#8a8f98")
                axes[0].barh(position + shift, first, left=one.import_, height=0.36, color=colour, alpha=1 if shift > 0 else 0.55)
                axes[0].annotate(
                    f"{number(one.import_ + first)} ({label})", (one.import_ + first, position + shift), (3, 0),
                    textcoords="offset points", va="center", fontsize=7,
                )  # fmt: skip
        axes[0].set_yticks(range(len(found)), [one.peer for one in found], fontsize=9)
        axes[0].set_xlim(0, 1.5 * max(one.import_ + one.first_cold for one in found))
        axes[0].invert_yaxis()
        axes[0].grid(False, axis="y")
        axes[0].set_title("seconds: import (grey), then first fit")
    _bars(axes[1], [(one.peer, one.peer, one.peak / 2**20) for one in found if one.peak], logarithmic=False)
    axes[1].set_title("peak memory, MiB")
    return figure


def kernels(units: Sequence[dict[str, Any]]) -> Figure:
    """Shares of a step's parts, stacked; and shares of the tile's rate."""
    taken_apart = [unit for unit in units if unit["parts"]]
    figure, axes = _figure(1, 2, 8, 0.34 * len(units) + 1.8)
    with mpl.rc_context(_STYLE):
        names: Iterable[str] = dict.fromkeys(name for unit in taken_apart for name in unit["parts"])
        begun = [0.0] * len(taken_apart)
        for colour, name in zip(_PALETTE, names, strict=False):
            shares = [unit["parts"].get(name, 0) / unit["one_thread"] for unit in taken_apart]
            axes[0].barh(range(len(shares)), shares, left=begun, label=name, color=colour, height=0.7)
            begun = [before + share for before, share in zip(begun, shares, strict=True)]
        axes[0].set_yticks(range(len(taken_apart)), [unit["problem"] for unit in taken_apart], fontsize=9)
        axes[0].invert_yaxis()
        axes[0].grid(False, axis="y")
        axes[0].set_title("shares of a step, one thread")
        if taken_apart:
            axes[0].legend(fontsize=7, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.12))
    shares_of_tile = [(unit["problem"], OURS, 100 * unit["flop_per_step"] / unit["one_thread"] / unit["tile"]) for unit in units]
    _bars(axes[1], shares_of_tile, logarithmic=False)
    axes[1].set_title("per cent of the tile's rate, one thread")
    return figure
