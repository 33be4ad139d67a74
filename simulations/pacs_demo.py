"""From a hospital's archive to a private round, told step by step, on real DICOM files.

`make pacs-demo` runs it: three hospitals, each with an Orthanc of its own (DICOMweb, a password) and a report server
(FHIR, a token), all on loopback. Every command is printed as a data manager would type it and runs as a real process.
At the end facts are checked, each with ok or FAILED, and the exit code is 1 if one failed.

The files are real, the reports are made of their headers, and the patients are few: what is shown here is the way of
the data, neither a privacy setting to copy nor a model that has learned something.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import signal
import stat
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import requests

from configs.load import load_config
from configs.schema import SimulationConfig
from simulations import archive_lab, pacs_corpus
from simulations.archive_lab import Orthanc
from simulations.checked_story import Story, index_numbers
from simulations.fhir_lab import FhirServer, fhir_server
from simulations.materials import Materials, prepare
from simulations.pacs_corpus import Hospital
from simulations.real_federation import RealFederation, set_keys
from site_client.imaging.burned_in import cannot_read_text
from site_client.records import REASONS

__all__ = ["PacsDemo", "main", "new_folder"]

SITES = 3
DECLARED = 5  # patients of each site, rounded: the archives hold a few more
MAX_EPSILON, TARGET_EPSILON = 8.0, 6.0
_POLICY = (f"min_patients={DECLARED}", "require_scheduled_replies=false")
_CURRICULUM = """\
stages:
  - {name: from-the-archive, sources: {questions: 2, studies: 1}, groups: [attention, projector], learning_rate: 0.1,
     learning_rate_without_privacy: 0.1, local_steps: 1, sampling_rate: 0.5, rounds: 1, reply_after_s: 0}
"""
_MARK = ".pacs-demo"


def main(argv: list[str] | None = None) -> int:
    """`python -m simulations.pacs_demo [--folder DIR] [--json]`; 0 when every fact holds, 2 where it cannot run."""
    parser = argparse.ArgumentParser(prog="make pacs-demo", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/pacs-demo"), help="made anew")
    parser.add_argument("--json", action="store_true", help="the facts as JSON on standard output, the story on stderr")
    arguments = parser.parse_args(argv)
    story = Story(sys.stderr if arguments.json else sys.stdout)
    try:
        if reason := archive_lab.cannot_run():
            raise ValueError(reason)
        hospitals = pacs_corpus.hospitals(pacs_corpus.patients_of(archive_lab.sample_files()), SITES)
        folder = new_folder(arguments.folder.resolve())
        materials = prepare(load_config(SimulationConfig, "simulations/smoke.yaml"), lambda what, done, total: None)
        with ExitStack() as stack:
            numbers = PacsDemo(folder, hospitals, materials, story, stack).play()
    except ValueError as error:
        print(f"pacs-demo: {error}", file=sys.stderr)
        return 2
    except (RuntimeError, TimeoutError) as error:
        print(f"pacs-demo: FAILED: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if arguments.json:
        print(json.dumps(story.summary() | numbers, indent=1))
    return int(bool(story.failed))


def new_folder(folder: Path) -> Path:
    """An empty folder (0700); what an earlier demo left there goes. Raises ValueError for one with other files."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / _MARK).exists():
            raise ValueError(f"{folder} has files of somebody else; name a new folder with --folder")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    (folder / _MARK).touch()
    return folder


class _Federation(RealFederation):
    """Real processes, whose commands are shown as they are typed, and their output where it belongs to the story."""

    story: Story

    def command(self, program: str, *arguments: str, check: bool = True, typed: str = "", shown: bool = False) -> str:
        """As in the base, and printed."""
        self.story.show_command(program, arguments, "ids.txt" if typed else "")
        said = super().command(program, *arguments, check=check, typed=typed)
        if shown:
            self.story.show(said)
        return said

    def _lay_out_site(self, site: str) -> None:
        self.command(
            "site-client", "init", site, "--invitation", "C/invitation.json", "--site-id", site, "--patients",
            str(DECLARED), "--data", str(self.materials.hospitals / site), "--base-model",
            str(self.materials.base_model), "--max-epsilon", f"{MAX_EPSILON:g}", "--auto-approve",
            *(word for rule in _POLICY for word in ("--policy", rule)), shown=site == self.site_ids[0])
        set_keys(self.site_file(site), {"health_port": self.health_ports[site], **self._transport()})


