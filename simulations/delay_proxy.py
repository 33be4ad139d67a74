"""A slow link without the kernel's help: a TCP proxy that hands on every byte a fixed time after it came.

Bytes keep their order, both directions are delayed alike, and the end of a stream is delayed with the stream. At most
`WINDOW_BYTES` of a direction are under way; beyond that the sender is held back, as on a long line.

As a process, for a network namespace: `python -m simulations.delay_proxy LISTEN:PORT TARGET:PORT --delay 0.2`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import socket
import sys
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any

__all__ = ["WINDOW_BYTES", "DelayProxy", "main"]

WINDOW_BYTES = 64 << 20
_CHUNK = 64 << 10


class DelayProxy:
    """Listens on a port of its own while the context is open, and passes everything on to `target` after `delay_s`.

    The proxy runs in a thread with an event loop of its own. `port` is known once the context is entered.

    :param target: (host, port) that connections are passed on to.
    :param delay_s: one-way delay; a question and its answer take twice as long.
    :param listen: (host, port) to listen on; port 0 takes a free one.
    :raises ValueError: a negative delay. :raises OSError: the port is taken.
    """

    def __init__(self, target: tuple[str, int], delay_s: float = 0.2, listen: tuple[str, int] = ("127.0.0.1", 0)):
        if not 0 <= delay_s <= 60:
            raise ValueError(f"a delay of {delay_s} s is not between 0 and 60 s")
        self.target, self.delay_s, self.listen = target, delay_s, listen
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="delay proxy", daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()

    def __enter__(self) -> DelayProxy:
        self._thread.start()
        try:
            self._server = socket.create_server(self.listen)
        except OSError:
            self._end()
            raise
        self._server.setblocking(False)
        self.port = self._server.getsockname()[1]
        self._call(self._start())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._call(self._close())
        self._end()

    def _call(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=10)

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()

    async def _start(self) -> None:
        self._begin(self._accept())

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _close(self) -> None:
        for task in (tasks := list(self._tasks)):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._server.close()

    async def _accept(self) -> None:
        while True:
            near, _ = await asyncio.get_running_loop().sock_accept(self._server)
            self._begin(self._serve(near))

    async def _serve(self, near: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=near, limit=_CHUNK)
        try:
            await self._connect(reader, writer)
        except OSError:
            pass  # the target refused: so does the proxy
        finally:
            writer.transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(*self.target, limit=_CHUNK)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_carry(reader, far_writer, self.delay_s))
                both.create_task(_carry(far_reader, writer, self.delay_s))
        except* OSError:  # one side was cut off: so is the other
            pass
        finally:
            far_writer.transport.abort()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float) -> None:
    """One direction until its end; each chunk leaves `delay_s` after it came, in order."""
    now: Callable[[], float] = asyncio.get_running_loop().time
    line: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(WINDOW_BYTES // _CHUNK)

    async def deliver() -> None:
        while True:
            due, data = await line.get()
            await asyncio.sleep(max(0.0, due - now()))
            if not data:
                writer.write_eof()
                await writer.drain()
                return
            writer.write(data)
            await writer.drain()

    async with asyncio.TaskGroup() as both:
        both.create_task(deliver())
        while True:
            data = await reader.read(_CHUNK)
            await line.put((now() + delay_s, data))
            if not data:
                return


def main(argv: list[str] | None = None) -> int:
    """Run one proxy until the process is ended; prints `ready` once it listens."""
    parser = argparse.ArgumentParser(prog="python -m simulations.delay_proxy", description="Delay a TCP connection.")
    parser.add_argument("listen", type=_endpoint, metavar="LISTEN:PORT")
    parser.add_argument("target", type=_endpoint, metavar="TARGET:PORT")
    parser.add_argument("--delay", type=float, default=0.2, metavar="SECONDS", help="one way (default: 0.2)")
    arguments = parser.parse_args(argv)
    try:
        with DelayProxy(arguments.target, arguments.delay, arguments.listen) as proxy, \
                contextlib.suppress(KeyboardInterrupt):
            print(f"ready on port {proxy.port}", flush=True)
            threading.Event().wait()
    except (ValueError, OSError) as error:
        print(f"delay proxy: {error}", file=sys.stderr)
        return 2
    return 0


def _endpoint(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host, int(port)


if __name__ == "__main__":
    sys.exit(main())
