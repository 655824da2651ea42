"""Pages of a benchmark: Markdown tables, a figure, and the numbers behind them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

from defect_mf_flows.benchmark.metrics import Interval


class Page:
    """One page under construction.

    Parameters
    ----------
    name
        Of the benchmark.
    variant
        ``""`` for the full one, else for example ``"quick"``.
    out
        Folder.
    command
        That makes the page.
    """

    def __init__(self, name: str, variant: str, out: Path, command: str) -> None:
        self.stem = f"{name}-{variant}" if variant else name
        self.variant, self.out, self.command = variant, out, command
        self.parts: list[str] = []
        self.drawing: Any = None

    def text(self, title: str, about: str, disclaimer: str) -> None:
        """Head of the page, with what its numbers must not be taken for."""
        kind = f" ({self.variant}: too small for conclusions)" if self.variant else ""
        self.parts.append(
            f"# {title}{kind}\n\nMade by `{self.command}`.\n\n{disclaimer}\n\n{about}".replace(
                "\n\n\n\n", "\n\n"
            )
        )

    def table(self, title: str, header: list[str], rows: list[list[str]]) -> None:
        """Append a table."""
        lines = [header, ["---"] * len(header), *rows]
        body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        self.parts.append(f"## {title}\n\n{body}")

    def figure(self, drawing: Any) -> None:
        """Add the figure, one per page."""
        self.drawing = drawing
        self.parts.append(f"![figure, made by {self.command}]({self.stem}.svg)")

    def write(self, rows: list[dict[str, Any]]) -> Path:
        """Write page, figure and numbers.

        Parameters
        ----------
        rows
            One per training.

        Returns
        -------
        Path
            The page.
        """
        self.out.mkdir(parents=True, exist_ok=True)
        content = {"command": self.command, "rows": _plain(rows)}
        numbers = self.out / f"{self.stem}.json"
        numbers.write_text(json.dumps(content, indent=1) + "\n")
        if self.drawing is not None:
            # No date and fixed ids: the same numbers give the same file.
            self.drawing.savefig(self.out / f"{self.stem}.svg", metadata={"Date": None})
        page = self.out / f"{self.stem}.md"
        page.write_text(
            "\n\n".join(self.parts) + f"\n\nNumbers: [{numbers.name}]({numbers.name}).\n"
        )
        return page


def _plain(value: Any) -> Any:
    """JSON has no nan."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return round(value, 3) if math.isfinite(value) else None
    return value


#: Longer names stand below the axes.
LONG_NAME = 30


def _figure(panels: int = 1) -> tuple[Any, Any]:
    """A figure, and the first of its panels, which share their heights."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "defect-mf"
    figure = Figure(figsize=(7 if panels == 1 else 5 * panels, 4), layout="constrained")
    return figure, figure.subplots(1, panels, sharey=True, squeeze=False)[0][0]


def _around(values: Iterable[Interval]) -> list[list[float]]:
    """How far intervals reach below and above their means."""
    found = list(values)
    return [
        [max(0.0, v.mean - v.low) for v in found],
        [max(0.0, v.high - v.mean) for v in found],
    ]


def _plain_numbers(axis: Any) -> None:
    """300 and not 3 x 10^2 on a logarithmic axis, and as many as have room in few decades."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def _legend(axes: Any) -> None:
    """Names beside the axes, where they hide nothing; long ones below, where they take no width."""
    arms = axes.get_legend_handles_labels()
    if max(len(name) for name in arms[1]) > LONG_NAME:
        axes.figure.legend(*arms, fontsize="small", loc="outside lower center", ncols=2)
    else:
        axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))


def intervals(values: dict[str, Interval], label: str) -> Any:
    """Draw one mark per arm on a logarithmic axis, with its interval, the first arm on top."""
    figure, axes = _figure()
    known = {name: v for name, v in values.items() if math.isfinite(v.mean)}
    means = [v.mean for v in known.values()]
    axes.errorbar(means, list(known), xerr=_around(known.values()), fmt="o", capsize=4)
    if means and min(v.low for v in known.values()) > 0:
        axes.set_xscale("log")
        _plain_numbers(axes.xaxis)
    axes.set_axisbelow(True)
    axes.grid(axis="x", color="0.9")
    axes.invert_yaxis()
    axes.set_xlabel(label)
    return figure


def staircases(
    panels: dict[str, dict[str, list[tuple[float, float]]]], y: str, *, scale: str = "linear"
) -> Any:
    """Draw one rising stair per arm; an arm of one point is a mark.

    Parameters
    ----------
    panels
        Label of the horizontal axis -> arm -> places, ascending, and the height from each of them
        on. Panels stand side by side and have the same arms.
    y
        Label of the heights.
    scale
        Of the places: ``linear`` begins at zero, ``log`` cannot.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.
    """
    figure, first = _figure(len(panels))
    for axes, (x, lines) in zip(figure.axes, panels.items(), strict=True):
        for name, points in lines.items():
            places, heights = [p for p, _ in points], [h for _, h in points]
            marked = "o" if len(set(places)) == 1 else None
            axes.step(places, heights, where="post", marker=marked, markevery=[-1], label=name)
        axes.set_xscale(scale)
        if scale == "linear":
            axes.set_xlim(left=0)
        else:
            _plain_numbers(axes.xaxis)
        axes.set_ylim(bottom=0)
        axes.set_xlabel(x)
    first.set_ylabel(y)
    _legend(first)
    return figure


def curves(lines: dict[str, list[tuple[float, Interval]]], x: str, y: str) -> Any:
    """Draw one curve per arm, with intervals, side by side where they share a place."""
    figure, axes = _figure()
    shares = sorted({place for points in lines.values() for place, _ in points})
    apart = 0.06 * min((math.log(b / a) for a, b in pairwise(shares)), default=1.0)
    for number, (name, points) in enumerate(lines.items()):
        beside = math.exp(apart * (number - (len(lines) - 1) / 2))
        places = [place * beside for place, _ in points]
        means = [v.mean for _, v in points]
        around = _around(v for _, v in points)
        axes.errorbar(places, means, yerr=around, marker="o", capsize=3, label=name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(shares, [f"{share:g}" for share in shares])
    axes.set_xticks([], minor=True)
    _plain_numbers(axes.yaxis)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    _legend(axes)
    return figure


def cloud(groups: dict[str, list[tuple[float, float]]], x: str, y: str) -> Any:
    """Draw one mark per point, and the line on which both axes agree."""
    figure, axes = _figure()
    for name, points in groups.items():
        axes.scatter([a for a, _ in points], [b for _, b in points], s=14, alpha=0.7, label=name)
    axes.axline((0, 0), slope=1, color="0.6", linewidth=1)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.legend(fontsize="small")
    return figure
