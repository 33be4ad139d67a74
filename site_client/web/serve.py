"""Serves the hospital's pages until Ctrl-C: on this machine, or beyond it over TLS where that was asked for."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from configs.schema import SiteConfig
from privacy.web.access import new_token, token_in
from privacy.web.guard import host_names
from privacy.web.serving import Place, bind, serve_pages
from site_client.web.app import SitePages, site_app

__all__ = ["pages_url", "renew_token", "serve_site", "token_file"]


def token_file(config: SiteConfig) -> Path:
    """The operator's token. Raises ValueError where there is no state folder to keep it in."""
    if not Path(config.state).is_dir():
        raise ValueError(f"the state folder {config.state} does not exist; `site-client init` makes it, or restore it")
    return Path(config.state) / "web" / "token"


def renew_token(config: SiteConfig) -> None:
    """Replace the token."""
    new_token(token_file(config))


def pages_url(config: SiteConfig, place: Place) -> str:
    """What an operator opens. The token is behind a #: a browser sends that part to nobody, and no log holds it."""
    return f"{place.url}login#{token_in(token_file(config))}"


def serve_site(
    config: SiteConfig, site_file: str, place: Place, certificate: tuple[Path, Path] | None,
    on_ready: Callable[[Place], None],
) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        certificate: (chain, private key), where `place` is not loopback.
        on_ready: told where it listens, once it answers.

    Raises:
        ValueError: the address is taken, or the token or a certificate cannot be used; one sentence.
    """
    os.umask(0o077)
    token = token_in(token_file(config))
    listening, place = bind(place, "choose another: --port N, or --listen IP:PORT")
    pages = SitePages(config, site_file, token, host_names(place.host, place.port), place.secure)
    serve_pages(site_app(pages), listening, certificate if place.secure else None, pages.changes.end_streams,
                lambda: on_ready(place))
