"""The site file that `site-client init` writes: every rule of the policy with its value and what it means."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

from configs.site import PolicyConfig
from configs.site_data import ImagesConfig, PhiConfig

__all__ = ["IMAGES_TEXTS", "PHI_TEXTS", "POLICY_TEXTS", "site_file_text"]

POLICY_TEXTS = {
    "max_epsilon": "privacy that one patient ever spends here, over the life of this site's ledger; less is safer",
    "max_delta": "of one run; at most 1e-5",
    "max_total_delta": "over the life of the ledger; never above 1 / declared patients",
    "composition": "of runs: sum adds their epsilons; rdp adds at one Renyi order, which is tighter over many runs",
    "renyi_order": "of composition rdp; fixed by the ledger's first run",
    "max_wasted_rounds": "trained for and never finished, over the life of the ledger",
    "min_patients": "runs are refused while this site declares fewer patients",
    "min_cohort": "fewest sites in a sum; a sum of fewer shows more of each",
    "allowed_stages": "of a curriculum, by name; [] allows every stage",
    "allowed_base_models": "SHA-256, hex (`coordinator hash-model FOLDER`); [] allows every model",
    "allowed_sources": "of samples: reports, impressions, patches; [] allows every source",
    "allow_without_privacy": "only ever true in a simulation",
    "max_samples": "of one patient in one step",
    "min_noise_multiplier": "least noise of a step, whatever the budget allows",
    "max_patients": "upper bound on this site's patients; null = no run with truncated batches",
    "min_ledger_witnesses": "peers that must confirm the ledger; the roster's own number is the least",
    "require_scheduled_replies": "only runs whose replies leave at a scheduled time, which tells nothing of the work",
    "min_reply_after_s": "least seconds of that schedule; a short one would let replies tell how long the work took",
    "two_sites": "true with min_cohort 2: a federation of two, in which the other site sees this one's noised update",
    "approve_runs": "auto: what this policy allows runs; by-hand: `site-client approve` for each manifest",
    "approve_rosters": "auto: a roster that two known officers signed comes into force by itself; by-hand: "
                       "`site-client approve` for each",
    "allowed_groups": "of LoRA layers: attention, projector, experts; [] allows every group",
    "max_rounds": "of one run, all its stages together",
    "max_upload_mb": "of one masked upload",
    "max_evaluations": "of one run on this site's validation patients, repeats included; 0 = none",
    "working_hours": "when the GPU may work, local time, such as [\"22:00-06:00\"]; [] = always",
    "distributed_noise": "null: no run that shares its noise out among sites; else state colluders, min_survivors, "
                         "max_epsilon_outside and max_epsilon_alone (docs/site-guide.md)",
}
IMAGES_TEXTS = {
    "most_frames": "of one multi-frame file, evenly spaced",
    "most_images": "of one sample; of a longer series evenly spaced slices",
    "workers": "child processes that parse and decode",
    "memory_gib": "of one child's address space",
    "timeout_s": "of computing for one file; a file that needs more is refused",
    "most_file_mib": "larger files are refused",
    "burned_in": "pictures that may show a name (ultrasound, captures, XA): refuse, ocr (tesseract decides) or accept",
    "burned_in_accept": "modalities that are accepted although suspect, such as [\"US\"]",
}
PHI_TEXTS = {
    "on_hit": "of a text that seems to name somebody: refuse the sample, redact the hit, or warn and use it",
    "plugin": "presidio, with a model of the site's own; \"\" = none",
    "plugin_model": "folder of that model",
}
_WIDTH = 100


def site_file_text(*, site_id: str, folder: Path, data: Path, base_model: Path, policy: PolicyConfig) -> str:
    """The YAML text of a new site's file. `folder`, `data` and `base_model` are absolute paths."""
    lines = [
        "# This hospital's installation, made by `site-client init`. The hospital decides what is in here; the",
        "# coordinator only asks, and what breaks a rule is refused before any training.",
        f"site_id: {_value(site_id)}",
        f"data: {_value(str(data))}  # dicom/ and tables of reports and questions",
        f"state: {_value(str(folder / 'state'))}  # keys, ledger: back it up, keep it private (0700)",
        f"base_model: {_value(str(base_model))}",
        f"invitation: {_value(str(folder / 'invitation.json'))}  # the coordinator's address, certificates, officers",
        "",
        "# Authority that assigned the patient identifiers (DICOM PS3.3 C.7.1.1); \"\" when the files name none.",
        "issuer: \"\"",
        "# Of the per-patient gradients: own, or opacus for comparison.",
        "engine: own",
        "# Processes that train side by side, each with a whole model; GPUs that each spreads its model over.",
        "processes: 1",
        "gpus_per_process: 1",
        *_data_lines(),
        "# Port of the gRPC health service on 127.0.0.1; 0 = none.",
        "health_port: 0",
        "",
        "policy:",
    ]
    lines += _section(policy, POLICY_TEXTS)
    return "\n".join(lines) + "\n"


def _data_lines() -> list[str]:
    """What the data are and how they are read (docs/site-data.md)."""
    return [
        "",
        "# Servers and further folders beside `data`; `site-client index` mirrors what is new. One entry each, such as",
        "# - {kind: dicomweb, name: archive, url: \"https://pacs.example.org/dicom-web\", user: research,",
        "#    secret_file: /etc/site-client/archive.password, modalities: [CR, DX], since: \"2020-01-01\"}",
        "# - {kind: fhir, name: reports, url: \"https://fhir.example.org/r4\", secret_file: /etc/site-client/token}",
        "sources: []",
        "# Folder of index, mirrors and picture cache, on the protected volume; \"\" = state/index.",
        "index: \"\"",
        "# Each report whose study has images here is a sample of source `studies`.",
        "report_samples: true",
        "# Of one source; further ones of that patient are left out.",
        "max_samples_per_patient: 512",
        "images:", *_section(ImagesConfig(), IMAGES_TEXTS),
        "phi:", *_section(PhiConfig(), PHI_TEXTS),
        "",
    ]


def _section(values: PolicyConfig | ImagesConfig | PhiConfig, texts: Mapping[str, str]) -> list[str]:
    """Each field with what it means."""
    lines: list[str] = []
    for field in fields(values):
        lines += [*_comment(texts[field.name]), f"  {field.name}: {_value(getattr(values, field.name))}"]
    return lines


def _value(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _comment(text: str) -> list[str]:
    """`text` as comment lines inside the policy."""
    lines = ["  #"]
    for word in text.split():
        if len(lines[-1]) + 1 + len(word) > _WIDTH:
            lines.append("  #")
        lines[-1] += f" {word}"
    return lines
