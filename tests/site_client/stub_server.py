"""A server on loopback that answers whatever a test wants, also what no honest server would."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

Answer = tuple[int, dict[str, str], Any]  # status, headers, bytes or an iterator of bytes


class StubServer:
    """`answer(path with query, headers)` decides; `asked` lists what was asked with its headers."""

    def __init__(self, answer: Callable[[str, dict[str, str]], Answer]) -> None:
        self.answer = answer
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.port = 0


@contextmanager
def stub_server(
    answer: Callable[[str, dict[str, str]], Answer], certificate: Path | None = None
) -> Iterator[StubServer]:
    """Serve while the block lasts; over TLS with a PEM file of key and certificate."""
    stub = StubServer(answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        responses: ClassVar[dict[int, tuple[str, str]]] = {}  # type: ignore[misc]

        def do_GET(self) -> None:
            headers = dict(self.headers.items())
            stub.asked.append((self.path, headers))
            status, answered, body = stub.answer(self.path, headers)
            self.send_response(status, "x")
            if isinstance(body, bytes):
                answered = {"Content-Length": str(len(body))} | answered
            else:
                self.close_connection = True
            for name, value in answered.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                for piece in [body] if isinstance(body, bytes) else body:
                    self.wfile.write(piece)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            return

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, request: object, client_address: object) -> None:
            return

    server = Server(("127.0.0.1", 0), Handler)
    if certificate is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    stub.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
