"""Writes docs/faults.md from the tables of `privacy.errors` and `privacy.evidence`: python tests/vectors/make_faults.py

`tests/privacy/test_faults_page.py` fails when the page is not what this writes.
"""

from __future__ import annotations

from pathlib import Path

from privacy.errors import FAULTS, POLICY_ACTIONS, POLICY_REFUSALS
from privacy.evidence import RULES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "faults.md"

_HEAD = """# Error codes, who is blamed, and what to do

This page is written by `python tests/vectors/make_faults.py` from the tables in `privacy/errors.py` and
`privacy/evidence.py`; a test fails when it is out of date.

A site that refuses a step replies with a code and the blamed party, no values. The coordinator shows the code with its
sentence and its action in `coordinator status` and in the error that ends a run.

**A code is one party's word.** Only where the last column says so is there transferable evidence: signed statements of
one party that no honest party signs together. It convinces anybody who holds the roster. `site-client evidence
SITE_FILE` and `coordinator evidence RUN_FOLDER` list it, `export ID FILE` writes it, and `evidence --verify FILE
--roster ROSTER` checks it on any machine with the release that wrote it. Lists that the coordinator relays (who
announced, who survived) and vectors bear no signature of their own, so a code about them proves nothing to a third
party.

"sender" is whichever side sent the offending message.

"""

_RULES_HEAD = """
## What counts as evidence

An honest party never signs these, whatever fails around it. A site restarts, a message is delivered twice, an attempt
is repeated: none of that makes one.

| kind | code | what was signed | why an honest party never does it |
|---|---|---|---|
"""

_END = """
Not evidence, although two signed messages differ: two hellos of one site for one run (the nonce is fresh after each
refusal), two witness statements on one list (a site states what it knows when it is asked, and may know more the
second time), a plan for a round whose first attempt failed (a new attempt is allowed until the upload), and anything
that names another roster version.

The evidence shows that a key signed both. It does not show who used the key: a stolen key, or a state folder that was
restored from an old copy against the guides, signs like a cheat does. Ask the blamed party before you accuse it.

Evidence with revealed shares (`both-shares`, `two-unmaskings`) holds one site's shares of that round. They are far
fewer than the threshold and open nothing, but treat such a file like the round's other protocol messages: show it to
those who must judge it.

A site keeps the statements it compares in `evidence.sqlite` in its state folder: the newest 32 MiB of the coordinator's
and 512 KiB of each site's; older ones give way, so a contradiction of an older one is no longer found. Evidence itself
is never removed; it may fill 256 MiB, one pair for each thing contradicted.
"""


def page() -> str:
    """The whole page."""
    kinds: dict[str, list[str]] = {}
    for kind, rule in RULES.items():
        for code in filter(None, (rule.code, rule.also)):
            kinds.setdefault(code, []).append(f"`{kind}`")
    proofs = {code: f"yes, where both were signed: {', '.join(names)}" for code, names in kinds.items()}
    proofs["E_WEAK_KEY"] = "yes: `weak-key`"
    lines = [_HEAD, "## Faults\n\n", "| code | blamed | what happened | what to do | transferable evidence |\n",
             "|---|---|---|---|---|\n"]
    lines += [f"| `{code}` | {fault.blame} | {fault.sentence} | {fault.action} | {proofs.get(code, 'no')} |\n"
              for code, fault in FAULTS.items()]
    lines += ["\n## Refusals by a site's policy\n\nNobody is blamed: the site decides what it takes part in. "
              "The reply says which rule, never a number.\n\n",
              "| code | what happened | what the coordinator's operator does | transferable evidence |\n",
              "|---|---|---|---|\n"]
    lines += [f"| `{code}` | {sentence} | {POLICY_ACTIONS[code]} | {proofs.get(code, 'no')} |\n"
              for code, sentence in POLICY_REFUSALS.items()]
    lines += [_RULES_HEAD]
    lines += [f"| `{kind}` | `{rule.code}` | It {rule.words}. | {rule.reason[0].upper()}{rule.reason[1:]}. |\n"
              for kind, rule in RULES.items()]
    return "".join([*lines, _END])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
