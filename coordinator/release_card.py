"""The model card (README.md) of a release: the facts of `release.json` for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from privacy.roster_facts import fingerprint

__all__ = ["release_card"]

_LIBRARY = {"peft": "peft", "merged": "transformers"}
_TITLE = {"peft": "Federated LoRA adapter", "merged": "Federated model: base and adapter merged"}


def release_card(facts: dict[str, Any]) -> str:
    """Markdown with a header for model hubs. `facts` are those of `release.json`, without its list of files."""
    parts = [
        _header(facts), f"# {_TITLE[facts['kind']]}", "", _summary(facts), "", "## Licence and use", "",
        f"{facts['licence']['id']}, the licence of MedGPT-oss, whatever the base model of this run is:", "",
        *_list(facts["licence"]["terms"]), "", "## Loading", "", *_list(facts["loading"]), "", "## Curriculum", "",
        *_curriculum(facts), "", "## Differential privacy", "", *_privacy(facts["privacy"]), "", "## Audit", "",
        f"- Privacy audit: {facts['audit']['text']}", "", "## Signatures", "", *_signatures(facts)]
    return "\n".join(parts) + "\n"


def _header(facts: dict[str, Any]) -> str:
    return (f"---\nlicense: cc-by-nc-4.0\nlibrary_name: {_LIBRARY[facts['kind']]}\n"
            "tags: [federated-medgpt, federated-learning, research-only]\n---")


def _summary(facts: dict[str, Any]) -> str:
    adapter, last = facts["adapter"], facts["attestation"]
    return "\n".join(_list([
        f"Run `{facts['run_id']}` of the federation `{facts['federation_id']}`, after round {last['round']} "
        f"({last['finished']} rounds with a sum)",
        f"Base model: content hash `{facts['base_model_hash']}`",
        f"LoRA: rank {adapter['rank']}, alpha {adapter['alpha']}, no dropout, no bias; {adapter['parts']}; "
        f"{adapter['size']:,} numbers",
        f"Weights: moving average of the rounds' adapters (decay {adapter['average_decay']:g})",
        f"In the last sum: {', '.join(last['summed'])}"]))


def _list(lines: Sequence[str]) -> list[str]:
    return [f"- {line}" for line in lines]


def _curriculum(facts: dict[str, Any]) -> list[str]:
    rows = ["| stage | rounds with a sum, of | trained | sources | local steps | sampling rate | noise |",
            "|---|---|---|---|---|---|---|"]
    for stage, done in zip(facts["stages"], facts["stage_rounds"], strict=True):
        sources = ", ".join(f"{share['source']} (at most {share['max_samples']})" for share in stage["sources"])
        gate = (stage["evaluation"] or {}).get("gate") or {"max_repeats": 0}
        most = stage["max_rounds"] * (1 + gate["max_repeats"])
        rows.append(f"| {stage['name']} | {done} of {most} | {', '.join(stage['groups'])}, "
                    f"{stage['schedule']} | {sources} | {stage['local_steps']} | {stage['sampling_rate']:g} | "
                    f"{stage['noise_multiplier']:.4g} |")
    return rows


def _privacy(privacy: dict[str, Any]) -> list[str]:
    if privacy["claim"] == "none":
        return [privacy["statement"]]
    names = {"unit": "Unit of privacy", "neighbouring": "Neighbouring data", "definition": "Definition",
             "mechanism": "Mechanism", "sampling": "Sampling", "composition": "Composed over",
             "trust_model": "Trust model", "secure_aggregation": "Secure aggregation"}
    accountant = privacy["accountant"]
    lines = [f"Stated as {privacy['guidance']} asks for it.", "",
             f"**epsilon {_up(privacy['epsilon'])} at delta {privacy['delta']:.3g}** for each patient of each site, of "
             "this run, if every planned round ran:", "",
             "| site | declared patients | delta | epsilon |", "|---|---|---|---|"]
    lines += [f"| {one['site_id']} | {one['declared_patients']} | {one['delta']:.3g} | {_up(one['epsilon'])} |"
              for one in privacy["sites"]]
    lines += ["", *_list([f"{words}: {privacy[name]}" for name, words in names.items()]),
              f"- Accountant: {accountant['name']}, {accountant['library']} {accountant['version']}"]
    lines += ["", "Decisions that looked at data:", "", *_list(privacy["data_dependent_decisions"])]
    return [*lines, "", "Not covered:", "", *_list(privacy["not_covered"])]


def _up(epsilon: float) -> str:
    """Three decimals, never less than it is."""
    return f"{-(-epsilon * 1000 // 1) / 1000:.3f}"


def _signatures(facts: dict[str, Any]) -> list[str]:
    last = facts["attestation"]
    count = len(last["attested_by"])
    attested = (f"The final state was computed again and signed by {count} sites ({', '.join(last['attested_by'])}); "
                f"{last['needed']} are needed")
    if count < last["needed"]:
        attested = f"NOT attested: {count} sites signed the final state and {last['needed']} are needed"
    return [
        *_list([
            f"Roster version {facts['roster_version']}, hash `{facts['roster_hash']}`, signed by its officers "
            f"({', '.join(facts['roster_signers'])})",
            f"Manifest hash `{facts['manifest_hash']}`, signed by the coordinator",
            f"Coordinator's key: fingerprint `{fingerprint(bytes.fromhex(facts['coordinator_key']))}`",
            attested,
            "`release.json` has the SHA-256 of every file, `release.sig` the coordinator's signature of it"]),
        "", "Check all of it offline: `coordinator verify-release FOLDER --key FINGERPRINT`, with the fingerprint from "
            "the consortium and not from here."]
