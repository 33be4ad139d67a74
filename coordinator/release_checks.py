"""The parts of `coordinator verify-release`: each returns what it found good, in one line, or raises ReleaseError.

Nothing here trusts a value of `release.json` before the signature over it was checked against the roster in the folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file

from coordinator import release_facts
from coordinator.release_card import release_card
from coordinator.release_folder import ROUNDS_FILE, STATE_FILE, ReleaseError
from model.adapter_config import require_adapter_config, require_adapter_shapes
from model.adapter_names import vector_of
from model.server_optimizer import model_hash, state_hash
from model.spec import LoraSpec
from privacy.errors import FaultyCoordinatorError
from privacy.identity import Roster
from privacy.messages import Attest, Plan, Result, RunManifest
from privacy.release import release_hash
from privacy.results import check_attests, open_result, quorum

__all__ = [
    "check_adapter", "check_attestation", "check_merged_base", "check_merged_files", "check_numbers",
    "check_peft_base", "check_state", "check_words", "lora_of", "read_json"]

_SAME_EPSILON = 0.01  # accountants of other versions may differ in the last digits
_NUMBERS = ("epsilon", "delta", "sites", "accountant")  # computed again; a machine may differ in the last digit


def lora_of(manifest: RunManifest) -> LoraSpec:
    """Rank, alpha and groups that the manifest names."""
    return LoraSpec(rank=manifest.lora_rank, alpha=manifest.lora_alpha, groups=manifest.lora_groups)


def check_attestation(facts: Mapping[str, Any], manifest: RunManifest, roster: Roster) -> tuple[Result, str, bool]:
    """The last round's result, if a quorum of its sites signed it; a line; whether it is bound to this manifest."""
    shown = facts["attestation"]
    try:
        signed = open_result(bytes.fromhex(shown["result"]), roster)
        result = signed.result
        attests = [Attest.from_bytes(bytes.fromhex(one)) for one in shown["attests"]]
        plan = Plan.from_bytes(bytes.fromhex(shown["plan"])) if shown["plan"] else None
        check_attests(result, attests, roster)
    except ValueError:
        raise ReleaseError("the last round's result or an attestation cannot be read; get the release again") from None
    except FaultyCoordinatorError as error:
        raise ReleaseError(f"the last round's result does not hold: {error} ({error.code})") from None
    bound = plan is not None and plan.manifest_hash == manifest.hash() and plan.round == result.round
    if result.run_id != manifest.run_id or (plan is not None and (plan.hash() != result.ctx or not bound)):
        raise ReleaseError("the sites attested a round of another manifest, not of the one in this release")
    if release_facts.attestation_facts(signed, attests, plan, roster) != shown:
        raise ReleaseError("release.json states another final model, round or cohort than the one that was attested")
    signers = sorted({one.site_id for one in attests if one.holds_for(result, roster)})
    return result, (f"round {result.round} attested by {', '.join(signers)}: {len(signers)} of "
                    f"{len(result.survivors)} in the sum, {quorum(result, roster)} needed"), bound


def check_state(path: Path, facts: Mapping[str, Any], result: Result) -> tuple[npt.NDArray[np.float32], str]:
    """The exported adapter float32 (D,), from a state with the attested hash; and a line."""
    tensors = _loaded(path)
    kinds = {name: (tensor.dtype, tensor.ndim) for name, tensor in tensors.items()}
    if kinds != dict.fromkeys(("velocity", "average"), (np.dtype(np.float64), 1)):
        raise ReleaseError(f"{STATE_FILE} does not hold velocity and average as float64 vectors")
    if state_hash(tensors["velocity"], tensors["average"]) != result.state_hash:
        raise ReleaseError(f"{STATE_FILE} is not the state that the sites attested")
    adapter = tensors["average"].astype(np.float32)
    if (facts["adapter"]["size"], facts["adapter"]["exported_hash"]) != (adapter.size, model_hash(adapter).hex()):
        raise ReleaseError("release.json states another adapter than the attested state's average")
    text = f"{STATE_FILE}: the attested state, {adapter.size:,} coordinates"
    if model_hash(adapter) == result.model_hash:
        text += "; its average is the last round's model itself"
    return adapter, text


