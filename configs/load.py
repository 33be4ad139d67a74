"""YAML plus `key=value` overrides -> a validated, frozen dataclass. The only module that knows OmegaConf.

Nobody outside holds a DictConfig: values are merged over the dataclass's own schema, then `to_object` runs each
`__post_init__`. Lists are replaced, not merged, so a curriculum file is complete and never a patch.
"""

from __future__ import annotations

import difflib
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from configs.schema import ConfigError

__all__ = ["CONFIG_ROOT", "load_config", "load_overrides", "resolve_config_path"]

CONFIG_ROOT = Path(__file__).resolve().parent
T = TypeVar("T")


def resolve_config_path(name: str) -> Path:
    """The file `name`: as given if it exists, else inside the installed `configs/` folder.

    Raises:
        ConfigError: no such file; the text lists the YAML files that do exist beside it.
    """
    inside = name.removeprefix("configs/")
    for candidate in (Path(name), CONFIG_ROOT / inside):
        if candidate.is_file():
            return candidate
    known = sorted(str(path.relative_to(CONFIG_ROOT)) for path in CONFIG_ROOT.rglob("*.yaml"))
    near = difflib.get_close_matches(inside, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known files: {', '.join(known)}"
    raise ConfigError(f"config file {name} does not exist; {hint}")


def load_config(cls: type[T], path: str | Path, overrides: list[str] | None = None) -> T:
    """Read `path`, apply `overrides` (`a.b=value`), check against `cls` and return the frozen object.

    Raises:
        ConfigError: unreadable file, unknown key (with the nearest known one), wrong type or refused value.
    """
    source = resolve_config_path(str(path))
    try:
        loaded = OmegaConf.load(source)
        plain = OmegaConf.to_container(loaded, resolve=False)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"config file {source} cannot be read: {error.__class__.__name__}") from None
    except Exception as error:  # yaml's own error classes are not part of OmegaConf's interface
        line = str(error).splitlines()[0] if str(error) else error.__class__.__name__
        raise ConfigError(f"config file {source} is not valid YAML: {line}") from None
    if not isinstance(plain, dict):
        raise ConfigError(f"config file {source} must hold keys and values, not a {type(plain).__name__}")
    return _checked(cls, loaded, plain, overrides or [], source.name)


def load_overrides(cls: type[T], overrides: list[str]) -> T:
    """`cls` with its defaults and `overrides` (`a.b=value`) from a command line.

    Raises:
        ConfigError: as in :func:`load_config`.
    """
    return _checked(cls, OmegaConf.create(), {}, overrides, "the command line")


def _checked(cls: type[T], loaded: Any, plain: dict[Any, Any], overrides: list[str], source: str) -> T:
    for item in overrides:
        if "=" not in item:
            raise ConfigError(f"{item!r} is not a setting; write KEY=VALUE")
    try:
        extra = OmegaConf.from_dotlist(overrides)
        _refuse_unknown(cls, plain, source)
        _refuse_unknown(cls, OmegaConf.to_container(extra), "the command line")
        result = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(cls), loaded, extra))
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None
    except OmegaConfBaseException as error:
        raise ConfigError(f"{source}: {_first_sentence(error)}") from None
    if not isinstance(result, cls):
        raise ConfigError(f"{source}: does not describe a {cls.__name__}")
    return result


def _first_sentence(error: OmegaConfBaseException) -> str:
    text = str(error).splitlines()[0]
    key = getattr(error, "full_key", None)
    if "Structured config of type" in text or "Missing mandatory value" in text or "MISSING" in text:
        return f"key {key} is required and missing" if key else text
    return f"key {key}: {text}" if key and str(key) not in text else text


def _refuse_unknown(cls: type[Any], values: Any, where: str, prefix: str = "") -> None:
    """Name every misspelt key with the nearest known one (OmegaConf stops at the outermost)."""
    if not isinstance(values, dict) or not is_dataclass(cls):
        return
    hints = get_type_hints(cls)
    known = [field.name for field in fields(cls)]
    for key, value in values.items():
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(known)}"
            raise ConfigError(f"unknown key {prefix}{key} in {where}; {hint}")
        for inner in _dataclasses_in(hints[key]):
            children = value if isinstance(value, list) else [value]
            for index, child in enumerate(children):
                label = f"{prefix}{key}[{index}]." if isinstance(value, list) else f"{prefix}{key}."
                _refuse_unknown(inner, child, where, label)


def _dataclasses_in(hint: Any) -> list[type[Any]]:
    if isinstance(hint, type) and is_dataclass(hint):
        return [hint]
    return [inner for argument in get_args(hint) for inner in _dataclasses_in(argument)]
