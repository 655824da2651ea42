"""Pages that open from disk and load nothing: templates, figures, files."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from defect_mf_flows.report import words
from defect_mf_flows.report.formatting import defect_html, number, plural, state_html, tidy
from defect_mf_flows.report.theme import template

logger = logging.getLogger(__name__)

TAG_LENGTH = 110  # letters of the disclaimer that every figure repeats


@dataclass(frozen=True)
class Plot:
    """A figure of the page.

    Attributes
    ----------
    name
        Its id.
    title
        Short heading, or empty.
    label
        Plain words for screen readers.
    height
        Pixels, reserved before it is drawn.
    spec
        Its JSON, safe inside a script element.
    wide
        True to span all columns.
    """

    name: str
    title: Markup
    label: str
    height: int
    spec: Markup
    wide: bool = False


def make_plot(
    name: str, figure: go.Figure, label: str, *, title: Markup | str = "", wide: bool = False
) -> Plot:
    """Prepare a plotly figure for the page.

    Parameters
    ----------
    name
        Its id on the page.
    figure
        The figure; its template is left out, as the page has one for light and one for dark.
    label
        Plain words for screen readers.
    title
        Short heading.
    wide
        True to span all columns.

    Returns
    -------
    Plot
    """
    spec = json.loads(figure.to_json(validate=False, engine="json"))
    spec["layout"].pop("template", None)
    return Plot(
        name=name,
        title=Markup.escape(title),
        label=label,
        height=int(figure.layout.height),
        spec=script_json(spec),
        wide=wide,
    )


def script_json(value: Any) -> Markup:
    """JSON that may stand inside a script element: no ``<`` can end or nest it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def render_template(name: str, **values: Any) -> str:
    """Render a page with plotly inside.

    Parameters
    ----------
    name
        Template.
    **values
        What it shows.

    Returns
    -------
    str
        One HTML document.
    """
    templates = {
        key: template(dark=dark).to_plotly_json()
        for key, dark in (("light", False), ("dark", True))
    }
    return (
        _environment()
        .get_template(name)
        .render(plotlyjs=Markup(get_plotlyjs()), templates=script_json(templates), **values)
    )


def write_page(text: str, path: Path) -> Path:
    """Write a page; readers see the old one or the new one, never half of it.

    Parameters
    ----------
    text
        The page.
    path
        File to write; its folder is made if need be.

    Returns
    -------
    Path
        The file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with partial.open("w", encoding="utf-8") as handle:
            handle.write(text)
            handle.flush()
            os.fsync(handle.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    logger.info("wrote %s (%.1f MB)", path, len(text) / 1e6)
    return path


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("defect_mf_flows.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["defect"] = defect_html
    environment.filters["state"] = state_html
    environment.filters["number"] = number
    environment.filters["plural"] = plural
    environment.filters["tidy"] = tidy
    environment.filters["upper_bound"] = words.upper_bound
    return environment


def disclaimer_tag(disclaimer: str | None) -> str:
    """The disclaimer, cut to fit beside a figure."""
    text = " ".join((disclaimer or "").split())
    if len(text) <= TAG_LENGTH:
        return text
    return text[:TAG_LENGTH].rsplit(" ", 1)[0] + " …"