@dataclass
class PacsDemo:
    """The steps. `stack` ends what was started."""

    folder: Path
    hospitals: Sequence[Hospital]
    materials: Materials
    story: Story
    stack: ExitStack
    archives: dict[str, Orthanc] = field(default_factory=dict)
    servers: dict[str, FhirServer] = field(default_factory=dict)
    held: dict[str, list[Path]] = field(default_factory=dict)        # files that a site's archive took at first
    latest: dict[str, dict[str, Any]] = field(default_factory=dict)  # what a site's newest index said
    federation: _Federation = field(init=False)

    def play(self) -> dict[str, Any]:
        """All steps; the numbers beside the facts."""
        for hospital in self.hospitals:
            self.fill(hospital)
        self.protected()
        self.make_sites()
        self.first_index()
        self.nothing_new()
        self.one_study_more()
        self.may_be_shown()
        self.what_was_refused()
        self.opt_out()
        self.doctor()
        rounds = self.round()
        spent = self.ledgers()
        self.nothing_told()
        self.story.close()
        return {"indexes": self.latest, "rounds": len(rounds), "epsilon": spent}

    # ------------------------------------------------------------------ archives and sites

    def fill(self, hospital: Hospital) -> None:
        """Start one hospital's two servers and put in what belongs there."""
        if not self.archives:
            self.story.say("Each hospital has an archive (Orthanc) and a report server (FHIR). Real files go in, "
                           "grouped by their own PatientID; what has no usable one is left out. An archive itself "
                           "refuses a file that is cut off.")
        site = hospital.site_id
        archive = self.archives[site] = self.stack.enter_context(Orthanc(self.folder / "archives" / site))
        server = self.servers[site] = self.stack.enter_context(fhir_server())
        server.token = f"token-{archive.password}"
        held = self.held[site] = [path for path in hospital.files if archive.store([path])]
        server.put(*pacs_corpus.first_reports(hospital))
        pacs_corpus.write_questions(self.folder / "data" / site, hospital)
        pictured = sum(one.has_pictures for one in hospital.patients)
        reports = sum(kind == "DiagnosticReport" for kind, _ in server.resources)
        self.story.show(
            f"{site}: {archive.dicomweb_url} took {len(held)} of {len(hospital.files)} files of "
            f"{len(hospital.patients)} patients, {pictured} of them with pictures; {server.url} has {reports} reports")

    def protected(self) -> None:
        """Neither server answers a stranger."""
        for site in self.archives:
            asked = (f"{self.archives[site].dicomweb_url}/studies", f"{self.servers[site].url}/DiagnosticReport")
            self.story.check(f"{site}'s servers answer nobody without password and token",
                             all(requests.get(url, timeout=20).status_code == 401 for url in asked))

    def make_sites(self) -> None:
        """Coordinator and sites by their own commands, and where each site's data come from."""
        self.story.say("The sites are made: keys, a policy that allows very few patients, a roster that two officers "
                       "sign.")
        materials = replace(self.materials, hospitals=self.folder / "data",
                            declared=dict.fromkeys(self.archives, DECLARED))
        self.federation = _Federation(self.folder / "federation", materials, sites=SITES)
        self.federation.story = self.story
        self.federation.lay_out()
        self.story.say("Each site.yaml gets its sources. Password and token lie in files of their own (0600). Pictures "
                       "that may show a name are looked at by tesseract, and refused where it is missing.")
        burned_in = "refuse" if cannot_read_text() else "ocr"
        for site in self.archives:
            sources, file = self.sources(site), self.federation.site_file(site)
            set_keys(file, {"sources": json.dumps(sources)})
            set_keys(file, {"burned_in": burned_in}, indent="  ")
            if site == "site-1":
                self.story.show("\n".join(["sources:", *(f"- {json.dumps(one)}" for one in sources), "images:",
                                           f"  burned_in: {burned_in}"]))

    def sources(self, site: str) -> list[dict[str, str]]:
        """Of a site's file; the secrets are written beside it."""
        archive, server = self.archives[site], self.servers[site]
        return [{"kind": "dicomweb", "name": "pacs", "url": archive.dicomweb_url, "user": archive.user,
                 "secret_file": self.secret(site, "archive.password", archive.password)},
                {"kind": "fhir", "name": "ris", "url": server.url, "category": "RAD",
                 "secret_file": self.secret(site, "fhir.token", server.token)}]

    def secret(self, site: str, name: str, text: str) -> str:
        """A file 0600 in the site's folder; its path."""
        path = self.federation.folder / site / name
        path.touch(mode=0o600)
        path.write_text(text, encoding="utf-8")
        return str(path)

    # ------------------------------------------------------------------ the index

    def first_index(self) -> None:
        """Everything is mirrored and read."""
        self.story.say("The first index mirrors both servers, reads every file in a sandbox, joins, searches the "
                       "texts.")
        for hospital in self.hospitals:
            site = hospital.site_id
            found = self.index(site)
            self.story.check(f"{site}'s mirror holds exactly the bytes that went into its archive",
                             found["mirrors"]["pacs"] == (len(self.held[site]), 0, 0)
                             and self.mirrored(site) == _hashes(self.held[site]))
            self.story.check(f"{site} has patients with questions and patients with reports", all(
                found["sources"].get(name, (0, 0))[1] > 1 for name in ("questions", "studies")))

    def nothing_new(self) -> None:
        """Nothing comes, because nothing is new."""
        self.story.say("Once more: nothing is new, so nothing comes, no picture is made again, and the numbers stay.")
        before, pictures = dict(self.latest["site-1"]), self.pictures("site-1")
        found = self.index("site-1")
        self.story.check("a second index brings nothing, makes no picture again and changes no number", all(
            new == failed == 0 for new, _, failed in found["mirrors"].values())
            and found | {"mirrors": None} == before | {"mirrors": None} and self.pictures("site-1") == pictures != {})

    def one_study_more(self) -> None:
        """A study and its report come; exactly they appear."""
        hospital, before = self.hospitals[0], self.latest["site-1"]
        patient, later = hospital.patients[0], hospital.later
        assert later is not None
        files = [file.path for file in later.files]
        self.story.say(f"A day later: one study more ({len(files)} files) of a patient who was there before, its "
                       "report, and questions about it.")
        self.archives["site-1"].store(files)
        self.servers["site-1"].put(*pacs_corpus.report(patient, later), changed="2024-01-02T00:00:00Z")
        pacs_corpus.write_questions(self.folder / "data/site-1", hospital, with_later=True)
        found, asked = self.index("site-1"), len(list(pacs_corpus.questions(patient, [later])))
        grown = {name: count - before["sources"][name][0] for name, (count, _) in found["sources"].items()}
        self.story.check(
            "exactly that study came: its files, its report, its questions, nothing else",
            found["mirrors"]["pacs"] == (len(files), len(self.held["site-1"]), 0) and found["mirrors"]["ris"][0] == 1
            and grown == {"questions": asked, "studies": 1} and found["patients"] == before["patients"]
            and found["reasons"] == before["reasons"])

    def may_be_shown(self) -> None:
        """Counts below 10 are hidden."""
        self.story.say("What may be shown to others: counts below 10 are hidden, since they stand for single patients.")
        self.site_client("index", "site-1", "--no-sync", "--report", shown=True)

    def what_was_refused(self) -> None:
        """By reason, and the review file."""
        self.story.say("What was refused. --refused lists files and rows, with identifiers, for the hospital's own "
                       "eyes: here only its counts are printed.")
        found = json.loads(self.site_client("index", "site-1", "--no-sync", "--refused", "--json"))
        self.story.show("\n".join(f"{count:>4}  {reason:<17} {REASONS[reason]}"
                                   for reason, count in found["refused_by_reason"].items()))
        self.story.say("Which kinds of names and numbers the texts had, and where staff can read them: a file 0600.")
        exact = json.loads(self.site_client("index", "site-1", "--no-sync", "--report", "--exact", "--json"))
        (review,) = self.federation.state("site-1").rglob("phi-review.txt")
        mode, patient = stat.S_IMODE(review.stat().st_mode), self.hospitals[0].patients[0]
        self.story.show("\n".join([*(f"{count:>4}  {kind}" for kind, count in exact["phi_hits"].items()),
                                   f"{mode:04o}  {review}"]))
        why = {one["item"]: one["reason"] for one in found["refused_items"]}
        named, swapped = (f"DiagnosticReport/{pacs_corpus.report_id(study)}" for study in patient.studies[1:3])
        self.story.check("the report that names its patient was refused for that", why.get(named) == "phi-found")
        self.story.check("the report whose pictures are another patient's was refused for that",
                         why.get(swapped) == "patient-mismatch")
        self.story.check("the review file is its owner's alone, and shows the name", mode == 0o600 and all(
            part in review.read_text(encoding="utf-8") for part in patient.name.split("^")))

    def opt_out(self) -> None:
        """Nothing of that patient stays."""
        self.story.say("A patient opts out: the ID comes on standard input, its hash is kept, and the next index has "
                       "nothing of that patient (the mirror goes on being a copy of the archive).")
        gone, before, pictures = self.hospitals[0].patients[1], self.latest["site-1"], self.pictures("site-1")
        self.site_client("opt-out add", "site-1", typed=gone.patient_id + "\n", shown=True)
        found = self.index("site-1")
        self.story.check("the patient who opted out is gone with all pictures, and nobody else",
                         found["patients"] == before["patients"] - 1 and found["reasons"].get("opted-out", 0) > 0
                         and len(self.pictures("site-1")) < len(pictures))

    def doctor(self) -> None:
        """The part of `doctor` that is about the data."""
        self.story.say("doctor says whether the data can be read here. Only those lines are printed: the coordinator "
                       "is not up yet, and doctor says that too.")
        found = json.loads(self.site_client("doctor", "site-1", "--json", check=False))["findings"]
        about = [one for one in found if one["name"] in ("data", "decoders")]
        self.story.show("\n".join(f"{one['level']:<5} {one['name']:<9} {one['text']}" for one in about))
        self.story.check("doctor finds the data in order, and a decoder for every file that needs one",
                         [one["level"] for one in about] == ["PASS", "PASS"])

    # ------------------------------------------------------------------ the round

    def round(self) -> list[dict[str, Any]]:
        """One private round of all sites over questions and studies; its entry in the coordinator's history."""
        self.story.say("One private round over questions and studies: everybody starts, the coordinator launches, each "
                       "site's policy accepts.")
        try:
            self.federation.start_all()
            self.federation.command("coordinator", "launch", "C", str(self.write_run()), shown=True)
            ended = self.federation.wait("pacs", "finished", "failed", "stopped")
            rounds = self.federation.history("pacs")
        finally:
            self.federation.close()
        self.story.show("\n".join([f"run pacs {ended.state} {ended.reason}".rstrip(), *(
            f"round {one['round']}: in the sum {', '.join(one['summed'])}" for one in rounds)]))
        self.story.check("the sum of the round has all three sites in it, and all three attested it", [
            (len(one["summed"]), len(one["attested"])) for one in rounds] == [(SITES, SITES)])
        return rounds

    def write_run(self) -> Path:
        """The run's file and its curriculum."""
        curriculum, run = self.folder / "curriculum.yaml", self.folder / "run.yaml"
        curriculum.write_text(_CURRICULUM, encoding="utf-8")
        run.write_text(
            f"run_id: pacs\ncurriculum: {curriculum}\nbase_model: {self.materials.base_model}\n"
            f"public_examples: {self.materials.public_examples}\nevery_rounds: 1000\n"
            f"privacy: {{target_epsilon: {TARGET_EPSILON:g}}}\nfederation: {{timeout_s: 120}}\n", encoding="utf-8")
        return run

    def ledgers(self) -> dict[str, float]:
        """What the round cost, from each site's own ledger."""
        self.story.say("What it cost a patient, from each site's own ledger.")
        spent = {}
        for site in self.archives:
            said = self.site_client("ledger", site, shown=True)
            number = re.search(r"spent +epsilon ([0-9.]+)", said)
            spent[site] = float(number[1]) if number else float("nan")
        self.story.check(f"every ledger has a cost, at most the {TARGET_EPSILON:g} that the run asked for",
                         all(0 < value <= TARGET_EPSILON for value in spent.values()))
        return spent

    def nothing_told(self) -> None:
        """No output of a command that is shown names a patient or a secret."""
        told = "\n".join(self.story.printed)
        patients = [one for hospital in self.hospitals for one in hospital.patients]
        words = {one.patient_id for one in patients if len(one.patient_id) > 6}
        words |= {one.password for one in self.archives.values()} | {one.token for one in self.servers.values()}
        words |= set(self.hospitals[0].patients[0].name.split("^"))
        self.story.check("no output above has a password, a token, a long patient ID or the name in that report",
                         not any(re.search(rf"\b{re.escape(word)}\b", told, re.IGNORECASE) for word in words))

    # ------------------------------------------------------------------ parts of them

    def index(self, site: str) -> dict[str, Any]:
        """`site-client index`, shown; its numbers."""
        found = self.latest[site] = index_numbers(self.site_client("index", site, shown=True))
        return found

    def site_client(self, command: str, site: str, *words: str, **options: Any) -> str:
        """Run a command of the site on its own file; what it printed."""
        return self.federation.command("site-client", *command.split(), f"{site}/site.yaml", *words, **options)

    def pictures(self, site: str) -> dict[Path, int]:
        """Ready pictures of a site's index, and when each was made (ns)."""
        return {path: path.stat().st_mtime_ns for path in self.federation.state(site).glob("index/tiles/**/*.npy")}

    def mirrored(self, site: str) -> set[str]:
        """SHA-256 of the files in the site's mirror of its archive."""
        found = self.federation.state(site).glob("**/mirror/pacs/dicom/**/*")
        return _hashes([path for path in found if path.is_file()])


def _hashes(paths: Sequence[Path]) -> set[str]:
    return {sha256(path.read_bytes()).hexdigest() for path in paths}


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))  # ends what was started, too
    sys.exit(main())
