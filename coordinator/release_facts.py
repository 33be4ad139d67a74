"""What a release says of its run, in values that follow from the manifest, and what it says about privacy in words.

The privacy part follows NIST SP 800-226, Guidelines for Evaluating Differential Privacy Guarantees (2025): privacy
parameters and unit of privacy come first, then the definition, the trust model, mechanism and accountant, what is
composed, and what the guarantee does not reach. `manifest_facts` and `privacy_numbers` are computed again by whoever
verifies a release; the words are the release's own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from typing import Any

from coordinator.manifest import planned_events
from coordinator.release_shared import shared_words
from model.adapter_names import parts_in_words
from model.spec import ModelSpec
from model.vllm_names import vllm_sentence
from privacy.dp.accounting import PLD, epsilon
from privacy.gates import evaluations
from privacy.identity import Roster
from privacy.manifest import RunManifest
from privacy.messages import Attest, Plan, SignedResult
from privacy.results import quorum

__all__ = [
    "LICENCE", "NAMES", "adapter_facts", "attestation_facts", "is_accountant", "manifest_facts", "merged_loading",
    "peft_loading", "privacy_facts", "privacy_numbers", "stage_rounds"]

NAMES = frozenset({
    "adapter", "attestation", "audit", "base_model_hash", "coordinator_key", "created_utc", "exporting_release",
    "federation_id", "files", "format", "kind", "licence", "loading", "manifest_hash", "privacy", "roster_hash",
    "roster_signers", "roster_version", "run_id", "stage_rounds", "stages", "training_release"})
"""Every name in a `release.json` that this software writes; none other has a meaning."""

LICENCE = {
    "id": "CC-BY-NC-4.0",
    "terms": ["research only: no commercial use", "no clinical decisions: neither diagnosis nor treatment",
              "no re-identification of patients, nor any attempt at it",
              "attribution of the base model and of this run",
              "what the base model's own licence asks for beyond that"],
}

_ACCOUNTANT = {"name": PLD().name, "library": "dp-accounting"}
_TRUST = (
    "Local model: each site clips and noises its own patients' contributions before anything leaves it, so the bound "
    "holds against the coordinator, the other sites and every reader of this release. It rests on each site's software "
    "doing what the manifest says, with the operating system's randomness, which the site's own signed ledger records.")
_SECURE_SUM = (
    "hides from the coordinator which site contributed what. It is a second layer and no part of this claim.")
_NOT_COVERED = [
    "a patient whose records are at several sites: each site's epsilon counts for that patient, and they add up",
    "other runs: each site's ledger adds up what its patients spent over all of them",
    "what the base model learned before this run, from whatever data",
    "hyperparameters, curriculum and data preparation, where they were chosen by looking at these patients",
    "a site's name, its declared number of patients, and that it took part: these are stated openly",
    "findings about people in general, patients or not, which are what the model is meant to learn",
    "time and size of messages, and faults in hardware, operating system and software",
]
_DECISIONS = [
    "stages, rounds, rates, clip norm and noise were fixed in the signed manifest before any patient was drawn",
    "a stage's stop rule reads the noised mean loss only, which is paid for; a run that ends early spends less",
    "a stage's gate reads each site's noised validation loss only, which is paid for; how many sites failed is shown",
    "rounds, and this export, were chosen by noised values and public questions alone, as far as the software goes",
]


def manifest_facts(manifest: RunManifest) -> dict[str, Any]:
    """Everything in a release that the manifest alone decides, as plain JSON values."""
    return dict(json.loads(json.dumps({
        "federation_id": manifest.federation_id, "run_id": manifest.run_id, "manifest_hash": manifest.hash().hex(),
        "roster_hash": manifest.roster_hash.hex(), "base_model_hash": manifest.base_model_hash.hex(),
        "training_release": manifest.release,
        "adapter": {"rank": manifest.lora_rank, "alpha": manifest.lora_alpha, "groups": list(manifest.lora_groups),
                    "average_decay": manifest.server.average_decay},
        "stages": [asdict(stage) for stage in manifest.stages],
    })))


def adapter_facts(manifest: RunManifest, size: int, exported_hash: str) -> dict[str, Any]:
    """The adapter: the manifest's numbers, how many numbers it has, their hash in hex, and its parts in words."""
    return {**manifest_facts(manifest)["adapter"], "size": size, "exported_hash": exported_hash,
            "parts": parts_in_words(set(manifest.lora_groups))}


def peft_loading(names: Iterable[str], config: Mapping[str, Any]) -> list[str]:
    """How an adapter is loaded: of the names in its file and its `adapter_config.json`."""
    return ['PEFT: `peft.PeftModel.from_pretrained(base, "<this folder>")`', f"vLLM: {vllm_sentence(names, config)}"]


