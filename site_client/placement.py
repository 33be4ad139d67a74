"""Where a site's model trains and how much of a step is computed at once: the site's own choice, no run's.

Neither changes what is released: each patient is clipped once, however a step is cut (`privacy.dp.accumulator`).
"""

from __future__ import annotations

import torch

from configs.schema import ConfigError, SiteConfig
from model.adapted import AdaptedModel
from model.memory_plan import most_tokens
from model.placement import open_placed
from model.spec import LoraSpec

__all__ = ["CPU_TOKENS", "device_of", "devices_of", "microbatch_tokens", "open_model", "require_devices"]

CPU_TOKENS = 1 << 16
"""Tokens of a micro-batch on the CPU: the tiny model's rows are short, its memory no concern."""


def device_of(config: SiteConfig) -> str:
    """torch's name of the site's device. Raises ValueError when the site file names a GPU that is not there."""
    if config.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if config.device != "cpu":
        number = int(config.device.partition(":")[2] or 0)
        if not torch.cuda.is_available() or number >= torch.cuda.device_count():
            raise ValueError(f"site.device is {config.device}, but torch finds no such GPU; see site-client doctor")
    return config.device


def devices_of(config: SiteConfig, rank: int = 0) -> tuple[str, ...]:
    """torch's names of one process' devices: the site's own; with several processes or GPUs the next ones in order."""
    device, each = device_of(config), config.gpus_per_process
    if device == "cpu" or config.processes * each == 1:
        return (device,)
    return tuple(f"cuda:{number}" for number in range(rank * each, (rank + 1) * each))


def require_devices(config: SiteConfig) -> None:
    """ConfigError when this machine has fewer GPUs than the site file asks for, or unlike ones for its processes."""
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    wanted = config.processes * config.gpus_per_process
    if wanted == 1 or (config.gpus_per_process == 1 and device_of(config) == "cpu"):
        return
    if wanted > found:
        raise ConfigError(f"processes={config.processes} with gpus_per_process={config.gpus_per_process} need {wanted} "
                          f"GPUs and torch finds {found}; correct the site file, or see `site-client doctor`")
    kinds = sorted({torch.cuda.get_device_name(number) for number in range(wanted)})
    if config.processes > 1 and len(kinds) > 1:
        # Who is drawn decides who is computed where: one patient more would move others to GPUs that round otherwise.
        raise ConfigError(f"processes={config.processes} share patients out over unlike GPUs ({', '.join(kinds)}); use "
                          "GPUs of one kind, or processes: 1")


def open_model(config: SiteConfig, lora: LoraSpec) -> AdaptedModel:
    """The site's base model with adapters on its devices; on a GPU layers are recomputed. Raises as `open_adapted`."""
    devices = devices_of(config)
    return open_placed(config.base_model, lora, devices, devices != ("cpu",))


def microbatch_tokens(config: SiteConfig, adapted: AdaptedModel) -> int:
    """Most tokens with padding of one micro-batch: the site file's, or what the card has room for beside its weights.

    Raises ValueError when not even a row of 64 tokens fits.
    """
    if config.microbatch_tokens:
        return config.microbatch_tokens
    if adapted.device.type == "cpu":
        return CPU_TOKENS
    total = torch.cuda.get_device_properties(adapted.device).total_memory
    tokens = most_tokens(adapted.base.spec, adapted.lora, total)
    if tokens < 64:
        raise ValueError("the card has no room for a training step; site-client plan-memory says what it needs")
    return tokens
