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
from coordinator.gate_report import open_gate
from coordinator.release_folder import STATE_FILE, ReleaseError, file_facts, json_value, read_part
from model.adapter_config import require_adapter_config, require_adapter_places, require_adapter_shapes
from model.adapter_names import vector_of
from model.server_optimizer import model_hash, state_hash
from model.spec import LoraSpec
from privacy.errors import FaultyCoordinatorError
from privacy.identity import Roster
from privacy.messages import Attest, Plan, Result, RunManifest
from privacy.results import check_attests, open_result, quorum

__all__ = [
    "check_adapter", "check_attestation", "check_gates", "check_merged_base", "check_merged_files", "check_peft_base",
    "check_state", "lora_of", "read_json", "same_json"]

_MOST_JSON = 1 << 26
_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_DESCRIBED = ("config.json", "spec.json", "tokenizer.json")


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
    if not same_json(release_facts.attestation_facts(signed, attests, plan, roster), shown):
        raise ReleaseError("release.json states another final model, round or cohort than the one that was attested")
    signers = sorted({one.site_id for one in attests if one.holds_for(result, roster)})
    return result, (f"round {result.round} attested by {', '.join(signers)}: {len(signers)} of "
                    f"{len(result.survivors)} in the sum, {quorum(result, roster)} needed"), bound


def check_gates(manifest: RunManifest, result: Result) -> str:
    """Every gate of the manifest is passed in the attested result; a line, "" where there is none."""
    missing = open_gate(manifest, result.gates)
    if missing:
        raise ReleaseError(f"{missing}, as the sites attested, so this run has no release")
    passed = [f"{manifest.stages[one.stage].name} in round {one.round}" for one in result.gates if one.failed == 0]
    return f"gates passed, each by its own round's adapter before averaging: {', '.join(passed)}" if passed else ""


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
    config, shapes = read_json(folder / "adapter_config.json"), {name: one.shape for name, one in tensors.items()}
    try:
        layers = require_adapter_config(config, lora)
        require_adapter_shapes(shapes, lora)
        require_adapter_places(shapes, lora, layers)
        vector = vector_of(tensors)
    except ValueError as error:
        raise ReleaseError(f"the adapter does not belong to the manifest: {error}") from None
    if config.get("base_model_name_or_path") != manifest.base_model_hash.hex() or config.get("revision") is not None:
        raise ReleaseError("adapter_config.json names another base model than the signed manifest")
    if any(tensor.dtype != np.float32 for tensor in tensors.values()):
        raise ReleaseError("the adapter file holds numbers that are not float32; no release writes such")
    if vector.astype(np.float32).tobytes() != adapter.tobytes():
        raise ReleaseError("adapter_model.safetensors is not the adapter that the sites attested")
    return [f"adapter_config.json: rank {lora.rank}, alpha {lora.alpha}, {', '.join(lora.groups)}, as in the manifest, "
            "and nothing that changes what is computed",
            f"adapter_model.safetensors: bit for bit the attested state's average, {vector.size:,} numbers"]


def check_merged_files(folder: Path) -> str:
    """Of a merged release: whole safetensors files of which each loader reads the same, and no code that is named."""
    missing = next((name for name in _DESCRIBED if not (folder / name).is_file()), None)
    if missing is not None:
        raise ReleaseError(f"{missing} is missing; get the release again")
    if _names_code(read_json(folder / "config.json")):
        raise ReleaseError("config.json names code to be loaded (auto_map); no release does")
    paths = sorted(folder.glob("*.safetensors"))
    _require_one_model({path.name for path in paths}, (folder / _INDEX).is_file())
    held: dict[str, str] = {}
    for path in paths:
        try:
            with safe_open(str(path), framework="numpy") as file:
                names = list(file.keys())
        except (SafetensorError, OSError):
            raise ReleaseError(f"{path.name} is no whole safetensors file") from None
        for name in names:
            if held.setdefault(name, path.name) != path.name:
                raise ReleaseError(f"{name!a} is in {held[name]} and in {path.name}")
    if not held or ((folder / _INDEX).is_file() and read_json(folder / _INDEX).get("weight_map") != held):
        raise ReleaseError(f"{_INDEX} does not fit the files beside it")
    return f"{len(held)} tensors in {len(paths)} whole safetensors files; config.json names no code"


