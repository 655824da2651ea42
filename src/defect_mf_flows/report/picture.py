"""Pictures that commands write: matplotlib without a screen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from defect_mf_flows.errors import ResultsError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ENDINGS = (".png", ".svg", ".pdf")


def check_ending(path: Path | None) -> None:
    """Refuse a picture whose ending is unknown, before anything is computed.

    Raises
    ------
    ResultsError
        Naming the endings.
    """
    if path is not None and path.suffix.lower() not in ENDINGS:
        raise ResultsError(f"{path}: choose a figure's ending from {', '.join(ENDINGS)}.")


def new_picture(path: Path, width: float, height: float) -> Figure:
    """Empty picture, in inches, to be saved under a path that is checked first."""
    check_ending(path)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_picture(figure: Figure, path: Path) -> None:
    """Write it; the ending says as what."""
    figure.savefig(path, dpi=160)
