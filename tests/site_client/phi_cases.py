"""What the further sets of texts for the PHI check are made of."""

from __future__ import annotations

from dataclasses import dataclass

from site_client.phi.anchors import Anchors

__all__ = ["Case", "Span"]


@dataclass(frozen=True, slots=True)
class Span:
    """Where an identifier stands, `text[start:end]`, and what it is."""

    start: int
    end: int
    kind: str


@dataclass(frozen=True, slots=True)
class Case:
    """One text with its patient's header; `spans` are counted, `residual` is measured and never counted."""

    template: str
    language: str
    text: str
    anchors: Anchors
    spans: tuple[Span, ...]
    residual: tuple[Span, ...]
