"""What the two listeners let through: few routes in public, nothing in private without the secret."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from privacy.transport.flower_internals.hub import FLEET_ROUTES
from privacy.transport.listeners import LARGEST_QUESTION, LARGEST_REQUEST, SECRET_HEADER, _Private, _Public


class Inner:
    """Counts the requests that reach the application."""

    def __init__(self) -> None:
        self.reached = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.reached += 1


def ask(app: Any, path: str, method: str = "POST", headers: dict[str, str] | None = None) -> int | None:
    """The status that the listener itself answered with; None when it handed the request on."""
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    named = {"content-length": "10", **(headers or {})} if method == "POST" else headers or {}
    scope = {"type": "http", "path": path, "method": method,
             "headers": [(key.encode(), value.encode()) for key, value in named.items()]}
    asyncio.run(app(scope, None, send))
    return sent[0]["status"] if sent else None


@pytest.mark.parametrize("path", sorted(FLEET_ROUTES))
def test_the_fleets_routes_pass(path: str):
    inner = Inner()
    assert ask(_Public(inner, FLEET_ROUTES), path) is None
    assert inner.reached == 1


@pytest.mark.parametrize("path", [
    "/v1/control/start-run", "/v1/runtime/acquire-task", "/v1/fleet/register-node", "/v1/fleet/unregister-node",
    "/docs", "/openapi.json", "/", "/v1/fleet/pull-messages/", "/v1/fleet/../control/start-run",
    "//v1/fleet/pull-messages"])
def test_everything_else_is_not_found(path: str):
    inner = Inner()
    assert ask(_Public(inner, FLEET_ROUTES), path) == 404
    assert inner.reached == 0


@pytest.mark.parametrize(("name", "status"), [("push-object", None), ("push-messages", 413), ("get-run", 413)])
def test_only_what_carries_objects_may_be_large(name: str, status: int | None):
    large = {"content-length": str(LARGEST_QUESTION + 1)}
    assert ask(_Public(Inner(), FLEET_ROUTES), f"/v1/fleet/{name}", headers=large) == status


@pytest.mark.parametrize("length", [str(LARGEST_REQUEST + 1), "-1", "nonsense", ""])
def test_a_body_too_long_or_without_a_length_is_refused(length: str):
    inner = Inner()
    assert ask(_Public(inner, FLEET_ROUTES), "/v1/fleet/push-object", headers={"content-length": length}) == 413
    assert inner.reached == 0


def test_a_body_in_chunks_is_refused():
    inner = Inner()
    scope = {"type": "http", "path": "/v1/fleet/push-object", "method": "POST",
             "headers": [(b"transfer-encoding", b"chunked")]}
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(_Public(inner, FLEET_ROUTES)(scope, None, send))
    assert sent[0]["status"] == 413
    assert inner.reached == 0


@pytest.mark.parametrize("given", [None, "", "wrong", "secre", "secret2"])
def test_the_private_listener_asks_for_the_secret(given: str | None):
    inner = Inner()
    headers = {} if given is None else {SECRET_HEADER: given}
    assert ask(_Private(inner, "secret"), "/v1/control/start-run", headers=headers) == 401
    assert inner.reached == 0


def test_the_private_listener_lets_the_secret_in():
    inner = Inner()
    assert ask(_Private(inner, "secret"), "/v1/control/start-run", headers={SECRET_HEADER: "secret"}) is None
    assert inner.reached == 1


def test_a_websocket_reaches_neither():
    for app in (_Public(inner := Inner(), FLEET_ROUTES), _Private(inner, "secret")):
        asyncio.run(app({"type": "websocket", "path": "/v1/fleet/pull-messages", "headers": []}, None, None))
        assert inner.reached == 0
