""".ci/release: what it writes about wheels, what it refuses, and the release hash of our wheel."""

from __future__ import annotations

import importlib.util
import json
import re
import zipfile
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from privacy.release import release_hash

ROOT = Path(__file__).resolve().parent.parent


def script() -> ModuleType:
    loader = SourceFileLoader("release_script", str(ROOT / ".ci" / "release"))
    spec = importlib.util.spec_from_loader("release_script", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


RELEASE = script()


def make_wheel(folder: Path, name: str, version: str = "1.0", *fields: str) -> Path:
    folder.mkdir(exist_ok=True)
    stem = f"{name.replace('-', '_')}-{version}"
    path = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        text = "\n".join(["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}", *fields, "", "About it."])
        archive.writestr(f"{stem}.dist-info/METADATA", text)
    return path


def check_bill(bill: dict[str, Any]) -> None:
    """The parts of the CycloneDX 1.6 schema that we write (https://cyclonedx.org/docs/1.6/json/)."""
    assert set(bill) == {"bomFormat", "specVersion", "version", "serialNumber", "metadata", "components"}
    assert (bill["bomFormat"], bill["specVersion"], bill["version"]) == ("CycloneDX", "1.6", 1)
    hexadecimal = "[0-9a-f]"
    assert re.fullmatch(r"urn:uuid:x{8}-x{4}-x{4}-x{4}-x{12}".replace("x", hexadecimal), bill["serialNumber"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", bill["metadata"]["timestamp"])
    everything = [bill["metadata"]["component"], *bill["components"]]
    for part in everything:
        assert {"type", "bom-ref", "name", "version", "purl", "hashes"} <= set(part) <= {
            "type", "bom-ref", "name", "version", "purl", "hashes", "licenses"}
        assert part["type"] == ("application" if part is everything[0] else "library")
        assert re.fullmatch(r"pkg:pypi/[a-z0-9-]+@[A-Za-z0-9.%!]+", part["purl"]) and part["bom-ref"] == part["purl"]
        ((algorithm, content),) = [(entry["alg"], entry["content"]) for entry in part["hashes"]]
        assert algorithm == "SHA-256" and re.fullmatch("[0-9a-f]{64}", content)
        for entry in part.get("licenses", []):
            assert set(entry) in ({"expression"}, {"license"})
            assert entry.get("expression") or entry["license"]["name"]
    assert len({part["bom-ref"] for part in everything}) == len(everything)


def test_requirements_and_bill_name_every_wheel_by_hash(tmp_path: Path) -> None:
    own = make_wheel(tmp_path, "federated-medgpt", "0.1.0", "License: Apache-2.0")
    make_wheel(tmp_path, "A.Library", "2.0+cpu", "License-Expression: MIT OR Apache-2.0", "License: ignored")
    classifier = "Classifier: License :: OSI Approved :: BSD"
    make_wheel(tmp_path, "whole-text", "1", f"License: {'very ' * 30}long", classifier)
    make_wheel(tmp_path, "nothing-said")
    everything = [RELEASE.wheel_facts(path) for path in sorted(tmp_path.glob("*.whl"))]
    bill = RELEASE.bill_of_materials(RELEASE.wheel_facts(own), everything)
    check_bill(bill)
    assert bill["metadata"]["component"]["licenses"] == [{"license": {"name": "Apache-2.0"}}]
    licences = {part["purl"]: part.get("licenses") for part in bill["components"]}
    assert licences == {"pkg:pypi/a-library@2.0%2Bcpu": [{"expression": "MIT OR Apache-2.0"}],
                        "pkg:pypi/nothing-said@1.0": None, "pkg:pypi/whole-text@1": [{"license": {"name": "BSD"}}]}
    text = RELEASE.requirements_text(everything)
    assert f"federated-medgpt==0.1.0 --hash=sha256:{RELEASE.digest_of(own)}\n" in text
    assert "a-library==2.0+cpu --hash=sha256:" in text and text.count("--hash=sha256:") == 4
    own.write_bytes(own.read_bytes() + b" ")
    assert RELEASE.wheel_facts(own)["sha256"] not in text


def test_only_wheels_with_the_noted_hash_are_kept(tmp_path: Path) -> None:
    wheels, note = tmp_path / "wheels", tmp_path / "wheels.json"
    own, first, second = (make_wheel(wheels, name) for name in ("own", "first", "second"))

    def complete(wanted: str = "pins") -> bool:
        return bool(RELEASE.is_complete(note, own, wanted))

    assert not complete() and first.exists()  # an interrupted download is taken up again
    hashes = {path.name: RELEASE.digest_of(path) for path in (first, second)}
    note.write_text(json.dumps({"wanted": "pins", "wheels": hashes}))
    stray = make_wheel(wheels, "stray")
    assert complete() and not stray.exists() and first.exists() and own.exists()
    second.write_bytes(b"other")
    assert not complete() and not second.exists() and first.exists()
    assert not complete("other pins") and not first.exists() and own.exists()


def test_two_versions_of_a_wheel_are_refused(tmp_path: Path) -> None:
    make_wheel(tmp_path, "a-b", "1")
    make_wheel(tmp_path, "a_b", "2")
    everything = [RELEASE.wheel_facts(path) for path in sorted(tmp_path.glob("*.whl"))]
    with pytest.raises(ValueError, match="two versions of a-b"):
        RELEASE.refuse_two_versions(everything, tmp_path)
    RELEASE.refuse_two_versions(everything[:1], tmp_path)


def test_a_missing_tool_is_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
                                        tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert RELEASE.main(["--output", str(tmp_path / "dist")]) == 2
    said = capsys.readouterr().err
    assert "unshare" in said and said.count("\n") == 1
    assert not (tmp_path / "dist").exists()


def test_a_step_that_fails_leaves_no_release_and_says_which(monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                                                            capsys: pytest.CaptureFixture[str]) -> None:
    def no_network(wheel: Path, folder: Path) -> None:
        (folder / "wheels").mkdir(exist_ok=True)
        RELEASE.command(["sh", "-c", "echo noise >&2; echo the index does not answer >&2; exit 1"])

    def ready(folder: Path) -> Path:
        return make_wheel(folder, "federated-medgpt", "0.1.0")

    monkeypatch.setattr(RELEASE, "cannot_run", lambda: None)
    monkeypatch.setattr(RELEASE, "build_wheel", ready)
    monkeypatch.setattr(RELEASE, "fetch", no_network)
    finished = tmp_path / "release-0.1.0" / "release.json"
    finished.parent.mkdir()
    finished.write_text("an earlier release")
    assert RELEASE.main(["--output", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and captured.err.endswith("failed: the index does not answer\n")
    assert "2/6 fetch the wheelhouse (about" in captured.out
    assert not finished.exists()  # it described wheels that are no longer there


@pytest.mark.slow
def test_the_wheel_is_reproducible_and_carries_the_release_hash_of_its_source(tmp_path: Path) -> None:
    built = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        built.append(RELEASE.build_wheel(tmp_path / name))
    assert built[0].read_bytes() == built[1].read_bytes()
    assert RELEASE.wheel_release_hash(built[0]) == release_hash()
    facts = RELEASE.wheel_facts(built[0])
    assert facts["name"] == "federated-medgpt" and facts["licence"] == "Apache-2.0"
    bill = RELEASE.bill_of_materials(facts, [facts])
    check_bill(bill)
    assert bill["components"] == [] and bill["metadata"]["component"]["version"] == facts["version"]
