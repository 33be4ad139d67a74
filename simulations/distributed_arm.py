"""Row `federated-distributed`: the same federation with its noise shared out, one secure sum for each step.

The stages are those of a curriculum of its own (`distributed_curriculum`), or the run's with each local step made a
round: as many steps at the same rate, so the same budget buys the same noise, which now stands once in the sum instead
of once in each site's update.
"""

from __future__ import annotations

from dataclasses import replace

from configs.load import load_config
from configs.schema import ConfigError, CurriculumConfig, SimulationConfig, StageConfig

__all__ = ["DISTRIBUTED", "audited_config", "curriculum_of", "shared_out"]

DISTRIBUTED = "federated-distributed"


def shared_out(config: SimulationConfig) -> SimulationConfig:
    """`config` with distributed noise, as it asks for it. Raises ConfigError where it does not say how."""
    if config.privacy.distributed is None:
        raise ConfigError(f"row {DISTRIBUTED} needs privacy.distributed with min_survivors; state it")
    federation = config.federation
    if config.privacy.noise != "distributed" and not config.distributed_curriculum:
        steps = load_config(CurriculumConfig, config.curriculum).stages[-1].local_steps
        federation = replace(federation, average_decay=federation.average_decay ** (1 / steps))
    return replace(config, privacy=replace(config.privacy, noise="distributed"), federation=federation)


def audited_config(config: SimulationConfig) -> SimulationConfig:
    """`config` as an audit takes it: with distributed noise where no row adds the noise locally."""
    local = {"federated-dp", "pooled-dp"} & set(config.arms.names)
    return shared_out(config) if DISTRIBUTED in config.arms.names and not local else config


def curriculum_of(config: SimulationConfig) -> CurriculumConfig:
    """The stages that a run of `config` has: where its noise is distributed, one local step a round."""
    if config.privacy.noise != "distributed":
        return load_config(CurriculumConfig, config.curriculum)
    if config.distributed_curriculum:
        return load_config(CurriculumConfig, config.distributed_curriculum)
    stages = load_config(CurriculumConfig, config.curriculum).stages
    return CurriculumConfig(stages=[_one_step_a_round(stage) for stage in stages])


def _one_step_a_round(stage: StageConfig) -> StageConfig:
    stop = stage.stop
    return replace(
        stage, local_steps=1, rounds=stage.rounds * stage.local_steps, momentum=0.0, optimizer="sgd",
        adaptive_clip=None, stop=None if stop is None else replace(stop, patience=stop.patience * stage.local_steps))
