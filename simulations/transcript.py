"""One round of `fedsecagg/1` in real bytes: four sites, one of which vanishes after it dealt its shares.

Everything random comes from named streams, so the same bytes appear on every machine. `docs/protocol.md` quotes them in
blocks fenced as ```` ```transcript NAME ````; `python -m simulations.transcript --write docs/protocol.md` fills the
blocks, and a test compares them.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from coordinator.state_agreement import close_round
from model.server_optimizer import ServerOptimizer, ServerState, total_weight
from privacy.identity import Officer, Roster, RosterSite, SigningKey
from privacy.messages import (
    Advertise,
    AdvertiseList,
    Attest,
    Confirm,
    EnvelopeList,
    LedgerMark,
    MaskedHeader,
    Plan,
    RoundStart,
    RunManifest,
    SignedPlan,
    SiteTerms,
    SourceShare,
    StageSpec,
    UnmaskShares,
)
from privacy.roster import SignedRoster
from privacy.secagg.client import SiteRound
from privacy.secagg.keys import pair_mask_key, self_mask_key
from privacy.secagg.masking import apply_masks
from privacy.secagg.params import ring_params
from privacy.secagg.quantize import dequantize_sum, pack, quantize, unpack
from privacy.secagg.server import CoordinatorRound
from privacy.wire import Message

__all__ = ["Blocks", "fill", "record"]

SITES = ("site-1", "site-2", "site-3", "site-4")
GONE = "site-4"
DIMENSION = 3  # two coordinates of the adapter and one statistic lane
INITIAL = np.array([0.5, -0.5])
ADAPTER_HASH = b"\x01" * 32
Blocks = dict[str, str]
_BLOCK = re.compile(r"(?m)^```transcript ([a-z0-9-]+)\n(.*?)^```$", re.DOTALL)


class NamedStream:
    """SHA-256 in counter mode over a name: repeatable bytes, for a transcript and never for a patient."""

    def __init__(self, name: str) -> None:
        self._name, self._count = name, 0

    def random_bytes(self, n: int) -> bytes:
        """The next `n` bytes."""
        out = b""
        while len(out) < n:
            out += hashlib.sha256(f"{self._name}|{self._count}".encode()).digest()
            self._count += 1
        return out[:n]


class _Setting:
    """Keys, roster, manifest and plan of the round."""

    def __init__(self) -> None:
        self.keys = {site: SigningKey.generate(NamedStream(f"key {site}").random_bytes) for site in SITES}
        self.officers = {
            name: SigningKey.generate(NamedStream(f"key {name}").random_bytes) for name in ("officer-1", "officer-2")}
        self.coordinator_key = SigningKey.generate(NamedStream("key coordinator").random_bytes)
        self.roster = Roster(
            "fed", 1, self.coordinator_key.public_bytes(),
            tuple(RosterSite(site, self.keys[site].public_bytes(), 100) for site in SITES), 3, 0.5,
            tuple(Officer(name, key.public_bytes()) for name, key in self.officers.items()))
        self.ring = ring_params(24, 1.0, len(SITES))
        stage = StageSpec("one", (SourceShare("reports", 2),), ("attention",), "b-only", 0.1, 0.9, 4, 0.1, 1.0, 5)
        self.manifest = RunManifest(
            federation_id="fed", run_id="run", release="0.1.0", roster_hash=self.roster.hash(),
            base_model_hash=bytes(32), adapter_hash=ADAPTER_HASH, lora_rank=8, lora_alpha=16, privacy="patient-dp",
            clip_norm=1.0, target_epsilon=8.0, lane_share=0.1, bits=24, saturation=1.0, stages=(stage,),
            sites=tuple(SiteTerms(site, 100, 1.0, 1e-5) for site in SITES))
        self.plan = Plan(
            federation_id="fed", run_id="run", roster_hash=self.roster.hash(), manifest_hash=self.manifest.hash(),
            round=1, attempt=1, stage=0, factor="B", model_hash=ServerState.initial(INITIAL).model_hash,
            dimension=DIMENSION, num_lanes=1, bits=24, scale=self.ring.scale, saturation=1.0)


    def mark(self, site: str, sequence: int) -> LedgerMark:
        """How far that site's ledger is; its rows are not part of this page."""
        head = hashlib.sha256(f"{site} row {sequence}".encode()).digest()
        return LedgerMark.make(site, sequence, head, "fed", self.keys[site])


def record() -> Blocks:
    """Run the round; every block by name, as the text that stands in the document."""
    setting, blocks = _Setting(), Blocks()
    coordinator = CoordinatorRound(plan=setting.plan, roster=setting.roster, signing_key=setting.coordinator_key)
    machines = {
        site: SiteRound(site_id=site, signing_key=setting.keys[site], roster=setting.roster,
                        manifest=setting.manifest, entropy=NamedStream(site),
                        on_masking=partial(setting.mark, site, 3)) for site in SITES}
    _announce(setting, coordinator, machines, blocks)
    _deal(coordinator, machines, blocks)
    _mask(setting, coordinator, machines, blocks)
    _attest(setting, coordinator, _unmask(setting, coordinator, machines, blocks), blocks)
    return blocks


