"""A message that carries its sender's signature.

*Guarantees.* A signature covers every other field, the message's kind and what the statement belongs to (the round, the
run), so it holds for nothing else.

*Assumes.* Receivers call `is_signed_by`; decoding alone proves nothing about the sender.

*Does not cover.* Freshness, beyond what the binding holds.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

from privacy.encoding import Item
from privacy.identity import SigningKey, verify
from privacy.wire import Message, check_size

__all__ = ["SIGNATURE_BYTES", "SignedMessage"]

SIGNATURE_BYTES = 64


@dataclass(frozen=True)
class SignedMessage(Message):
    """A message whose last field is its sender's signature over the other fields and the round's binding."""

    LABEL: ClassVar[str]

    @classmethod
    def signed(cls, key: SigningKey, binding: tuple[Item, ...], **values: Any) -> Self:
        """Build and sign; `binding` is what the statement belongs to, e.g. (ctx, h1)."""
        build: Any = cls
        unsigned: Self = build(**values, signature=bytes(SIGNATURE_BYTES))
        signature = key.sign(cls.LABEL, binding, *unsigned.items()[:-1])
        signed: Self = build(**values, signature=signature)
        return signed

    def is_signed_by(self, public: bytes, binding: tuple[Item, ...]) -> bool:
        """Whether `public` (32 bytes) signed exactly these fields for that binding."""
        signature: bytes = getattr(self, fields(self)[-1].name)
        return verify(public, signature, self.LABEL, binding, *self.items()[:-1])

    def check(self) -> None:
        check_size("a signature", getattr(self, fields(self)[-1].name), SIGNATURE_BYTES)
