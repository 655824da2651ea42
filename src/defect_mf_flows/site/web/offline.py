"""Pages that load nothing from elsewhere, whatever FireWorks' templates say."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

from flask import Response
from markupsafe import escape
from xstatic.pkg import jquery

PREFIX = "/defect-mf"
# Handlebars compiles its templates in the browser, hence unsafe-eval.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}

_OUTSIDE = r"""(?:https?:)?//[^"'\s>)]+"""
_JQUERY = re.compile(rf"""(<script\b[^>]*\bsrc=["']){_OUTSIDE}jquery[^"'/]*\.js(["'])""", re.I)
_SCRIPT = re.compile(rf"""<script\b[^>]*\bsrc=["']?{_OUTSIDE}["']?[^>]*>\s*</script>""", re.I)
_LINK = re.compile(rf"""<(?:link|img)\b[^>]*\b(?:href|src)=["']?{_OUTSIDE}["']?[^>]*>""", re.I)
_IMPORT = re.compile(rf"""@import\s+(?:url\()?["']?{_OUTSIDE}["']?\)?[^;]*;""", re.I)
_URL = re.compile(rf"""url\(\s*["']?{_OUTSIDE}["']?\s*\)""", re.I)
_DRAWING = re.compile(r"""(<script\b[^>]*\bsrc=["'])[^"']*/wf_cyto\.js(["'])""", re.I)
_BODY = re.compile(r"(<body\b[^>]*>)", re.I)
_HEAD = re.compile(r"(</head>)", re.I)
_FONT_AWESOME = re.compile(r"""<link\b[^>]*/font-awesome[^>]*>""", re.I)


def local_assets() -> dict[str, Path]:
    """Files that the pages need and FireWorks does not bring, by the name in the address."""
    own = Path(str(resources.files("defect_mf_flows.site.web"))) / "static"
    return {
        "jquery.min.js": Path(jquery.BASE_DIR) / "jquery.min.js",
        "web.css": own / "web.css",
        "graph.js": own / "graph.js",
    }


def make_offline(response: Response, title: str) -> Response:
    """Point a page at local files and add headers that make browsers refuse any others.

    Parameters
    ----------
    response
        Changed in place.
    title
        Plain text on top of each page.
    """
    if response.mimetype in ("text/html", "text/css") and response.status_code == 200:
        response.direct_passthrough = False  # a file; its text is needed
        text = response.get_data(as_text=True)
        page = response.mimetype == "text/html"
        response.set_data(_page(text, title) if page else _style(text))
        response.headers.pop("ETag", None)
    response.headers.update(HEADERS)
    return response


def _page(text: str, title: str) -> str:
    text = _JQUERY.sub(rf"\g<1>{PREFIX}/jquery.min.js\g<2>", text)
    text = _DRAWING.sub(rf"\g<1>{PREFIX}/graph.js\g<2>", text)
    text = _FONT_AWESOME.sub("", text)  # FireWorks names it and does not ship it
    text = _LINK.sub("", _SCRIPT.sub("", text))
    text = _style(text)
    sheet = f'<link rel="stylesheet" href="{PREFIX}/web.css">'
    text = _HEAD.sub(rf"{sheet}\g<1>", text, count=1)
    bar = f'<div class="dmf-bar">{escape(title)}</div>'
    return _BODY.sub(lambda found: found.group(1) + bar, text, count=1)


def _style(text: str) -> str:
    return _URL.sub("none", _IMPORT.sub("", text))
