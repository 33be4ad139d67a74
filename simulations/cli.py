"""A whole federation of hospitals on one machine: real apps, real protocol, real data, no network."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from simulations.attack_commands import add_attack_command

__all__ = ["main"]

EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2


def main(argv: list[str] | None = None) -> int:
    """Entry point; the exit code is 0 (done), 1 (a run failed) or 2 (bad input)."""
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    wrong = [item for item in rest if item.startswith("-") or "=" not in item]
    if wrong:
        parser.error(f"{wrong[0]!r} is not a setting; write KEY=VALUE")
    arguments.overrides = [*arguments.overrides, *rest]  # settings may stand after options too
    _quiet_environment()
    try:
        return int(arguments.command(arguments))
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on", file=sys.stderr)
        return 130
    except (ValueError, FileNotFoundError) as error:
        print(f"simulate: {error}", file=sys.stderr)
        return EXIT_USAGE
    except RuntimeError as error:
        print(f"simulate: {error}", file=sys.stderr)
        return EXIT_FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="simulate", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="train every row of the comparison and write a report",
                              description="Run a simulation file into a folder; the same command again continues it.")
    run.add_argument("config", help="YAML file, such as configs/simulations/demo.yaml")
    run.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings of the file to change")
    run.add_argument("--out", type=Path, help="folder for the result (default: runs/NAME)")
    run.add_argument("--engine", choices=("in-process", "flower"), default="in-process",
                     help="flower = Flower's simulation engine on Ray; same result for the same seed")
    run.add_argument("--json", action="store_true", help="print the report as JSON instead of a table")
    run.add_argument("--audit", type=Path, metavar="FILE",
                     help="audit.json of `simulate audit`; named in report and adapter if it is of this very run")
    run.set_defaults(command=_run)
    audit = commands.add_parser(
        "audit", help="try to refute the privacy claim of a simulation file",
        description="Run the site's private steps on canaries beside real patients, and test what they release.")
    audit.add_argument("config", help="YAML file, such as configs/simulations/demo.yaml")
    audit.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings of the file to change")
    audit.add_argument("--out", type=Path, help="folder for the result (default: runs/NAME-audit)")
    audit.add_argument("--json", action="store_true", help="print the result as JSON instead of text")
    audit.add_argument("--fault", metavar="NAME", help="plant a fault, which must be found; all = each of them in turn")
    audit.add_argument("--seed", type=int, help="repeatable randomness, for tests; the result is then no audit")
    audit.set_defaults(command=_audit)
    add_attack_command(commands)
    ablate = commands.add_parser(
        "ablate", help="train a simulation without one of its parts at a time",
        description="One table and one plot of what each part contributes; the same command again goes on.")
    ablate.add_argument("config", help="YAML file, such as configs/simulations/ablate.yaml")
    ablate.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings of the file to change")
    ablate.add_argument("--out", type=Path, help="folder for the result (default: runs/NAME)")
    ablate.add_argument("--quick", action="store_true", help="tiny data and one seed: only to see that it works")
    ablate.add_argument("--json", action="store_true", help="print the report as JSON instead of a table")
    ablate.set_defaults(command=_ablate)
    _add_study(commands)
    make = commands.add_parser("make-hospitals", help="write folders of real DICOM files and reports",
                               description="Split the real data of two installed packages over hospitals.")
    make.add_argument("out", type=Path, help="folder to make")
    make.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="such as seed=3 num_test_reports=600")
    make.add_argument("--json", action="store_true", help="print JSON instead of text")
    make.set_defaults(command=_make)
    _add_trial(commands)
    return parser


def _add_study(commands: Any) -> None:
    study = commands.add_parser(
        "study", help="a study of the documents: many runs, one table and plot",
        description="utility: pooled data, sites alone, local and distributed noise at equal epsilon. Stop at any "
                    "time; the same command goes on. Exit code 1 when a goal is short.")
    study.add_argument("name", choices=("utility",), help="which study")
    study.add_argument("--out", type=Path, help="folder for the result (default: runs/NAME)")
    study.add_argument("--quick", action="store_true", help="the headline comparison at epsilon 1 with one seed")
    study.add_argument("--only", nargs="+", default=[], metavar="WORD", help="tasks or arms to run, such as patches")
    study.add_argument("--report", action="store_true", help="make no run: table, plot and goals of the finished ones")
    study.add_argument("--jobs", type=_runs, default=1, metavar="N", help="runs at once, a core each (default: 1)")
    study.add_argument("--tune", action="store_true", help="only try learning rates on public patients, and print them")
    study.add_argument("--json", action="store_true", help="print the summary as JSON instead of a table")
    study.set_defaults(command=_study, overrides=[])


def _add_trial(commands: Any) -> None:
    trial = commands.add_parser(
        "make-trial", help="small hospitals, a tiny base model and questions for a first real federation",
        description="Makes (once) and copies what docs/quickstart.md starts from. The data are real and public.")
    trial.add_argument("out", type=Path, help="folder to make")
    trial.add_argument("config", nargs="?", default="configs/simulations/smoke.yaml",
                       help="simulation file that names data and base (default: %(default)s)")
    trial.add_argument("--json", action="store_true", help="print JSON instead of text")
    trial.set_defaults(command=_make_trial, overrides=[])


def _quiet_environment() -> None:
    """No telemetry, no update check, no hub: before any library reads these."""
    for name, value in {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1", "HF_HUB_OFFLINE": "1",
                        "TRANSFORMERS_OFFLINE": "1", "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1",
                        "TOKENIZERS_PARALLELISM": "false", "TRANSFORMERS_VERBOSITY": "error",
                        "PYTHONWARNINGS": "ignore::FutureWarning"}.items():
        os.environ.setdefault(name, value)


def _runs(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of runs at once; give a whole number from 1 up")
    return int(text)


def _run(arguments: argparse.Namespace) -> int:
    from configs.load import load_config
    from configs.schema import SimulationConfig

    config = load_config(SimulationConfig, arguments.config, arguments.overrides)
    out = arguments.out or Path("runs") / config.name
    from rich.console import Console

    from simulations.report import print_table
    from simulations.run import run_simulation

    console = Console(stderr=arguments.json)
    facts = run_simulation(config, out, arguments.engine, console, arguments.audit)
    if arguments.json:
        print(json.dumps(facts))
    else:
        print_table(facts, console)
    return EXIT_OK


def _audit(arguments: argparse.Namespace) -> int:
    from configs.load import load_config
    from configs.schema import SimulationConfig

    config = load_config(SimulationConfig, arguments.config, arguments.overrides)
    from simulations.audit import run_audits, wanted_audits
    from simulations.distributed_arm import audited_config

    names = wanted_audits(arguments.fault, shared=audited_config(config).privacy.noise == "distributed")
    from rich.console import Console

    from simulations.audit_report import as_expected, text_of, write_audits

    audits = run_audits(config, names, Console(stderr=True), seed=arguments.seed)
    out = write_audits(arguments.out or Path("runs") / f"{config.name}-audit", audits)
    print(json.dumps(audits) if arguments.json else text_of(audits, out))
    return EXIT_OK if as_expected(audits) else EXIT_FAILED


def _ablate(arguments: argparse.Namespace) -> int:
    from configs.ablation import AblationConfig
    from configs.load import load_config
    from simulations.ablation import QUICK_SETTINGS, ablation_rows, run_ablation

    quick = QUICK_SETTINGS if arguments.quick else ()
    config = load_config(AblationConfig, arguments.config, [*quick, *arguments.overrides])
    out = arguments.out or Path("runs") / config.name
    from rich.console import Console

    from simulations.ablation_report import ablation_facts, table_text, write_ablation

    results = run_ablation(config, out, Console(stderr=True))
    facts = ablation_facts(config, ablation_rows(config), results)
    write_ablation(out, facts)
    print(json.dumps(facts) if arguments.json else f"{table_text(facts)}\nplot: {out / 'ablation.png'}")
    return EXIT_OK


def _study(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from simulations.studies.utility import run_study, tune
    from simulations.studies.utility_report import text_of

    out, console = arguments.out or Path("runs") / arguments.name, Console(stderr=True)
    if arguments.tune:
        tune(out, console, arguments.only)
        return EXIT_OK
    facts, short = run_study(out, console, quick=arguments.quick, only=arguments.only,
                             report=arguments.report, jobs=arguments.jobs)
    print(json.dumps(facts) if arguments.json else "\n".join([text_of(facts), *facts["goals"]]))
    return EXIT_FAILED if short else EXIT_OK


def _make(arguments: argparse.Namespace) -> int:
    from configs.load import load_overrides
    from configs.schema import DataConfig
    from simulations.hospitals import make_hospitals
    from simulations.materials import hospital_settings

    folder = make_hospitals(arguments.out, hospital_settings(load_overrides(DataConfig, arguments.overrides)))
    print(json.dumps({"folder": str(folder)}) if arguments.json else f"hospitals are in {folder}")
    return EXIT_OK


def _make_trial(arguments: argparse.Namespace) -> int:
    from simulations.trial import make_trial

    last = ""

    def progress(what: str, done: int, total: int) -> None:
        nonlocal last
        if what != last and done < total:
            last = what
            print(f"preparing {what}", file=sys.stderr)

    facts = make_trial(arguments.out, arguments.config, progress)
    print(json.dumps(facts) if arguments.json else "\n".join([
        f"{facts['folder']}: base, public.npz and {len(facts['sites'])} hospitals",
        *(f"  {site}: declare {patients} patients" for site, patients in facts["sites"].items())]))
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
