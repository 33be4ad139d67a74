"""A message that carries its sender's signature.

*Guarantees.* A signature covers every other field, the message's kind and what the statement belongs to (the round, the
run), so it holds for nothing else.

*Assumes.* Receivers call `is_signed_by`; decoding alone proves nothing about the sender.

*Does not cover.* Freshness, beyond what the binding holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

from privacy.encoding import Item, enc
from privacy.identity import SigningKey, verify_encoded
from privacy.wire import Message, check_size

__all__ = ["SIGNATURE_BYTES", "SignedMessage"]

SIGNATURE_BYTES = 64
_SIGNATURE_ENCODED = len(enc(bytes(SIGNATURE_BYTES)))


@dataclass(frozen=True)
class SignedMessage(Message):
    """A message whose last field, `signature`, is its sender's, over the other fields and the round's binding."""

    LABEL: ClassVar[str]

    @classmethod
    def signed(cls, key: SigningKey, binding: tuple[Item, ...], **values: Any) -> Self:
        """Build and sign; `binding` is what the statement belongs to, e.g. (ctx, h1)."""
        build: Any = cls
        unsigned: Self = build(**values, signature=bytes(SIGNATURE_BYTES))
        signature = key.sign_encoded(cls.LABEL, enc(binding) + unsigned._signed_part())
        signed: Self = build(**values, signature=signature)
        return signed

    def is_signed_by(self, public: bytes, binding: tuple[Item, ...]) -> bool:
        """Whether `public` (32 bytes) signed exactly these fields for that binding."""
        signature = self.encoded()[-SIGNATURE_BYTES:]
        return verify_encoded(public, signature, self.LABEL, enc(binding) + self._signed_part())

    def _signed_part(self) -> bytes:
        """The encoding of every field but the signature, which is last and of one size."""
        return self.encoded()[:-_SIGNATURE_ENCODED]

    def check(self) -> None:
        check_size("a signature", vars(self)["signature"], SIGNATURE_BYTES)
