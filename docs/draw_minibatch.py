"""Draws ``_static/minibatch.svg``, the picture of the page about the engine: ``python docs/draw_minibatch.py``.

Lines and letters have the colour of the text around the picture, so it can be read in light and in dark pages. By itself, it asks
the system which of the two is wanted.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

TARGET = Path(__file__).parent / "_static/minibatch.svg"
WIDTH, HEIGHT = 800, 480
ONE, TWO = "one", "two"
"""The two threads: classes of the style sheet."""

_STYLE = """
.minibatch { font-family: system-ui, sans-serif; font-size: 14px; }
.minibatch text { fill: currentColor; }
.minibatch .small { font-size: 12.5px; }
.minibatch .head { font-size: 16px; font-weight: 600; }
.minibatch .mid { text-anchor: middle; }
.minibatch .line { stroke: currentColor; fill: none; stroke-width: 1.3; }
.minibatch .faint { stroke: currentColor; stroke-opacity: 0.35; fill: none; }
.minibatch .plain { stroke: currentColor; stroke-opacity: 0.35; fill: currentColor; fill-opacity: 0.05; }
.minibatch .one { stroke: #2f83d6; fill: #3e8ede; fill-opacity: 0.4; }
.minibatch .two { stroke: #cf7417; fill: #d9822b; fill-opacity: 0.4; }
.minibatch .panel { fill-opacity: 0.06; }
.minibatch .edge { fill: none; }
.minibatch .bar { fill: currentColor; fill-opacity: 0.75; }
svg.minibatch:root { color: #222; background: none; }
@media (prefers-color-scheme: dark) { svg.minibatch:root { color: #ddd; } }
""".strip()


def box(kind: str, x: float, y: float, width: float, height: float, radius: float = 2) -> str:
    """A rectangle."""
    return f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{radius:g}"/>'


def text(x: float, y: float, words: str, kind: str = "") -> str:
    """A line of text; ``_{l}`` lowers what follows, as in a_{l-1}."""
    parts = []
    for number, part in enumerate(escape(words).split("_{")):
        low, _, rest = part.partition("}")
        parts.append(part if number == 0 else f'<tspan dy="4" font-size="75%">{low}</tspan><tspan dy="-4">{rest}</tspan>')
    return f'<text class="{kind}" x="{x:g}" y="{y:g}">{"".join(parts)}</text>'


def arrow(path: str, kind: str = "line") -> str:
    """A line with a head."""
    return f'<path class="{kind}" d="{path}" marker-end="url(#minibatch-head)"/>'


def data() -> list[str]:
    """All rows, and which of them this minibatch takes."""
    taken = {2: ONE, 5: TWO, 7: ONE, 8: TWO, 12: ONE, 14: TWO, 17: ONE, 18: TWO}
    drawn = [text(52, 66, "data", "head mid")]
    drawn += [box(taken.get(row, "plain"), 14, 84 + 15 * row, 76, 12, 1) for row in range(21)]
    for row, thread in taken.items():
        y, end = 90 + 15 * row, (150 if thread == ONE else 322)
        drawn.append(f'<path class="faint" d="M92 {y} C 116 {y}, 112 {end}, 132 {end}"/>')
    drawn += [text(52, 422, "gathered by", "small mid"), text(52, 439, "shuffled index", "small mid")]
    return drawn


def lane(thread: str, name: str, top: float) -> list[str]:
    """A panel of rows on its way through the layers and back, and those that wait behind it."""
    drawn = [box(f"{thread} panel", 136, top, 356, 100, 0)]
    for x, y in ((142, top - 6), (148, top - 12)):  # of those behind it, the edges that are seen
        drawn.append(f'<path class="{thread} edge" d="M{x} {y + 6} V{y} H{x + 356} V{y + 100} H{x + 350}"/>')
    middle = top + 52
    steps = [("a_{0}", 148, 62), ("a_{1}", 262, 34), ("a_{2}", 340, 16), ("d_{2}", 400, 16), ("d_{1}", 454, 34)]
    for words, x, width in steps:
        drawn += [box(thread, x, middle - 20, width, 36, 1), text(x + width / 2, middle + 36, words, "mid")]
    for (_, x, width), (_, to, _), words in zip(steps, steps[1:], ("W_{1}, f_{1}", "W_{2}", "loss", "W_{2}ᵀ"), strict=False):
        drawn.append(arrow(f"M{x + width + 3} {middle - 2} H{to - 4}"))
        drawn.append(text((x + width + to) / 2, middle - 12, words, "small mid"))
    drawn.append(text(136, top + 120, f"{name}: panels of 16 rows, in its first-level cache", "small"))
    return drawn


def weights() -> list[str]:
    """Blocks of weights, shared out from top to bottom, layer by layer."""
    owners = [ONE, ONE, ONE, TWO, TWO]
    drawn = [box(thread, 544, 96 + 42 * row, 84, 39) for row, thread in enumerate(owners)]
    drawn += [text(586, 87, "W_{1}, b_{1}", "mid"), box(TWO, 544, 340, 46, 39), text(567, 331, "W_{2}, b_{2}", "mid")]
    lines = [
        "of each block",
        "the gradient,",
        "a_{l-1}ᵀ d_{l}, over all",
        "rows; then the",
        "optimizer\u2019s step",
        "and the trans-",
        "posed copy",
    ]
    drawn += [text(644, 108 + 19 * number, words, "small") for number, words in enumerate(lines)]
    for thread, y, words in ((ONE, 258, "thread 1"), (TWO, 282, "thread 2")):
        drawn += [box(thread, 644, y, 15, 15), text(666, y + 13, words, "small")]
    return drawn


def barrier(x: float) -> list[str]:
    """Where threads wait for each other."""
    return [box("bar", x, 78, 5, 312), text(x + 2, 66, "barrier", "small mid")]


def picture() -> str:
    """The whole of it."""
    drawn = [
        *data(),
        text(314, 30, "rows: each thread its own panels", "head mid"),
        *lane(ONE, "thread 1", 100), *lane(TWO, "thread 2", 272),
        *barrier(514),
        text(652, 30, "weights: each its own blocks", "head mid"),
        *weights(),
        *barrier(766),
        arrow("M768 396 V462 H120 V402"),
        text(440, 454, "the next minibatch, in the same call", "small mid"),
    ]  # fmt: skip
    head = (
        '<marker id="minibatch-head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 L8 4 L0 8 z" fill="currentColor"/></marker>'
    )
    words = (
        "Left: rows of the data, gathered in shuffled order. Then each thread takes panels of 16 rows through all layers forward, "
        "to the loss, and back. After a barrier, each thread computes the gradient of its own blocks of weights over the "
        "whole batch and updates them. After another barrier comes the next minibatch."
    )
    return "\n".join([
        f'<svg class="minibatch" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        'aria-labelledby="minibatch-title minibatch-words">',
        '<title id="minibatch-title">One minibatch, as data sees it</title>', f'<desc id="minibatch-words">{words}</desc>',
        f"<style>\n{_STYLE}\n</style>", f"<defs>{head}</defs>", *drawn, "</svg>", "",
    ])  # fmt: skip


if __name__ == "__main__":
    TARGET.write_text(picture(), encoding="utf-8", newline="\n")