def check_adapter(folder: Path, manifest: RunManifest, adapter: npt.NDArray[np.float32]) -> list[str]:
    """Of a PEFT release: its configuration is the manifest's, and its numbers are the attested ones, bit for bit."""
    lora = lora_of(manifest)
    tensors = _loaded(folder / "adapter_model.safetensors")
    try:
        require_adapter_config(read_json(folder / "adapter_config.json"), lora)
        require_adapter_shapes({name: tensor.shape for name, tensor in tensors.items()}, lora)
        vector = vector_of(tensors)
    except ReleaseError:
        raise
    except ValueError as error:
        raise ReleaseError(f"the adapter does not belong to the manifest: {error}") from None
    if any(tensor.dtype != np.float32 for tensor in tensors.values()):
        raise ReleaseError("the adapter file holds numbers that are not float32; no release writes such")
    if vector.astype(np.float32).tobytes() != adapter.tobytes():
        raise ReleaseError("adapter_model.safetensors is not the adapter that the sites attested")
    return [f"adapter_config.json: rank {lora.rank}, alpha {lora.alpha}, {', '.join(lora.groups)}, as in the manifest, "
            "and nothing that changes what is computed",
            f"adapter_model.safetensors: bit for bit the attested state's average, {vector.size:,} numbers"]


def check_numbers(facts: Mapping[str, Any], manifest: RunManifest) -> list[str]:
    """What follows from the manifest is stated as it follows; epsilon is computed again."""
    for name, value in release_facts.manifest_facts(manifest).items():
        shown = facts[name]
        if name == "adapter":
            shown = {key: shown.get(key) for key in value}
        if shown != value:
            raise ReleaseError(f"release.json states {name} differently from the signed manifest")
    numbers, stated = release_facts.privacy_numbers(manifest), facts["privacy"]["sites"]
    if (facts["privacy"]["claim"] == "none") != (manifest.privacy == "none") or len(numbers) != len(stated):
        raise ReleaseError("release.json claims another kind of privacy than the signed manifest")
    for own, shown in zip(numbers, stated, strict=True):
        plain = [{name: value for name, value in one.items() if name != "epsilon"} for one in (own, shown)]
        if plain[0] != plain[1] or not abs(shown["epsilon"] - own["epsilon"]) <= _SAME_EPSILON * own["epsilon"]:
            raise ReleaseError(f"release.json states epsilon or delta of {own['site_id']} differently from what the "
                               f"manifest gives: {own['epsilon']:.4g} at {own['delta']:.3g}")
    if not numbers:
        return ["curriculum and base as in the manifest; it claims NO differential privacy"]
    worst = max(one["epsilon"] for one in numbers)
    if not abs(facts["privacy"]["epsilon"] - worst) <= _SAME_EPSILON * worst:
        raise ReleaseError("release.json states another epsilon than its sites' largest")
    return ["curriculum, base and privacy numbers follow from the manifest; epsilon computed again: at most "
            f"{worst:.4g}"]


def check_words(folder: Path, facts: Mapping[str, Any], manifest: RunManifest) -> str:
    """The card and the words on privacy are those that this software writes of these facts; "" where another one did.

    The round counts are those of `rounds.json`.
    """
    rounds = read_json(folder / ROUNDS_FILE)
    if (rounds["run_id"], rounds["manifest_hash"]) != (manifest.run_id, manifest.hash().hex()):
        raise ReleaseError(f"{ROUNDS_FILE} is of another run")
    if release_facts.stage_rounds(manifest, rounds["rounds"]) != facts["stage_rounds"]:
        raise ReleaseError(f"release.json counts other rounds than {ROUNDS_FILE}")
    if facts["exporting_release"] != release_hash():
        return ""
    own, shown = ({name: value for name, value in privacy.items() if name not in _NUMBERS}
                  for privacy in (release_facts.privacy_facts(manifest), facts["privacy"]))
    card = release_card({name: value for name, value in facts.items() if name != "files"})
    written = (folder / "README.md").read_bytes()
    if own != shown or facts["licence"] != release_facts.LICENCE or written != card.encode():
        raise ReleaseError("the card or the words on privacy and licence are not those of the software that is named")
    return "README.md and the words on privacy and licence are what this very software writes of these facts"


