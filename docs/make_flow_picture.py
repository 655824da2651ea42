"""Draw docs/images/flow.svg: what a campaign does, in which order, and who computes what.

Run it from the repository's root: ``python docs/make_flow_picture.py``.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

OUT = Path(__file__).parent / "images" / "flow.svg"
QUEUE, MODEL, PLAIN = "#0f766e", "#b45309", "#475569"
WIDTH, HEIGHT = 2.1, 0.86
#: Title, second line, column, row, who computes it.
BOXES = {
    "host": ("host crystal", "defects, charges", 0, 0, PLAIN),
    "low": ("low fidelity", "relax every start", 1, 0, QUEUE),
    "picks": ("picks", "a tenth of the frames", 2, 0, PLAIN),
    "high": ("high fidelity", "label the picks", 3, 0, QUEUE),
    "train": ("training", "one head per fidelity", 3, 1, MODEL),
    "search": ("search", "every charge state", 2, 1, MODEL),
    "verify": ("verification", "relax lowest minima", 1, 1, QUEUE),
    "levels": ("levels, report", "with verdicts", 0, 1, PLAIN),
}
ARROWS = ["host low", "low picks", "picks high", "high train", "train search",
          "search verify", "verify levels"]  # fmt: skip


def centre(name: str) -> tuple[float, float]:
    """Middle of a box."""
    _, _, column, row, _ = BOXES[name]
    return 1.3 + 2.75 * column, 3.1 - 2.0 * row


def box(axes: plt.Axes, name: str) -> None:
    """Draw one step."""
    title, text, _, _, colour = BOXES[name]
    x, y = centre(name)
    patch = FancyBboxPatch((x - WIDTH / 2, y - HEIGHT / 2), WIDTH, HEIGHT,
                           boxstyle="round,pad=0.02,rounding_size=0.1",
                           facecolor="white", edgecolor=colour, linewidth=1.8)  # fmt: skip
    axes.add_patch(patch)
    axes.text(x, y + 0.15, title, ha="center", va="center", weight="bold", color=colour, size=11)
    axes.text(x, y - 0.19, text, ha="center", va="center", color="#334155", size=9)


def arrow(axes: plt.Axes, start: tuple[float, float], end: tuple[float, float], **how: str) -> None:
    """Draw what follows what."""
    style = {"color": "#334155", "linestyle": "-", "connectionstyle": "arc3", **how}
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=13, **style))


def between(name: str) -> tuple[tuple[float, float], tuple[float, float]]:
    """Ends of the arrow between two neighbours."""
    (x, y), (u, v) = (centre(part) for part in name.split())
    if x == u:
        return (x, y - HEIGHT / 2 - 0.04), (u, v + HEIGHT / 2 + 0.04)
    side = WIDTH / 2 + 0.04
    return (x + (side if u > x else -side), y), (u + (-side if u > x else side), v)


def main() -> None:
    """Draw the picture."""
    mpl.rcParams.update({"svg.fonttype": "path", "svg.hashsalt": "flow"})
    figure, axes = plt.subplots(figsize=(10.9, 4.5))
    for name in BOXES:
        box(axes, name)
    for name in ARROWS:
        arrow(axes, *between(name))
    x, y = centre("verify")
    u, _ = centre("train")
    axes.plot([x, x, u, u], [y - 0.47, 0.2, 0.2, 0.25], color="#b91c1c", linestyle="--", lw=1.3)
    arrow(axes, (u, 0.2), (u, y - 0.47), color="#b91c1c", linestyle="--")
    axes.text((x + u) / 2, 0.29, "verdict wrong: the labels gained, and another round",
              ha="center", va="bottom", size=9, color="#b91c1c")  # fmt: skip
    keys = [("CPU nodes", QUEUE), ("GPU worker", MODEL), ("bookkeeping", PLAIN)]
    for k, (text, colour) in enumerate(keys):
        axes.text(2.9 + 2.75 * k, 4.1, f"\u25a0 {text}", color=colour, size=10, ha="center")
    axes.set(xlim=(0.1, 10.8), ylim=(0, 4.35))
    axes.axis("off")
    figure.tight_layout(pad=0.2)
    figure.savefig(OUT, metadata={"Date": None}, facecolor="white")


if __name__ == "__main__":
    main()
