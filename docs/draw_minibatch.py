"""Draws ``_static/minibatch.svg``, the picture of the page about the engine: ``python docs/draw_minibatch.py``.

Lines and letters have the colour of the text around the picture, so it can be read in light and in dark pages. By itself, it asks
the system which of the two is wanted.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

TARGET = Path(__file__).parent / "_static/minibatch.svg"
WIDTH, HEIGHT = 1000, 470
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
.minibatch .plain { stroke: currentColor; stroke-opacity: 0.45; fill: currentColor; fill-opacity: 0.05; }
.minibatch .one { stroke: #2f83d6; fill: #3e8ede; fill-opacity: 0.3; }
.minibatch .two { stroke: #cf7417; fill: #d9822b; fill-opacity: 0.3; }
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
    drawn = [text(62, 60, "data", "head mid")]
    drawn += [box(taken.get(row, "plain"), 20, 84 + 15 * row, 84, 12, 1) for row in range(21)]
    for row, thread in taken.items():
        y, end = 90 + 15 * row, (160 if thread == ONE else 330)
        drawn.append(f'<path class="faint" d="M106 {y} C 130 {y}, 130 {end}, 154 {end}"/>')
    drawn.append(text(62, 422, "gathered by", "small mid"))
    drawn.append(text(62, 438, "shuffled index", "small mid"))
    return drawn


def lane(thread: str, name: str, top: float) -> list[str]:
    """A panel of rows on its way through the layers and back, and those that wait behind it."""
    drawn = [box(thread, 158 + 6 * back, top - 6 * back, 400, 96, 6) for back in (2, 1)]
    drawn += [box("plain", 158, top, 400, 96, 6), box(thread, 158, top, 400, 96, 6)]
    middle = top + 48
    steps = [("a_{0}", 180, 64), ("a_{1}", 290, 34), ("a_{2}", 368, 18), ("d_{2}", 430, 18), ("d_{1}", 492, 34)]
    for words, x, width in steps:
        drawn += [box("plain", x, middle - 22, width, 36, 1), text(x + width / 2, middle + 30, words, "small mid")]
    for (_, x, width), (_, to, _), words in zip(steps, steps[1:], ("W_{1}, f_{1}", "W_{2}", "loss", "W_{2}ᵀ"), strict=False):
        drawn.append(arrow(f"M{x + width + 4} {middle - 4} H{to - 5}"))
        drawn.append(text((x + width + to) / 2, middle - 12, words, "small mid"))
    drawn.append(text(158, top + 116, f"{name}: panels of 16 rows, each in the first-level cache", "small"))
    return drawn


def weights() -> list[str]:
    """Blocks of weights, shared out from top to bottom, layer by layer."""
    drawn = []
    owners = [ONE, ONE, ONE, TWO, TWO]
    for row, thread in enumerate(owners):
        drawn.append(box(thread, 650, 96 + 42 * row, 110, 39))
    drawn += [text(705, 88, "W_{1}, b_{1}", "small mid"), box(TWO, 650, 336, 60, 39), text(680, 328, "W_{2}, b_{2}", "small mid")]
    lines = [
        "gradient of a block,",
        "a_{l-1}ᵀ d_{l}, over all",
        "rows of the batch;",
        "then its step of the",
        "optimizer, and its",
        "transposed copy",
    ]
    for number, words in enumerate(lines):
        drawn.append(text(784, 112 + 19 * number, words, "small"))
    drawn.append(arrow("M780 107 H765"))
    drawn += [
        box(ONE, 784, 254, 16, 16),
        text(808, 267, "thread 1", "small"),
        box(TWO, 784, 280, 16, 16),
        text(808, 293, "thread 2", "small"),
    ]
    return drawn


def barrier(x: float) -> list[str]:
    """Where threads wait for each other."""
    return [box("bar", x, 72, 5, 318), text(x + 2, 60, "barrier", "small mid")]


def picture() -> str:
    """The whole of it."""
    drawn = [
        *data(),
        text(358, 30, "rows: each thread its own panels", "head mid"),
        *lane(ONE, "thread 1", 92), *lane(TWO, "thread 2", 262),
        *barrier(600),
        text(775, 30, "weights: each thread its own blocks", "head mid"),
        *weights(),
        *barrier(945),
        arrow("M948 398 V452 H130 V400"),
        text(540, 444, "the next minibatch, in the same call", "small mid"),
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
