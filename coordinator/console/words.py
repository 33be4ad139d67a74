"""The words of the coordinator's pages: reasons that are no codes."""

from __future__ import annotations

from privacy.web import words
from privacy.web.words import Meaning

__all__ = ["meanings"]

_PLAIN = {
    "transport": ("The message did not reach the site, or its answer did not come back.",
                  "Look at the site's connection: site-client doctor SITE_FILE."),
    "no-reply": ("The site did not answer within the step's time.",
                 "Ask the site's operator whether it still trains; timeout_s must be above its slowest round."),
    "malformed": ("The site's answer could not be read.", "Compare the releases: coordinator release, site-client "
                  "release."),
    "did not accept the run": ("The site was not admitted to the run.", "See its answer to the last admission.")}


def meanings(*reasons: str) -> list[Meaning]:
    """What the codes and words in `reasons` mean and what to do, each once, in order."""
    return words.meanings(*reasons, plain=_PLAIN)
