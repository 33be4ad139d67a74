"""How a mirror follows an archive of DICOM studies, whichever protocol the archive speaks.

The archive decides what exists. Each sync lists its studies and their instances and fetches what is not here. What it
no longer lists goes from here as well: an instance that its study lost, and a study that is neither listed nor found
when asked for by itself (deleted, merged, or outside the configured modalities and days since they were changed). A
study whose patient ID, issuer, name or accession number changed goes at once and is fetched again, since archives
correct these under the same UIDs and a file of the old ones would be the wrong patient's. Two guards: an archive that
suddenly lacks more than half of `FEW_STUDIES` or more studies, or answers that a listed study has no instance, makes
nothing go.

An instance that the server does not give counts as failed and is asked for at the next sync; the others come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from site_client.records import Refusal
from site_client.sources.interface import Progress, Question, Report, SourceError, Synced
from site_client.sources.mirror import Mirror, MirrorWriter, NotDicomError
from site_client.sources.patience import NotGivenError, ServerFaultError, ServerSilentError

__all__ = ["Archive", "Instance", "Listing", "MirroredArchive", "follow"]

FEW_STUDIES = 10
MOST_FAULTS, MOST_SILENCES = 1000, 3  # one after another, before a server counts as broken

Keep = Callable[[Iterable[bytes]], None]


@dataclass(frozen=True, slots=True)
class Instance:
    """One file of a study."""

    uid: str = field(repr=False)
    series_uid: str = field(repr=False)
    sop_class: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """Studies by UID with a mark of what the archive says of their patient; `unusable`: entries without a valid UID."""

    marks: Mapping[str, str] = field(repr=False)
    unusable: int = 0


class MirroredArchive:
    """The half of a `Source` that reads the mirror of an archive: images alone, reports come from another source."""

    def __init__(self, name: str, mirror: Mirror) -> None:
        self.name = name
        self._mirror = mirror

    def folders(self) -> Sequence[Path]:
        """The mirror's files."""
        return [self._mirror.dicom]

    def reports(self) -> Iterator[Report | Refusal]:
        """None: an archive's reports come from another source."""
        return iter(())

    def questions(self) -> Iterator[Question | Refusal]:
        """None."""
        return iter(())


class Archive(Protocol):
    """What `follow` asks. All raise SourceError and its kinds of `patience`."""

    def studies(self) -> Listing:
        """Every study that the source is configured for."""

    def instances(self, study: str) -> Sequence[Instance]:
        """Every instance of the study, of the configured modalities."""

    def fetch(self, study: str, instance: Instance, keep: Keep) -> None:
        """Hand the file's pieces to `keep`, again from the start for another try."""

    def lists(self, study: str) -> bool:
        """Whether this study exists, asked for by itself."""


def follow(archive: Archive, mirror: Mirror, progress: Progress | None = None) -> Synced:
    """Make `mirror` what the archive has now; progress is called with (studies done, studies)."""
    with mirror.writing() as writer:
        listing = archive.studies()
        pass_ = _Pass(archive, writer)
        pass_.failed += listing.unusable
        for study in writer.studies():  # before anything is asked: whose a file is must not wait for its fetch
            if study in listing.marks:
                writer.drop_corrected(study, listing.marks[study])
        for done, (study, mark) in enumerate(listing.marks.items(), start=1):
            pass_.bring(study, mark)
            if progress is not None:
                progress(done, len(listing.marks))
        _forget(archive, writer, listing.marks)
    return Synced(pass_.new, pass_.known, pass_.failed)


class _Pass:
    def __init__(self, archive: Archive, writer: MirrorWriter) -> None:
        self._archive = archive
        self._writer = writer
        self._faults = self._silences = 0
        self.new = self.known = self.failed = 0

    def bring(self, study: str, mark: str) -> None:
        listed: list[Instance] = []
        if not self._given(lambda: listed.extend(self._archive.instances(study))):
            return
        for instance in listed:
            if self._writer.holds(study, instance.uid, mark):
                self.known += 1
            elif self._given(lambda wanted=instance: self._fetch(study, mark, wanted)):  # type: ignore[misc]
                self.new += 1
        if listed:
            self._writer.keep_only(study, (instance.uid for instance in listed))

    def _fetch(self, study: str, mark: str, instance: Instance) -> None:
        self._archive.fetch(study, instance, lambda pieces: self._writer.keep(study, instance.uid, mark, pieces))

    def _given(self, ask: Callable[[], None]) -> bool:
        """Whether it came. Raises SourceError for a broken server."""
        try:
            ask()
        except (NotGivenError, NotDicomError):
            self._faults = self._silences = 0
        except (ServerFaultError, ServerSilentError) as error:
            self._faults += 1
            self._silences += isinstance(error, ServerSilentError)
            if self._faults >= MOST_FAULTS or self._silences >= MOST_SILENCES:
                raise
        else:
            self._faults = self._silences = 0
            return True
        self.failed += 1
        return False


def _forget(archive: Archive, writer: MirrorWriter, listed: Mapping[str, str]) -> None:
    held = writer.studies()
    gone = [study for study in held if study not in listed]
    if len(held) >= FEW_STUDIES and len(gone) > len(held) / 2:
        raise SourceError(
            f"the archive no longer lists {len(gone)} of the {len(held)} studies in {writer.folder}, so none was "
            "removed; if that is right, remove that folder and sync again.")
    for study in gone:
        if not archive.lists(study):
            writer.keep_only(study, ())
