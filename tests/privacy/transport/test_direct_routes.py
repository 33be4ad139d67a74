"""Routes that are answered without the application's layers; anything else is the application's."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from privacy.transport.direct_routes import DirectRoutes, Route


class Inner:
    """The application: counts what reaches it."""

    def __init__(self) -> None:
        self.reached: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.reached.append(scope["type"])


async def refuse(request: Any, error: Exception) -> Any:
    async def response(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 418, "headers": []})
        await send({"type": "http.response.body", "body": str(error).encode()})

    return response


def answer(request: Any, body: bytes) -> bytes:
    if body == b"bad":
        raise ValueError("refused")
    assert request["app"] is not None
    return body[::-1]


def admit(request: Any) -> None:
    if not request["known"]:
        raise ValueError("a stranger")


def ask(inner: Inner, messages: list[dict[str, Any]], **scope: Any) -> list[dict[str, Any]]:
    """What is sent for a POST /hot whose body comes in `messages`."""
    sent: list[dict[str, Any]] = []
    rest = list(messages)

    async def receive() -> dict[str, Any]:
        return rest.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    app = DirectRoutes(inner, {"/hot": Route(answer), "/kept": Route(answer, admit)}, dict, refuse, "a/b")
    asyncio.run(app({"type": "http", "method": "POST", "path": "/hot", **scope}, receive, send))
    return sent


def part(body: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


def test_a_hot_route_is_answered_and_the_application_sees_nothing():
    inner = Inner()
    start, body = ask(inner, [part(b"ab", more=True), part(b"c")])
    assert (start["status"], dict(start["headers"])) == (200, {b"content-type": b"a/b", b"content-length": b"3"})
    assert body["body"] == b"cba" and inner.reached == []


def test_what_a_function_raises_becomes_the_refusal():
    start, body = ask(Inner(), [part(b"bad")])
    assert (start["status"], body["body"]) == (418, b"refused")


def test_of_a_stranger_no_body_is_read():
    start, body = ask(Inner(), [], path="/kept", known=False)  # reading would raise: there is nothing to read
    assert (start["status"], body["body"]) == (418, b"a stranger")
    assert ask(Inner(), [part(b"ab")], path="/kept", known=True)[1]["body"] == b"ba"


def test_a_caller_who_leaves_before_the_end_is_not_answered():
    assert ask(Inner(), [part(b"ab", more=True), {"type": "http.disconnect"}]) == []


@pytest.mark.parametrize("scope", [{"method": "GET"}, {"path": "/cold"}, {"type": "lifespan"}])
def test_anything_else_is_the_applications(scope: dict[str, str]):
    inner = Inner()
    assert ask(inner, [], **scope) == []
    assert inner.reached == [scope.get("type", "http")]
