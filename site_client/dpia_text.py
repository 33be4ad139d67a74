"""The facts of a site as the input of a data protection impact assessment, in the order of GDPR Article 35(7).

An aid, not legal advice: what software can know is filled in, what only the controller can say is marked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from site_client.dpia_risks import NOT_CLAIMED, RISKS, SAFEGUARDS
from site_client.guarantees_report import guarantee_lines

__all__ = ["BLANK", "dpia_text"]

BLANK = "**[to be filled in by the controller]**"


def dpia_text(facts: Mapping[str, Any]) -> str:
    """Markdown of `site_client.dpia_facts.dpia_facts`."""
    parts = [
        [f"# Input for a data protection impact assessment: site {facts['site_id']}", "",
         f"**An aid, not legal advice.** The software wrote this from the site's own files on {facts['written_utc']}. "
         f"It fills in what it can know; {BLANK} marks what only the controller can say. The order is that of GDPR "
         "Article 35(7)."],
        _processing(facts), _leaves(facts["left"]), _necessity(facts), _protection(facts["budget"], facts["policy"]),
        ["## 5. Risks for patients and what is done about them (Article 35(7)(c) and (d))", "",
         *_table(("risk", "measure", "how to check it here", "what remains"), RISKS)],
        ["## 6. What is not claimed", "", *(f"- {line}" for line in NOT_CLAIMED)],
        _rights(facts),
        ["## 8. Safeguards by the HIPAA Security Rule (45 CFR 164.312), where it applies", "",
         *_table(("standard", "what the software does", "what is left to the hospital"), SAFEGUARDS)],
        _records(facts),
    ]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _processing(facts: Mapping[str, Any]) -> list[str]:
    federation, index = facts["federation"], facts["index"]
    lines = [
        "## 1. The processing (Article 35(7)(a))", "",
        "- Purpose: joint training of LoRA adapters of one medical vision-language model, for research; not for "
        f"decisions on a patient. The hospital's own purpose and legal basis (Articles 6 and 9): {BLANK}",
        f"- Controller, joint controllers (Article 26), data protection officer: {BLANK}",
        "- Where: on this hospital's machine. Patient data stay there; software release "
        f"`{facts['software']['release']}`.",
        f"- Base model: `{facts['base_model']}`. Coordinator: {facts['coordinator'] or 'none named yet'}.",
        "- Sources: " + ", ".join(f"{one['name']} ({one['kind']})" for one in facts["sources"]) + ".",
    ]
    if "fault" in federation:
        lines.append(f"- Federation: {federation['fault']}")
    else:
        lines += [
            f"- Federation `{federation['id']}`, roster version {federation['roster_version']} "
            f"(hash `{federation['roster_hash']}`), signed by officers among {', '.join(federation['officers'])}:", "",
            *_table(("site", "declared patients (not an exact count)", "state"),
                    [(one["site_id"], one["declared_patients"], one["status"]) for one in federation["sites"]]), ""]
    if index is None:
        lines.append("- Data: not read for this document; run the command without `--no-data`.")
    else:
        rows = [("patients", index["patients"]), *_counts("modality", index["modalities"]),
                *((f"samples of {name}", one["samples"]) for name, one in index["sources"].items()),
                *_counts("hits of the text check:", index["phi_hits"]), ("refused items", index["refused"])]
        lines += ["", "Data that training may use (counts below ten are hidden):", "", *_table(("what", "count"), rows)]
    return lines


def _counts(word: str, counts: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [(f"{word} {name}", count) for name, count in counts.items()]


def _leaves(left: Mapping[str, Any]) -> list[str]:
    lines = ["## 2. What left the hospital", ""]
    if "fault" in left:
        return [*lines, f"The audit log cannot be read: {left['fault']}"]
    if not left:
        return [*lines, "Nothing: this site has not been started."]
    rows = [(row["message"], row["count"], f"{row['body_bytes']:,}", f"{row['vector_bytes']:,}")
            for row in left["egress"]]
    return [*lines, "From the hash-chained audit log, in which every reply is booked before it leaves (`site-client "
                    "audit verify`). A vector is an update: clipped for each patient, noised, then masked. All other "
            "bytes are keys, signatures, hashes, names and codes, which no patient's data influence.", "",
            *_table(("message", "count", "bytes", "bytes of vectors"), rows), "",
            f"In all {left['bytes_that_left']:,} bytes. Refused: "
            + (", ".join(f"{code} {count}" for code, count in left["refusals"].items()) or "nothing") + "."]


def _necessity(facts: Mapping[str, Any]) -> list[str]:
    policy = facts["policy"]
    return [
        "## 3. Necessity and proportionality (Article 35(7)(b))", "",
        f"- Why this purpose needs these data, and why fewer or synthetic data would not do: {BLANK}",
        "- Storage limitation: index, mirrors of servers and ready pictures stay on the protected volume until they "
        f"are deleted; how long: {BLANK}",
        f"- Minimisation by the software: a patient is known by a keyed pseudonym; at most {policy['max_samples']} "
        "samples of a patient enter one step; texts are searched for names and identifiers (on a hit: "
        f"{facts['text_check']}); pictures that may hold burned-in text are refused unless the site opts in; "
        "localizers, segmentations, dose and structured reports are never read.",
        f"- Patients who opted out: {facts['opted_out']} (`site-client opt-out`).",
        f"- Accuracy, transparency and information of the patients (Articles 13 and 14): {BLANK}"]


def _protection(budget: Mapping[str, Any], policy: Mapping[str, Any]) -> list[str]:
    lines = ["## 4. Differential privacy of each patient", ""]
    if "fault" in budget:
        return [*lines, f"The ledger cannot be read: {budget['fault']}"]
    if not budget["private"]:
        lines.append("**Nothing is claimed: a step ran without noise, or with noise from a simulated source.**")
    else:
        lines.append(f"Spent so far, for every patient of this site: **epsilon {budget['epsilon']:.4g}** of at most "
                     f"{policy['max_epsilon']:g}, which the site's policy sets for the life of its ledger.")
    if budget["private"] and budget["epsilon"]:
        lines += ["", "What that means: whatever anybody concludes from all that left, its odds change by a factor "
                      f"of at most {budget['factor']:.4g} when one patient's whole record here is added or removed, "
                      f"except with a probability of at most delta ({budget['delta']:.3g} over all runs)."]
    lines += ["", *_claim(budget["guarantees"]), "", "The signed ledger is written before anything is released, so a "
              "crash counts too much, never too little (`site-client ledger verify`). Runs:", ""]
    runs = [(run["run_id"], _number(run["reserved"]), _number(run["ran"]), run["rounds"],
             f"{run['steps']} of {run['planned_steps']}") for run in budget["per_run"]]
    return [*lines, *(_table(("run", "epsilon reserved", "of what ran", "rounds", "steps"), runs) if runs
                      else ["none yet"])]


def _claim(guarantees: Mapping[str, Any] | None) -> list[str]:
    """Unit, neighbours and mechanism, and what the claim rests on."""
    lines = ["Unit: all records of one person at this site. Neighbouring data: one patient added or removed. "
             "Mechanism: DP-SGD with one clip for each patient."]
    if guarantees is None:
        return [*lines, "", "All noise is added at the site itself: the claim does not rest on the coordinator, the "
                            "other sites or the masks."]
    return [*lines, "", "**Some runs shared their noise out among the sites.** The epsilon above then rests on the "
                        f"masks and on honest noise at the other sites, of which at most {guarantees['colluders']} "
                        "may work against this one. The three guarantees:", "", *guarantee_lines(dict(guarantees))]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _rights(facts: Mapping[str, Any]) -> list[str]:
    return [
        "## 7. Rights of the data subjects", "",
        "- Objection and withdrawal: `site-client opt-out add` leaves a patient out from the next round on. Copies "
        "in mirrors of archives are removed by hand.",
        "- Erasure: an adapter that was released cannot forget one patient. What it can tell about any one is what "
        "section 4 bounds; stricter is training again without the patient.",
        "- Access: the software keeps no name; a patient's pseudonym can be computed with the site's key only.",
        f"- Consent or other basis, contact, complaint: {BLANK}",
        f"- Consultation of the data subjects or their representatives (Article 35(9)): {BLANK}"]


def _records(facts: Mapping[str, Any]) -> list[str]:
    return [
        "## 9. Entry for the records of processing (Article 30)", "",
        *_table(("item", "entry"), [
            ("name", f"Federated training at {facts['site_id']}"), ("controller and contact", BLANK),
            ("purposes", "research: training of a shared model; no decision on a patient"),
            ("data subjects", "patients whose images or reports are in the sources above"),
            ("categories of data", "images, reports, questions and answers (health data, Article 9)"),
            ("recipients", "the coordinator and the sites of section 1: noised sums; nobody else"),
            ("transfers to third countries", BLANK), ("time limits for erasure", BLANK),
            ("security measures", "sections 4, 5 and 8")]), "",
        "Kept as evidence, on this machine: ledger, audit log, evidence of contradictions, approvals. HIPAA asks to "
        "keep such documentation for six years (45 CFR 164.316(b)(2)(i)); the ledger must live as long as the "
        "patients' data."]


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    return [f"| {' | '.join(head)} |", "|" + "---|" * len(head),
            *(f"| {' | '.join(str(cell).replace('|', '/') for cell in row)} |" for row in rows)]