def _announce(
    setting: _Setting, coordinator: CoordinatorRound, machines: dict[str, SiteRound], blocks: Blocks
) -> None:
    signed = SignedRoster.make(setting.roster, *setting.officers.values())
    blocks["roster"] = _shown(signed) + f"\nhash    {setting.roster.hash().hex()}"
    plan = coordinator.signed_plan()
    blocks["r0-plan"] = _shown(SignedPlan.from_bytes(plan), plan)
    blocks["ctx"] = f"ctx     {setting.plan.context().hex()}"
    vectors = []
    for number, site in enumerate(SITES, start=1):
        real = np.array([0.1, -0.25, 0.5]) * number
        vector = quantize(real, setting.ring)
        vectors.append(f"{site}  x = {_numbers(real)}   q = {_numbers(vector.values.view(np.int32))}")
        reply = machines[site].advertise(setting.plan, vector, setting.mark(site, 2))
        coordinator.receive_advertise(site, reply)
        if site == SITES[0]:
            blocks["r0-advertise"] = _shown(Advertise.from_bytes(reply), reply)
    blocks["vectors"] = "\n".join(vectors)


def _deal(coordinator: CoordinatorRound, machines: dict[str, SiteRound], blocks: Blocks) -> None:
    for site, message in coordinator.close_advertise().items():
        reply = machines[site].share(message)
        coordinator.receive_share(site, reply)
        if site == SITES[0]:
            announced = AdvertiseList.from_bytes(message)
            blocks["r1-list"] = (f"AdvertiseList, {len(message)} bytes: "
                                 + ", ".join(entry.site_id for entry in announced.entries))
            envelope = EnvelopeList.from_bytes(reply).entries[1]
            blocks["r1-envelope"] = _shown(envelope)
            blocks["secrets"] = (f"b of {site}   {_bytes(machines[site]._seed or b'', whole=True)}")


def _mask(
    setting: _Setting, coordinator: CoordinatorRound, machines: dict[str, SiteRound], blocks: Blocks
) -> None:
    keys: dict[str, list[tuple[str, bytes]]] = {}
    inbox = coordinator.close_share()
    h2 = coordinator.h2
    for site, message in inbox.items():
        keys[site] = _mask_keys(setting.plan.context(), h2, machines, site)
        if site == GONE:
            continue
        header, packed = machines[site].mask(message)
        coordinator.receive_masked(site, header, packed)
        if site == SITES[0]:
            blocks["r2-header"] = _shown(MaskedHeader.from_bytes(header), header)
            blocks["r2-upload"] = (f"y of {site}   {_bytes(packed.tobytes(), whole=True)}\n"
                                   f"            = {_numbers(unpack(packed, 24))}   modulo 2^24")
    first = SITES[0]
    blocks["masks"] = "\n".join(
        f"{name:<24} key {_bytes(key)}  words {_numbers(_words(key) % (1 << 24))}" for name, key in keys[first])
    cohort = coordinator.cohort
    blocks["chain"] = f"h1      {cohort.h1.hex()}\nh2      {h2.hex()}"


def _unmask(
    setting: _Setting, coordinator: CoordinatorRound, machines: dict[str, SiteRound], blocks: Blocks
) -> npt.NDArray[np.uint32]:
    for site, message in coordinator.close_masked().items():
        reply = machines[site].confirm(message)
        coordinator.receive_confirm(site, reply)
        if site == SITES[0]:
            blocks["r3-confirm"] = _shown(Confirm.from_bytes(reply), reply) + "\n" + "\n".join(_dump(reply))
    blocks["chain"] += f"\nh3      {coordinator.h3.hex()}"
    for site, message in coordinator.close_confirm().items():
        reply = machines[site].unmask(message)
        coordinator.receive_unmask(site, reply)
        if site == SITES[0]:
            blocks["r4-shares"] = _shown(UnmaskShares.from_bytes(reply), reply)
    total = coordinator.finish()
    blocks["sum"] = (f"ring sum   {_numbers(total)}   modulo 2^24\n"
                     f"real sum   {_numbers(dequantize_sum(total, setting.ring))}")
    return total


