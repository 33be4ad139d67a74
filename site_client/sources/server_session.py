"""HTTP to one server of the hospital: one origin, verified TLS, one login, and bounds on all that it may answer.

The login goes to the configured origin only: no proxy and no netrc of the environment is used, no redirect followed,
and no address elsewhere asked, whoever names it. Answers are read piece by piece, never longer than the caller allows,
never inflated, and never slower than `LEAST_BYTES_PER_S` after a first `timeout_s`.

Errors are SourceErrors of one sentence without an address beyond the configured one: messages of the HTTP library
quote query strings, which name patients.
"""

from __future__ import annotations

import http.client
import io
import json
import logging
import ssl
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from configs.site_data import SourceConfig
from site_client.sources.interface import SourceError
from site_client.sources.patience import NotGivenError, Patience, ServerFaultError, ServerSilentError, TooLargeError

__all__ = ["ForeignAddressError", "ServerSession", "read_secret"]

LEAST_BYTES_PER_S = 16 * 2**10
CHUNK_BYTES = 2**18
MOST_SECRET_BYTES = 16 * 2**10
_BUSY = (408, 425, 429)
_T = TypeVar("_T")

for _library in ("urllib3", "requests"):
    logging.getLogger(_library).setLevel(logging.CRITICAL)  # their lines quote addresses, which name patients


class ForeignAddressError(SourceError):
    """An address that the server names is on another origin, or none at all; it was not asked."""


class ServerSession(requests.Session):
    """A session for `config.url`. `pause` waits between tries (seconds)."""

    def __init__(self, config: SourceConfig, pause: Callable[[float], None] = time.sleep) -> None:
        super().__init__()
        self._config = config
        self._patience = Patience(pause)
        self.trust_env = False
        self.headers.update({"Accept-Encoding": "identity", "User-Agent": "federated-medgpt"})
        self.mount("https://", _VerifiedAdapter(config))
        if config.secret_file:
            secret = read_secret(config)
            if config.user:
                self.auth = (config.user.encode(), secret.encode())  # type: ignore[assignment]
            else:
                self.headers["Authorization"] = f"Bearer {secret}"

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """One try. A caller that did not ask for a stream gets an answer of at most `most_bytes` bytes, read whole.

        Raises SourceError, or one of its kinds above.
        """
        if self._origin(request.url or "") != self._origin(self._config.url):
            raise ForeignAddressError(str(self.error(
                "the server names an address on another host or port, which is not asked; check url, and the server's "
                "own idea of its address")))
        request.headers.pop("Host", None)  # the library's own is right where a caller's forgets the port
        stream, most_bytes = kwargs.get("stream", False), kwargs.pop("most_bytes", MOST_ANSWER_BYTES)
        kwargs |= {"stream": True, "allow_redirects": False, "proxies": {}, "timeout": self._config.timeout_s}
        try:
            response = super().send(request, **kwargs)
        except requests.RequestException as error:
            raise self._unreachable(error) from None
        try:
            self._check_status(response)
            if not stream:
                response.raw = io.BytesIO(b"".join(self.body(response, most_bytes)))
        except BaseException:
            response.close()
            raise
        return response

    def get_redirect_target(self, resp: requests.Response) -> None:
        """None: the library reads the whole body of an answer that it takes for a redirect, however long that is."""

    def body(self, response: requests.Response, most_bytes: int) -> Iterator[bytes]:
        """The pieces of an answer. Raises TooLargeError, ServerSilentError, or SourceError for a compressed one."""
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise self.error("the server compresses its answers although asked not to; switch that off")
        begun, count = time.monotonic(), 0
        raw = response.raw
        while chunk := self._piece(raw):
            count += len(chunk)
            if count > most_bytes:
                raise TooLargeError(str(self.error(f"an answer is longer than {most_bytes} bytes; lower page_size, or "
                                                   "raise the limit on files")))
            late_s = time.monotonic() - begun - self._config.timeout_s
            if late_s > 0 and count < late_s * LEAST_BYTES_PER_S:
                raise ServerSilentError(str(self.error("an answer comes too slowly; raise timeout_s")))
            yield chunk
        # Lengths that differ end in an error of the library; without a length, the format must tell the end.

    def get_bytes(
        self, url: str, accept: str, most_bytes: int, params: Sequence[tuple[str, str]] = ()
    ) -> tuple[str, bytes]:
        """Content type and bytes at a URL of this origin; tried again where that may help. Raises SourceError."""
        request = requests.Request("GET", url, params=list(params), headers={"Accept": accept})
        try:
            response = self.patiently(lambda: self.send(self.prepare_request(request), most_bytes=most_bytes))
        except (requests.RequestException, UnicodeError):
            raise ForeignAddressError(str(self.error("the server names an address that is none; check url"))) from None
        return response.headers.get("Content-Type", ""), response.content

    def get_json(self, url: str, accept: str, most_bytes: int, params: Sequence[tuple[str, str]] = ()) -> object:
        """The JSON at a URL of this origin. Raises SourceError, also when it is none."""
        try:
            return json.loads(self.get_bytes(url, accept, most_bytes, params)[1])
        except (ValueError, RecursionError) as error:
            if isinstance(error, SourceError):
                raise
            raise self.error("the server answers, but not with JSON; check url") from None

    def patiently(self, attempt: Callable[[], _T]) -> _T:
        """See `Patience`."""
        return self._patience.of(attempt)

    def error(self, text: str) -> SourceError:
        """A SourceError that names this source."""
        return SourceError(f"source {self._config.name}: {text}.")

    def _origin(self, url: str) -> tuple[str, str, int | None]:
        try:
            parts = urlsplit(url)
            return parts.scheme, (parts.hostname or "").lower(), parts.port or {"http": 80, "https": 443}[parts.scheme]
        except (ValueError, KeyError):
            raise ForeignAddressError(str(self.error("the server names an address that is none; check url"))) from None

    def _piece(self, raw: Any) -> bytes:
        try:
            return bytes(raw.read1(CHUNK_BYTES, decode_content=False))
        except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError):
            raise ServerSilentError(str(self.error("the connection broke off in an answer; try again, what came "
                                                   "before is kept"))) from None

    def _check_status(self, response: requests.Response) -> None:
        code = response.status_code
        if code in (401, 407):
            raise self.error(f"the server refuses the login ({code}); check user and the secret in secret_file")
        if 300 <= code < 400:
            raise NotGivenError(str(self.error(f"the server redirects ({code}), which is not followed: the login would "
                                               "go along; write the final address into url")))
        if code >= 500 or code in _BUSY:
            raise ServerFaultError(str(self.error(f"the server reports a fault of its own ({code}); try again later, "
                                                  "what came is kept")))
        if code == 403:
            raise NotGivenError(str(self.error("the server forbids this (403); grant the account reading rights")))
        if not 200 <= code < 300:
            raise NotGivenError(str(self.error(f"the server answers {code}; check url")))

    def _unreachable(self, error: requests.RequestException) -> SourceError:
        reasons = [str(type(reason).__name__) for reason in _chain(error)]
        if isinstance(error, requests.exceptions.SSLError):
            return self.error("the server's certificate cannot be verified, or it speaks no TLS; check url, and set "
                              "ca_file to the authority that signed it")
        if "NameResolutionError" in reasons or "gaierror" in reasons:
            return ServerSilentError(str(self.error("the server's name is not known to DNS; check url")))
        if isinstance(error, requests.exceptions.Timeout):
            return ServerSilentError(str(self.error(
                f"the server does not answer within {self._config.timeout_s:g} s; check url, or raise timeout_s")))
        return ServerSilentError(str(self.error("the server cannot be reached, or broke the connection off; check url "
                                                "and that it runs")))


