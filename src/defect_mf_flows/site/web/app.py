"""FireWorks' Flask application, one per call, with what it leaves open closed."""

from __future__ import annotations

import copy
import importlib.util
import logging
import os
import secrets
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import flask_paginate
from fireworks import LaunchPad
from fireworks.features.fw_report import FWReport
from flask import Flask, Response, abort, render_template, request, send_file
from matplotlib.backends.backend_agg import FigureCanvasAgg
from pymongo.errors import OperationFailure, PyMongoError

from defect_mf_flows.site.web.access import Access, is_loopback
from defect_mf_flows.site.web.offline import PREFIX, local_assets, make_offline
from defect_mf_flows.site.web.requests import path_is_valid, query_fault

logger = logging.getLogger(__name__)

SECRET_VARIABLE = "FWAPP_SECRET_KEY"  # FireWorks' name for it

Query = dict[str, Any]


def create_app(
    launchpad: LaunchPad,
    *,
    access: Access | None = None,
    campaign_hash: str | None = None,
    title: str = "defect-mf",
) -> Flask:
    """Make the web UI's application.

    Parameters
    ----------
    launchpad
        Where workflows and jobs are read from; nothing is written.
    access
        Who may see it. None: everybody who reaches it under a name of this machine's loopback.
    campaign_hash
        Show only this campaign.
    title
        Plain text on top of each page.

    Returns
    -------
    Flask
        A WSGI application.
    """
    app: Any = _fireworks_app()
    app.lp = launchpad
    app.BASE_Q = {"spec.campaign_hash": campaign_hash} if campaign_hash else {}
    app.BASE_Q_WF = {"metadata.campaign_hash": campaign_hash} if campaign_hash else {}
    app.secret_key = os.environ.get(SECRET_VARIABLE) or secrets.token_bytes(32)
    app.config.update(
        SESSION_COOKIE_NAME="defect_mf_web",
        SESSION_COOKIE_SAMESITE="Lax",
        # Unset, FireWorks' JSON is declared to be HTML, and a job's name could be a script.
        JSONIFY_MIMETYPE="application/json",
    )
    app.before_request(_password_check(access) if access else _name_check)
    app.before_request(_request_check(app))
    app.after_request(lambda response: make_offline(response, title))
    _serve_assets(app)
    app.view_functions["report"] = _report(app)
    app.view_functions["simple"] = _chart(app)
    app.register_error_handler(PyMongoError, _database_fault)
    app.register_error_handler(OverflowError, lambda error: _plain("Not found.", 404))
    return app


def _fireworks_app() -> Flask:
    """Execute FireWorks' module anew: it keeps its one application in a global."""
    spec = importlib.util.find_spec("fireworks.flask_site.app")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.Pagination = _pagination
    found: Flask = module.app
    return found


def _pagination(**options: Any) -> SimpleNamespace:
    """Give the templates the number of pages that they ask for; flask-paginate has a list there."""
    found = flask_paginate.Pagination(**options)
    return SimpleNamespace(links=found.links, pages=found.total_pages)


def _name_check() -> Response | None:
    """Refuse a foreign page whose name is made to point here and reads through the browser."""
    try:
        known = is_loopback(urlsplit(f"//{request.host}").hostname or "")
    except ValueError:
        known = False
    if known:
        return None
    return _plain(
        "Without a password the UI answers under this machine's loopback names only.", 400
    )


def _password_check(access: Access) -> Callable[[], Response | None]:
    """Ask for the password before anything is looked up: FireWorks forgets its charts and files."""

    def check() -> Response | None:
        given = request.authorization
        if given is not None and given.type == "basic":
            if access.admits(given.username, given.password):
                return None
            logger.warning("refused a wrong password from %s", request.remote_addr)
        answer = _plain("User name and password, please.", 401)
        answer.headers["WWW-Authenticate"] = 'Basic realm="defect-mf", charset="UTF-8"'
        return answer

    return check


def _request_check(app: Any) -> Callable[[], Response | None]:
    def check() -> Response | None:
        for name in ("fw_query", "wf_query"):
            fault = query_fault(request.args.get(name, ""))
            if fault:
                return _plain(f"{name}: {fault}", 400)
        values = request.view_args or {}
        if not path_is_valid(values, request.args.get("page", "1")):
            abort(404)
        if "fw_id" in values and not _exists(
            app.lp.fireworks, {"fw_id": values["fw_id"]}, app.BASE_Q
        ):
            abort(404)
        if "wf_id" in values and not _exists(
            app.lp.workflows, {"nodes": values["wf_id"]}, app.BASE_Q_WF
        ):
            abort(404)
        return None

    return check


def _exists(collection: Any, query: Query, base: Query) -> bool:
    return collection.find_one({"$and": [query, base]}, {"_id": 1}) is not None


def _serve_assets(app: Flask) -> None:
    assets = local_assets()

    @app.get(f"{PREFIX}/<name>")
    def defect_mf_asset(name: str) -> Response:
        path: Path | None = assets.get(name)
        return send_file(path, conditional=False) if path else abort(404)


def _base(app: Any, collection: str) -> Query:
    """Copy the filter: FWReport adds its dates to the one it is given, for good."""
    if collection == "launches":
        if not app.BASE_Q:
            return {}
        return {"fw_id": {"$in": app.lp.fireworks.distinct("fw_id", app.BASE_Q)}}
    return copy.deepcopy(app.BASE_Q if collection == "fireworks" else app.BASE_Q_WF)


def _report(app: Any) -> Callable[..., str]:
    def report(interval: str, num_intervals: str | int) -> str:
        texts = {}
        for short, collection in (("fw", "fireworks"), ("wf", "workflows")):
            found = FWReport(app.lp).get_stats(
                collection, interval, int(num_intervals), _base(app, collection)
            )
            texts[f"{short}_report_text"] = FWReport.get_stats_str(found)
        return render_template(
            "report.html", PLOTTING=True, interval=interval, num_intervals=num_intervals, **texts
        )

    return report


def _chart(app: Any) -> Callable[..., Response]:
    """Draw FireWorks' chart of the campaign's jobs only."""

    def chart(coll: str, interval: str, num_intervals: str) -> Response:
        figure = FWReport(app.lp).plot_stats(
            coll, interval, int(num_intervals), additional_query=_base(app, coll)
        )
        picture = BytesIO()
        FigureCanvasAgg(figure).print_png(picture)
        return Response(picture.getvalue(), mimetype="image/png")

    return chart


def _database_fault(error: PyMongoError) -> Response:
    logger.warning("database: %s", str(error)[:300])
    if isinstance(error, OperationFailure):
        return _plain("The database refused this request.", 400)
    return _plain(
        "The database does not answer. If the campaign's run has ended, so has its database: "
        "start defect-mf web again.",
        503,
    )


def _plain(text: str, status: int) -> Response:
    return Response(f"{text}\n", status, mimetype="text/plain")