def _attest(
    setting: _Setting, coordinator: CoordinatorRound, total: npt.NDArray[np.uint32], blocks: Blocks
) -> None:
    """R5, with the arithmetic that every site repeats."""
    server, weights = setting.manifest.server, [setting.manifest.terms(site).weight for site in coordinator.survivors]
    state = ServerState.initial(INITIAL).after(
        np.arange(2), dequantize_sum(total, setting.ring)[:2], total_weight(weights),
        optimizer=ServerOptimizer(server.learning_rate, server.momentum), average_decay=server.average_decay)
    closing = close_round(
        setting.plan, coordinator.view, pack(total, 24), coordinator.tags, state, setting.coordinator_key)
    message = closing.result.to_bytes()
    blocks["r5-model"] = f"before     {_numbers(INITIAL)}\nafter      {_numbers(state.adapter)}"
    blocks["r5-result"] = _shown(closing.result, message) + f"\npacked sum  {_bytes(closing.packed.tobytes(), True)}"
    attests = tuple(Attest.make(site, closing.result.result, setting.keys[site]) for site in coordinator.survivors)
    blocks["r5-attest"] = _shown(attests[0])
    plan = replace(setting.plan, round=2, model_hash=state.model_hash)
    start = RoundStart(SignedPlan.signed(setting.coordinator_key, (), plan=plan), closing.result, attests)
    blocks["r5-start"] = (f"RoundStart, {len(start.to_bytes())} bytes: the plan of round 2, the result of round 1, "
                          f"attested by {', '.join(attest.site_id for attest in attests)}")


def _mask_keys(ctx: bytes, h2: bytes, machines: dict[str, SiteRound], site: str) -> list[tuple[str, bytes]]:
    """What site `site` will add or subtract, by name; read from its secrets before it forgets them."""
    machine = machines[site]
    pair, seed = machine._mask_pair, machine._seed
    if pair is None or seed is None:
        raise RuntimeError("the transcript reads secrets of a site that has forgotten them")
    named = [(f"+ own mask of {site}", self_mask_key(seed, ctx, h2, site))]
    for peer in sorted(set(machines) - {site}):
        other = machines[peer]._advert
        if other is None:
            raise RuntimeError("the transcript needs every announcement")
        sign = "+" if site < peer else "-"
        named.append((f"{sign} pair {site}, {peer}", pair_mask_key(pair, other.mask_key, ctx, h2, site, peer)))
    return named


def _words(key: bytes) -> npt.NDArray[np.uint32]:
    words = np.zeros(DIMENSION, dtype=np.uint32)
    apply_masks(words, [key], [])
    return words


def _shown(message: Message, data: bytes | None = None) -> str:
    size = len(message.to_bytes() if data is None else data)
    return "\n".join([f"{type(message).__name__}, {size} bytes", *_lines(message, 1)])


def _lines(message: Message, depth: int) -> Iterator[str]:
    indent = "  " * depth
    for field in fields(message):
        value = getattr(message, field.name)
        if isinstance(value, Message):
            yield f"{indent}{field.name}:"
            yield from _lines(value, depth + 1)
        elif isinstance(value, tuple) and value and isinstance(value[0], Message):
            for inner in value:
                yield f"{indent}{field.name}: {type(inner).__name__}"
                yield from _lines(inner, depth + 1)
        else:
            shown = _bytes(value) if isinstance(value, bytes) else repr(value)
            yield f"{indent}{field.name:<28} {shown}"


def _bytes(value: bytes, whole: bool = False) -> str:
    if whole or len(value) <= 12:
        return value.hex()
    return f"{value[:8].hex()}..{value[-4:].hex()} ({len(value)} bytes)"


def _numbers(values: npt.NDArray[np.generic]) -> str:
    return "[" + ", ".join(f"{value:.6g}" if values.dtype.kind == "f" else str(int(value)) for value in values) + "]"


def _dump(data: bytes) -> Iterator[str]:
    for start in range(0, len(data), 16):
        line = data[start : start + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in line)
        yield f"{start:04x}  {line.hex(' '):<47}  {text}"


def fill(document: str, blocks: Blocks) -> str:
    """`document` with every fenced transcript block replaced.

    Raises:
        ValueError: the document names a block that does not exist, or leaves one out.
    """
    named = [match[1] for match in _BLOCK.finditer(document)]
    if sorted(named) != sorted(blocks):
        wrong = sorted(set(named) ^ set(blocks)) or ["(one twice)"]
        raise ValueError(f"the transcript blocks of the document and of the round differ in: {', '.join(wrong)}")
    return _BLOCK.sub(lambda match: f"```transcript {match[1]}\n{blocks[match[1]]}\n```", document)


def main(argv: list[str] | None = None) -> int:
    """Print every block, or write them into a document."""
    parser = argparse.ArgumentParser(prog="python -m simulations.transcript", description=__doc__.splitlines()[0])
    parser.add_argument("--write", type=Path, metavar="FILE", help="fill the transcript blocks of this document")
    arguments = parser.parse_args(argv)
    blocks = record()
    if arguments.write is None:
        print("\n\n".join(f"== {name}\n{text}" for name, text in blocks.items()))
    else:
        arguments.write.write_text(fill(arguments.write.read_text(encoding="utf-8"), blocks), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
