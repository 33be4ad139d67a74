"""Who answers a message at a site: the roster's rules first, then the session, which is opened once there is a roster.

The session and the model stay in the process between messages. Nothing that the coordinator sends can make another
session than the site file describes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from configs.load import load_config
from configs.schema import ConfigError, SiteConfig
from privacy.errors import NOBODY
from privacy.identity import Roster
from privacy.messages import ErrorReply, RosterInForce
from privacy.roster import RosterError, SignedRoster
from site_client.installation import Installation
from site_client.roster_pin import RosterPin
from site_client.session import Answer, SiteSession

__all__ = ["Reception"]

_log = logging.getLogger(__name__)


class Reception:
    """Answers messages for one site file.

    Args:
        open_session: makes the session of an installation.
        on_roster: told a roster that came into force here.
    """

    def __init__(
        self, site_file: str, open_session: Callable[[Installation], SiteSession],
        on_roster: Callable[[Roster], object] = lambda roster: None,
    ) -> None:
        self._site_file, self._open_session, self._on_roster = site_file, open_session, on_roster
        self._session: SiteSession | None = None
        self._roster_hash = b""

    def answer(self, step: str, body: bytes, vector: npt.NDArray[np.generic] | None) -> Answer:
        """The reply to one message. Never raises."""
        if step == "roster":
            return self._roster(body)
        session = self.session()
        if session is None:
            return ErrorReply("P_ROSTER", NOBODY).to_bytes(), None
        return session.answer(step, body, vector)

    def session(self) -> SiteSession | None:
        """The open session; None, and the reason in the log, while the site cannot take part."""
        if self._session is None:
            try:
                installation = Installation.open(self._site_file)
                self._roster_hash = installation.roster.hash()
                self._session = self._open_session(installation)
            except ConfigError as error:  # its text is ours and names files and keys of this installation only
                _log.warning("not taking part: %s", error)
            except Exception as error:
                _log.error("the installation cannot be opened kind=%s; see `site-client doctor`", type(error).__name__)
        return self._session

    def roster(self) -> Roster:
        """The roster in force here. Raises ConfigError while there is none."""
        return RosterPin(load_config(SiteConfig, self._site_file)).roster()

    def _roster(self, body: bytes) -> Answer:
        pin = RosterPin(load_config(SiteConfig, self._site_file))
        try:
            offered = SignedRoster.parse(body)
            accepted = pin.offer(offered)
        except (RosterError, ConfigError) as error:
            _log.warning("roster offered and refused: %s", error)
            accepted = False
        try:
            roster = pin.roster()
        except ConfigError:
            return ErrorReply("P_ROSTER", NOBODY).to_bytes(), None
        digest = roster.hash()
        if digest != self._roster_hash:  # in force from now on: the next message opens the session anew
            self._session, self._roster_hash = None, digest
            self._on_roster(roster)
        if not accepted:
            return ErrorReply("P_ROSTER", NOBODY).to_bytes(), None
        return RosterInForce(digest).to_bytes(), None