def _require_one_model(files: set[str], indexed: bool) -> None:
    """One file and no index, or an index and shards 1 to n of one n. Of anything else loaders read different parts."""
    shards = {f"model-{number:05d}-of-{len(files):05d}.safetensors" for number in range(1, len(files) + 1)}
    if files != (shards if indexed else {_WEIGHTS}) or not files:
        raise ReleaseError(f"the weights are neither {_WEIGHTS} alone nor {_INDEX} and the files 1 to n of one n, so "
                           "that loaders would read different parts of them")


def check_peft_base(folder: Path, base: Path, manifest: RunManifest) -> str:
    """The adapter's matrices are those that this base takes. Imports torch; builds the base without weights."""
    from model.adapter import AdapterLayout, attach
    from model.adapter_names import file_name
    from model.backbone import empty
    from model.checkpoint import read_spec

    _require_base(base, manifest)
    layout = AdapterLayout(attach(empty(read_spec(base)), lora_of(manifest), seed=0))
    shapes = {name: tensor.shape for name, tensor in _loaded(folder / "adapter_model.safetensors").items()}
    if shapes != {file_name(entry.name): entry.shape for entry in layout.entries}:
        raise ReleaseError("the adapter's layers are not those of the base model")
    return f"{base}: the base that the manifest names, and the adapter has its layers"


def check_merged_base(folder: Path, base: Path, manifest: RunManifest, adapter: npt.NDArray[np.float32]) -> str:
    """Every merged tensor computed again from the base; equal up to the last bit of its type. Imports torch."""
    import torch

    from model.checkpoint import read_spec
    from model.merge import adapter_changes, base_tensors, merged_tensors
    from model.weights_file import read_tensor

    _require_base(base, manifest)
    _require_whole_base(base)
    changes = adapter_changes(read_spec(base), lora_of(manifest), adapter.astype(np.float64))
    ours = base_tensors(folder)
    if set(ours) != set(base_tensors(base)):
        raise ReleaseError("the merged model has other tensors than its base")
    for name, expected in merged_tensors(base, changes):
        found = read_tensor(ours[name])
        same = found.dtype == expected.dtype and found.shape == expected.shape
        if same and name in changes:
            precision = torch.finfo(found.dtype)
            same = torch.allclose(found.double(), expected.double(), rtol=precision.eps, atol=precision.tiny)
        elif same:
            same = torch.equal(found.reshape(-1).view(torch.uint8), expected.reshape(-1).view(torch.uint8))
        if not same:
            raise ReleaseError(f"{name} is not the base's weight with the attested adapter added")
    for name in _DESCRIBED:
        if file_facts(folder / name) != file_facts(base / name):
            raise ReleaseError(f"{name} is not the base model's")
    return f"{base}: the base that the manifest names; all {len(ours)} tensors are it with the attested adapter added"


def _require_base(base: Path, manifest: RunManifest) -> None:
    from model.backbone import hash_model

    if hash_model(base) != manifest.base_model_hash:
        raise ReleaseError(f"{base} is not the base model that the manifest names")


def _require_whole_base(base: Path) -> None:
    """No weights lie in the base's folder beside those that its content hash covers: they would be compared, too."""
    from model.checkpoint import checkpoint_files

    more = sorted({path.name for path in base.glob("*.safetensors")} - set(checkpoint_files(base)))
    if more:
        raise ReleaseError(f"{base} holds {more[0][:90]!a}, which is no part of the base model; take it away")


def _names_code(value: Any) -> bool:
    if isinstance(value, dict):
        return "auto_map" in value or any(map(_names_code, value.values()))
    return isinstance(value, list) and any(map(_names_code, value))


def same_json(one: Any, other: Any) -> bool:
    """Whether two values are the same JSON: 1, 1.0 and true are three."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _loaded(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, TypeError, KeyError, ValueError):
        raise ReleaseError(f"{path.name} is no whole safetensors file") from None


def read_json(path: Path) -> Any:
    """A JSON file's value. Raises ReleaseError."""
    try:
        return json_value(read_part(path, _MOST_JSON))
    except ReleaseError:
        raise
    except (OSError, ValueError, RecursionError):
        raise ReleaseError(f"{path.name} is not JSON") from None
