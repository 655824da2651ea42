"""An HTTP server in this process that ends on Ctrl-C and SIGTERM."""

from __future__ import annotations

import logging
import signal
import socket
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from flask import Flask
from werkzeug.serving import WSGIRequestHandler, make_server

from defect_mf_flows.errors import ServiceError

logger = logging.getLogger(__name__)

USUAL_PORT = 5000
LOOK_SECONDS = 0.2
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Handler(WSGIRequestHandler):
    timeout = 60.0  # a client that sends nothing gives its thread back

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        logger.info("%s %r %s", self.address_string(), self.requestline, code)

    def log(self, type: str, message: str, *args: Any) -> None:
        logger.info("%s %s", self.address_string(), message % args)


def listen(host: str, port: int | None) -> socket.socket:
    """Take a port.

    Parameters
    ----------
    host
        Address or name to listen on.
    port
        Port; None: 5000, or any free one where that is taken.

    Returns
    -------
    socket.socket
        Listening.

    Raises
    ------
    ServiceError
        If the address is not this machine's, or the port is taken or not allowed.
    """
    fault: OSError | None = None
    for wanted in (USUAL_PORT, 0) if port is None else (port,):
        try:
            family = socket.getaddrinfo(host, wanted, type=socket.SOCK_STREAM)[0][0]
            return socket.create_server((host, wanted), family=family)
        except OSError as error:
            fault = error
    raise ServiceError(
        f"--host {host} --port {port}: {fault}; take another port, or leave --port out for a free "
        "one."
    )


def url_of(listener: socket.socket) -> str:
    """Address of a listening socket, for a browser on this machine."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def serve(app: Flask, listener: socket.socket, announce: Callable[[], None]) -> None:
    """Answer requests until SIGINT, SIGTERM or SIGHUP; call it from the main thread.

    Parameters
    ----------
    app
        What answers.
    listener
        From :func:`listen`; it is closed in the end.
    announce
        Called once, when the server answers.
    """
    stop = threading.Event()

    def request_stop(number: int, frame: FrameType | None) -> None:
        stop.set()

    host, port = listener.getsockname()[:2]
    server = make_server(
        host, port, app, threaded=True, request_handler=_Handler, fd=listener.fileno()
    )
    listener.close()  # the server has a copy
    previous = {number: signal.signal(number, request_stop) for number in STOPPING}
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="web")
    thread.start()
    try:
        announce()
        # The kernel may hand the signal to another thread, and Python runs the handler in this
        # one only when it wakes.
        while not stop.wait(LOOK_SECONDS):
            pass
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        for number, handler in previous.items():
            signal.signal(number, handler)