def merged_loading(spec: ModelSpec) -> list[str]:
    """How merged weights of that spec are loaded."""
    ours = "this software: as any base model's folder"
    if (spec.experts, spec.projector) == ("dense", "llava"):
        return ['transformers: `LlavaForConditionalGeneration.from_pretrained("<this folder>")`', ours]
    return [ours, "transformers: its own LLaVA class knows neither packed experts in this form nor the pixel-shuffle "
                  "projector"]


def is_accountant(shown: Any) -> bool:
    """Whether this is the accountant that a release names; its library's version may be any, and nothing else."""
    return (isinstance(shown, dict) and isinstance(version := shown.get("version"), str)
            and shown == {**_ACCOUNTANT, "version": version}
            and re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,4}){0,3}((a|b|rc|\.post|\.dev)[0-9]{1,4})?", version) is not None)


def stage_rounds(manifest: RunManifest, history: Sequence[Mapping[str, Any]]) -> list[int]:
    """How many training rounds of each stage ended with a sum."""
    return [sum(entry["stage"] == number and not entry.get("evaluation") for entry in history)
            for number in range(len(manifest.stages))]


def privacy_numbers(manifest: RunManifest) -> list[dict[str, Any]]:
    """For each site: delta, and epsilon of the whole schedule, the most that a site's ledger lets this run spend.

    Empty for a run without differential privacy.
    """
    if manifest.privacy == "none":
        return []
    events = planned_events(manifest)
    return [{"site_id": terms.site_id, "declared_patients": terms.declared_patients, "delta": terms.delta,
             "epsilon": epsilon(events, terms.delta)} for terms in manifest.sites]


def privacy_facts(manifest: RunManifest) -> dict[str, Any]:
    """The statement on differential privacy; `claim` is "none" for a run without it."""
    if manifest.privacy == "none":
        return {"claim": "none", "sites": [], "statement": "This run had NO differential privacy."}
    numbers = privacy_numbers(manifest)
    worst = max(numbers, key=lambda one: float(one["epsilon"]))
    return {
        "claim": "patient-level differential privacy of this run, for the patients of each site",
        "guidance": "NIST SP 800-226 (2025), Guidelines for Evaluating Differential Privacy Guarantees",
        "epsilon": worst["epsilon"], "delta": max(one["delta"] for one in numbers), "sites": numbers,
        "target_epsilon": manifest.target_epsilon,
        "unit": "patient: all records of one person at one site",
        "neighbouring": "add or remove one patient",
        "definition": "approximate differential privacy, (epsilon, delta)",
        "mechanism": f"DP-SGD (arXiv 1607.00133): in each local step the gradient of each drawn patient is clipped to "
                     f"an L2 norm of {manifest.clip_norm:g}, statistics included, and Gaussian noise of the stage's "
                     "noise_multiplier times that is added to their sum",
        "sampling": "Poisson: each patient is drawn in each step with the stage's sampling_rate, independently and "
                    "unseen by others" + _truncated(manifest),
        "accountant": {**_ACCOUNTANT, "version": metadata.version("dp-accounting")},
        "composition": f"all {sum(event.steps for event in planned_events(manifest))} steps of all planned rounds and "
                       f"stages at once{_evaluated(manifest)}; a step that is repeated after a crash comes out of the "
                       "same reservation",
        "trust_model": _TRUST, "secure_aggregation": _SECURE_SUM,
        "data_dependent_decisions": _DECISIONS, "not_covered": _NOT_COVERED, **shared_words(manifest),
    }


def attestation_facts(
    signed: SignedResult, attests: Sequence[Attest], plan: Plan | None, roster: Roster
) -> dict[str, Any]:
    """The newest round's result, who signed that it computed the same, and the messages themselves in hex."""
    result = signed.result
    return {
        "round": result.round, "finished": result.finished, "model_hash": result.model_hash.hex(),
        "state_hash": result.state_hash.hex(), "summed": list(result.survivors),
        "attested_by": sorted(attest.site_id for attest in attests), "needed": quorum(result, roster),
        "result": signed.to_bytes().hex(), "attests": [attest.to_bytes().hex() for attest in attests],
        "plan": plan.to_bytes().hex() if plan is not None else "",
    }


def _evaluated(manifest: RunManifest) -> str:
    most = sum(map(evaluations, manifest.stages))
    return f", {most} noised evaluations on patients who are not trained on among them" if most else ""


def _truncated(manifest: RunManifest) -> str:
    cut = [stage.name for stage in manifest.stages if stage.truncation is not None]
    return f"; draws of {', '.join(cut)} are cut to a fixed size and charged for it" if cut else ""
