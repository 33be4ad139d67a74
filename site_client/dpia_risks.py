"""Risks, measures and limits for an impact assessment: the same at every site; docs/threat-model.md explains them."""

from __future__ import annotations

__all__ = ["NOT_CLAIMED", "RISKS", "SAFEGUARDS"]

RISKS = (
    ("somebody learns from the model that a patient was in the data, or what a report said",
     "differential privacy for each patient, noise at the site, one budget for the life of the ledger",
     "`site-client ledger show`, `ledger verify`",
     "what epsilon and delta leave open; a patient known to several sites adds their budgets up"),
    ("the coordinator looks at this site's update",
     "pairwise masks under keys that the coordinator cannot forge; no sum below the cohort floor is opened",
     "`site-client roster show`, `simulate attack all`",
     "if masks fail, the noised update, which section 4 covers; a sum of few sites says more"),
    ("a run asks for more than was agreed",
     "the site's policy decides before a patient is read; refusals have names and are logged; approval by hand on "
     "request",
     "`site-client approve`, the policy in the site file",
     "a policy that was set too wide"),
    ("software is exchanged or extended from outside",
     "sites run only the release that they installed; its hash is compared; nothing that the coordinator sends is "
     "unpacked",
     "`site-client release`, `doctor`",
     "an attacker with write access to the machine"),
    ("patient data leave by another way",
     "one connection, to the coordinator; every message is booked first, in a hash chain; no telemetry or download",
     "`site-client audit show`, `audit verify`",
     "sizes and times of messages; whoever administers the machine"),
    ("names or identifiers in texts or pictures are learned",
     "search for this patient's own identifiers and general patterns; suspects of burned-in text refused; "
     "patient-level privacy covers what is missed",
     "`site-client index --report`, docs/phi.md has the measured misses",
     "names of third parties, and spellings that the check does not know"),
    ("a damaged or hostile image file takes the machine over",
     "files are parsed in a child process with limits on memory and time, without the site's keys",
     "`site-client index --refused`",
     "faults in decoders beyond those limits; `site-client answer` reads its one picture without the child"),
    ("the ledger is lost or put back",
     "chain, signatures, a second file, and marks that the other sites keep; a site with an old ledger is refused",
     "`site-client ledger verify`, `backup`",
     "all peers put back at the same time"),
    ("wrong answers harm a patient",
     "research licence, no clinical use, stated in every release",
     "the model card of a release",
     "whoever uses it in spite of that"),
)

NOT_CLAIMED = (
    "that messages' times and sizes say nothing: answers to a plan leave at scheduled times, other steps do not",
    "protection from sites that poison the model, or from a coordinator that refuses service",
    "protection from a bad model that is shown to all sites alike",
    "that a hostile consortium cannot burn budget: a run that the policy allows may spend it and bring nothing",
    "that sums of different cohorts cannot be compared across rounds; the noise in each sum is what protects then",
    "one person under several identifiers, or at several sites: those budgets add up",
    "privacy of choices that people make by looking at private results, such as tuning and picking checkpoints",
    "protection from the site's own operators and administrators",
    "anything in the case of probability delta",
    "a bound for a reader who adds knowledge from releases outside this ledger; composition inside it is counted",
    "a formal proof or an outside audit of this protocol; there has been neither",
)

SAFEGUARDS = (
    ("(a) access control", "keys and state 0600 and 0700, checked at each start; no port open to the network",
     "accounts, disk encryption, automatic logoff"),
    ("(b) audit controls", "hash-chained, signed log of every message, refusal and approval", "review of the log"),
    ("(c) integrity", "signed ledger, chains, marks at peers, signed releases", "backups"),
    ("(d) authentication", "Ed25519 identities on a roster that two officers signed, compared by telephone",
     "who may use the machine"),
    ("(e) transmission security", "TLS to one pinned authority; updates masked and noised besides", "network rules"),
)
