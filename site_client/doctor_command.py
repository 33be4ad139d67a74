"""`site-client doctor SITE_FILE`: PASS, WARN and FAIL lines with the fix; exit code 1 when anything is FAIL."""

from __future__ import annotations

import argparse
from typing import Any

__all__ = ["add_doctor_command"]


def add_doctor_command(commands: Any) -> None:
    """Add `doctor` to the parser's `commands` (of `add_subparsers`)."""
    doctor = commands.add_parser(
        "doctor", help="what keeps this site from taking part, and the fix",
        description="Look at files, keys, ledger, processes, the way to the coordinator and the machine. Changes "
                    "nothing and prints no value of a patient. Exit code 1 when a line is FAIL.")
    doctor.add_argument("site_file", metavar="SITE_FILE", help="this hospital's YAML file")
    doctor.add_argument("--json", action="store_true", help="print JSON instead of text")
    doctor.set_defaults(command=_doctor)


def _doctor(arguments: argparse.Namespace) -> int:
    from privacy.transport.diagnosis import exit_code, report
    from site_client.doctor import diagnose

    findings = diagnose(arguments.site_file)
    print(report(findings, as_json=arguments.json))
    return exit_code(findings)
