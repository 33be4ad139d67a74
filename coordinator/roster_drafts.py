"""How a coordinator's folder grows: requests are taken in, and the next roster is drafted for the officers to sign."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from coordinator.home import Home
from coordinator.roster_files import with_sites
from privacy.durable import write_whole
from privacy.enrolment import EnrolmentError, SiteRequest
from privacy.identity import MIN_COHORT, Roster
from privacy.roster import SignedRoster

__all__ = ["draft", "enrol"]

_MOST_BYTES = 1 << 16


def enrol(home: Home, paths: Iterable[Path]) -> str:
    """Take in site requests, and draft the roster that lists them; what to do next, for a screen.

    Raises:
        ValueError: a request that is not good, or an identifier or key that another site has; nothing was written.
    """
    invitation, known, new = home.invitation(), home.requests(), {}
    for path in paths:
        try:
            request = SiteRequest.open(_content(path), invitation)
        except EnrolmentError as error:
            raise ValueError(f"{path} is refused: {error}") from None
        known[request.site_id] = new[request.site_id] = _unique(request, known)
    latest = home.latest()
    listed = () if latest is None else latest.roster.site_ids
    waiting = [known[name] for name in sorted(known) if name not in listed]
    if latest is None:
        grown = _first(home, waiting)
    else:
        grown = with_sites(latest.roster, (one.roster_site() for one in waiting)) if waiting else None
    for request in new.values():
        write_whole(home.request_file(request.site_id), request.to_json().encode())
    if grown is not None:
        return _write(home, latest, grown)
    if latest is None:
        missing = _needed(home) - len(known)
        return (f"stored: {', '.join(known)}; a roster needs {_needed(home)} sites, {missing} more must enrol before "
                "it is drafted")
    return f"{', '.join(new)}: on the roster already; {home.still_needed(latest) or 'it is in force'}"


def draft(home: Home, change: Callable[[Roster], Roster]) -> str:
    """Write roster.bin as the unsigned draft that `change` makes of it; what to do next, for a screen.

    A roster in force is kept in rosters/ first. An unsigned draft is drafted again with its own version; one that
    somebody has signed gets a new version, so that no two contents of one version are ever signed.

    Raises:
        ValueError: there is no roster.bin, or from `change`; nothing was written.
    """
    latest = home.latest()
    if latest is None:
        raise ValueError(f"{home.roster_file} does not exist; `coordinator enroll` drafts the first one")
    return _write(home, latest, change(latest.roster))


def _write(home: Home, latest: SignedRoster | None, made: Roster) -> str:
    in_force = home.in_force()
    if latest is not None:
        made = replace(made, version=latest.roster.version + (1 if latest.signatures else 0))
    if in_force is not None:
        write_whole(home.kept_roster_file(in_force.roster.version), in_force.to_bytes())
    write_whole(home.roster_file, SignedRoster(made).to_bytes())
    return (f"version {made.version} with {len(made.active_ids)} active sites, hash {made.hash().hex()}: a draft\n"
            f"next: the officers read it (`coordinator roster show {home.folder}`) and two of them sign it:\n"
            f"  coordinator roster sign {home.roster_file} --key KEY_FILE{_previous(home)}")


def _previous(home: Home) -> str:
    previous = home.previous()
    return "" if previous is None else f" --previous {home.kept_roster_file(previous.roster.version)}"


def _content(path: Path) -> bytes:
    if not path.is_file():
        raise ValueError(f"request file {path} does not exist; name the file that the site sent")
    with path.open("rb") as file:
        return file.read(_MOST_BYTES + 1)


def _unique(request: SiteRequest, known: dict[str, SiteRequest]) -> SiteRequest:
    """`request`, unless it says something else than the stored one, or takes another site's key."""
    same = known.get(request.site_id)
    if same is not None and same != request:
        raise ValueError(f"{request.site_id} is enrolled with another request already; a site with new keys enrols "
                         "under a new identifier, and the old one is revoked with `coordinator roster revoke`")
    for other in known.values():
        if other.site_id != request.site_id and (
                other.public_key == request.public_key or other.node_key == request.node_key):
            raise ValueError(f"{request.site_id} has a key of {other.site_id}; each site makes its own with "
                             "`site-client init`")
    return request


def _needed(home: Home) -> int:
    return 2 if home.config.two_sites else max(MIN_COHORT, home.config.min_cohort)


def _first(home: Home, requests: list[SiteRequest]) -> Roster | None:
    """Version 1; None while too few sites have enrolled."""
    if len(requests) < _needed(home):
        return None
    invitation = home.invitation()
    return Roster(
        federation_id=invitation.federation_id, version=1, coordinator_key=invitation.coordinator_key,
        sites=tuple(one.roster_site() for one in requests), min_cohort=home.config.min_cohort,
        min_fraction=home.config.min_fraction, officers=invitation.officers, two_sites=home.config.two_sites)
