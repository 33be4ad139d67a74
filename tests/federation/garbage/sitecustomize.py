"""In the processes of a site that lies: its executor answers the steps in $GARBAGE_STEPS with random bytes.

Python imports this module at the start of every process that has its folder on the path.
"""

from __future__ import annotations

import os
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any


class _Patched(Loader):
    """Runs the real module, then changes what its executor answers."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        created: ModuleType | None = self._real.create_module(spec)
        return created

    def exec_module(self, module: ModuleType) -> None:
        self._real.exec_module(module)
        answer = module._answer  # type: ignore[attr-defined]

        def lie(message: Any, context: Any) -> Any:
            if message.metadata.message_type.split(".")[-1] in os.environ["GARBAGE_STEPS"].split(","):
                return module.with_body(message, os.urandom(200))  # type: ignore[attr-defined]
            return answer(message, context)

        app = module.ClientApp()  # type: ignore[attr-defined]
        for step in ("roster", "hello", "witness", "restore", "sa_share", "sa_mask", "sa_confirm", "sa_unmask",
                     "sa_result"):
            app.query(step)(lie)
        app.train("sa_train")(lie)
        module.app = app  # type: ignore[attr-defined]


class _Finder(MetaPathFinder):
    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if name == "site_client.audit_log":
            return _unbooked(PathFinder.find_spec(name, path))
        if name != "site_client.app":
            return None
        spec = PathFinder.find_spec(name, path)
        if spec is not None:
            spec.loader = _Patched(spec.loader)
        return spec


class _Unbooked(_Patched):
    """An audit log that books whatever leaves: a liar does not stop at his own log."""

    def exec_module(self, module: ModuleType) -> None:
        self._real.exec_module(module)
        egress = module.AuditLog.egress  # type: ignore[attr-defined]

        def careless(self: Any, **named: Any) -> int:
            try:
                return int(egress(self, **named))
            except ValueError:
                return 0

        module.AuditLog.egress = careless  # type: ignore[attr-defined]


def _unbooked(spec: ModuleSpec | None) -> ModuleSpec | None:
    if spec is not None:
        spec.loader = _Unbooked(spec.loader)
    return spec


if "GARBAGE_STEPS" in os.environ:
    sys.meta_path.insert(0, _Finder())