def check_merged_files(folder: Path) -> str:
    """Of a merged release: whole safetensors files, an index that fits, and a configuration that names no code."""
    if _names_code(read_json(folder / "config.json")):
        raise ReleaseError("config.json names code to be loaded (auto_map); no release does")
    held: dict[str, str] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(str(path), framework="numpy") as file:
                names = list(file.keys())
        except (SafetensorError, OSError):
            raise ReleaseError(f"{path.name} is no whole safetensors file") from None
        for name in names:
            if held.setdefault(name, path.name) != path.name:
                raise ReleaseError(f"{name} is in {held[name]} and in {path.name}")
    index = folder / "model.safetensors.index.json"
    several = len(set(held.values())) > 1
    if not held or ((several or index.is_file()) and read_json(index).get("weight_map") != held):
        raise ReleaseError("model.safetensors.index.json does not fit the files beside it")
    return f"{len(held)} tensors in {len(set(held.values()))} whole safetensors files; config.json names no code"


def check_peft_base(folder: Path, base: Path, manifest: RunManifest) -> str:
    """The adapter's matrices are those that this base takes. Imports torch; builds the base without weights."""
    from model.adapter import AdapterLayout, attach
    from model.adapter_names import file_name
    from model.backbone import empty
    from model.merge import read_spec

    _require_base(base, manifest)
    layout = AdapterLayout(attach(empty(read_spec(base)), lora_of(manifest), seed=0))
    shapes = {name: tensor.shape for name, tensor in _loaded(folder / "adapter_model.safetensors").items()}
    if shapes != {file_name(entry.name): entry.shape for entry in layout.entries}:
        raise ReleaseError("the adapter's layers are not those of the base model")
    return f"{base}: the base that the manifest names, and the adapter has its layers"


def check_merged_base(folder: Path, base: Path, manifest: RunManifest, adapter: npt.NDArray[np.float32]) -> str:
    """Every merged tensor computed again from the base; equal up to the last bit of its type. Imports torch."""
    import torch

    from model.merge import adapter_changes, base_tensors, merged_tensors, read_spec

    _require_base(base, manifest)
    changes = adapter_changes(read_spec(base), lora_of(manifest), adapter.astype(np.float64))
    ours = base_tensors(folder)
    if set(ours) != set(base_tensors(base)):
        raise ReleaseError("the merged model has other tensors than its base")
    for name, expected in merged_tensors(base, changes):
        with safe_open(str(ours[name]), framework="pt") as file:
            found = file.get_tensor(name)
        same = found.dtype == expected.dtype and found.shape == expected.shape
        if same and name in changes:
            precision = torch.finfo(found.dtype)
            same = torch.allclose(found.double(), expected.double(), rtol=precision.eps, atol=precision.tiny)
        elif same:
            same = torch.equal(found.reshape(-1).view(torch.uint8), expected.reshape(-1).view(torch.uint8))
        if not same:
            raise ReleaseError(f"{name} is not the base's weight with the attested adapter added")
    for name in ("config.json", "spec.json", "tokenizer.json"):
        if (folder / name).read_bytes() != (base / name).read_bytes():
            raise ReleaseError(f"{name} is not the base model's")
    return f"{base}: the base that the manifest names; all {len(ours)} tensors are it with the attested adapter added"


def _require_base(base: Path, manifest: RunManifest) -> None:
    from model.backbone import hash_model

    if hash_model(base) != manifest.base_model_hash:
        raise ReleaseError(f"{base} is not the base model that the manifest names")


def _names_code(value: Any) -> bool:
    if isinstance(value, dict):
        return "auto_map" in value or any(map(_names_code, value.values()))
    return isinstance(value, list) and any(map(_names_code, value))


def _loaded(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, TypeError, KeyError, ValueError):
        raise ReleaseError(f"{path.name} is no whole safetensors file") from None


def read_json(path: Path) -> Any:
    """A JSON file's value. Raises ReleaseError."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        raise ReleaseError(f"{path.name} is not JSON") from None
