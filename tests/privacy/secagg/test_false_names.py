"""A site that signs, with its own good key, what is not its to sign; and a dealer whose shares are no secret's."""

from __future__ import annotations

from dataclasses import fields

import pytest

from privacy.errors import FaultySiteError
from privacy.messages import Advertise, Confirm, EnvelopeList, LedgerMark, MaskedHeader, UnmaskShares
from privacy.secagg.client import SiteRound
from privacy.secagg.shamir import PRIME, Share

LIAR, PEER = "site-003", "site-001"
KINDS = (Advertise, EnvelopeList, MaskedHeader, Confirm, UnmaskShares)


def resigned(message, key, binding, **changes):
    values = {field.name: getattr(message, field.name) for field in fields(message)[:-1]} | changes
    return type(message).signed(key, binding, **values)


def falsified(session, step, honest, signer, name):
    """The liar's reply, every field of it, signed by `signer` for this step in the name of `name`."""
    key, coordinator, ctx = session.federation.keys[signer], session.coordinator, session.plan.context()
    message = KINDS[step].from_bytes(honest)
    if step == 0:
        mark = LedgerMark.empty(name, "fed", session.federation.keys[name])  # the named one's own
        return resigned(message, key, (ctx,), site_id=name, mark=mark).to_bytes()
    if step == 1:
        binding = (ctx, coordinator.cohort.h1)
        return EnvelopeList(tuple(resigned(one, key, binding, sender=name) for one in message.entries)).to_bytes()
    binding = (ctx, coordinator.h2 if step == 2 else coordinator.h3)
    return resigned(message, key, binding, site_id=name).to_bytes()


@pytest.mark.parametrize(("signer", "name"), [(LIAR, PEER), (PEER, LIAR)], ids=["false-name", "false-key"])
@pytest.mark.parametrize("step", range(5))
def test_name_and_signature_must_both_be_the_senders(session, step, signer, name):
    session.run_to(step)
    honest = session.reply(step, LIAR)
    header, rest = (honest[0], honest[1:]) if step == 2 else (honest, ())
    false = falsified(session, step, header, signer, name)
    with pytest.raises(FaultySiteError) as fault:
        session.deliver(step, LIAR, (false, *rest) if rest else false)
    assert (fault.value.code, fault.value.blamed) == ("E_SITE_SIG", LIAR)
    again = falsified(session, step, header, LIAR, LIAR)  # so it was the name or the key, and nothing else
    session.deliver(step, LIAR, (again, *rest) if rest else again)
    assert LIAR not in session.coordinator.waiting


class NoSecret(SiteRound):
    """Deals good shares of a field element that no 32 bytes can be."""

    def _envelope(self, recipient, seed_share, key_share):
        return super()._envelope(recipient, Share(seed_share.index, PRIME - 1), key_share)


class NoKey(SiteRound):
    """The same with its mask key."""

    def _envelope(self, recipient, seed_share, key_share):
        return super()._envelope(recipient, seed_share, Share(key_share.index, PRIME - 1))


class TooFew(SiteRound):
    """Deals its seed itself to all, so that one share would do, but two envelopes do not open."""

    def _envelope(self, recipient, seed_share, key_share):
        seed = Share(seed_share.index, int.from_bytes(self._seed, "big"))
        envelope = super()._envelope(recipient, seed, key_share)
        if recipient not in ("site-001", "site-002"):
            return envelope
        binding = (self._cohort.ctx, self._cohort.h1)
        return resigned(envelope, self._signing_key, binding, ciphertext=bytes(len(envelope.ciphertext)))


@pytest.mark.parametrize(("kind", "silent"), [(NoSecret, ()), (TooFew, ()), (NoKey, {LIAR})])
def test_shares_that_are_no_secrets_or_fewer_than_the_threshold_rebuild_nothing(federation, kind, silent):
    session = federation.session(kinds={LIAR: kind}).run_to(2)
    session.run_step(2, silent)  # the key of a site is rebuilt when it drops out, its seed when it does not
    session.run_step(3)
    session.run_step(4)
    with pytest.raises(FaultySiteError) as fault:
        session.finish()
    assert (fault.value.code, fault.value.blamed) == ("E_DEALER", LIAR)