MOST_ANSWER_BYTES = 16 * 2**20


class _VerifiedAdapter(HTTPAdapter):
    """TLS against the system's authorities, or against `ca_file` alone; the library would add its own list."""

    def __init__(self, config: SourceConfig) -> None:
        try:
            self._context = ssl.create_default_context(cafile=config.ca_file or None)
        except OSError:  # ssl.SSLError too
            raise SourceError(f"source {config.name}: ca_file cannot be read as certificates; name a PEM file.") \
                from None
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """With the context, which requires a certificate and its name."""
        super().init_poolmanager(*args, **kwargs, ssl_context=self._context)

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Leave it to the context."""
        conn.cert_reqs = "CERT_REQUIRED"


def read_secret(config: SourceConfig) -> str:
    """The secret in `config.secret_file`, a 0600 file of one line. Raises SourceError with the fix."""
    path = Path(config.secret_file)
    named = f"source {config.name}: secret_file {path}"
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > MOST_SECRET_BYTES:
            raise SourceError(f"{named} is no file of one line; write the password or token into it.")
        if status.st_mode & 0o077:
            raise SourceError(f"{named} is readable by others (mode {status.st_mode & 0o777:o}); run: chmod 600 {path}")
        secret = path.read_bytes().decode().strip()
    except OSError:
        raise SourceError(f"{named} does not exist or cannot be read; create it with mode 600.") from None
    except UnicodeDecodeError:
        secret = ""
    if not secret or not secret.isprintable() or (not config.user and not secret.isascii()):
        raise SourceError(f"{named} must hold one line of printable characters; write the password or token into it.")
    return secret


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and what it came from, through causes, contexts and wrapped reasons."""
    seen: list[BaseException] = []
    todo = [error]
    while todo:
        found = todo.pop()
        if isinstance(found, BaseException) and found not in seen:
            seen.append(found)
            wrapped = [*found.args, getattr(found, "reason", None)]
            todo += [found.__cause__, found.__context__, *(item for item in wrapped if isinstance(item, BaseException))]
    yield from seen
