"""Images from an archive without DICOMweb: C-FIND lists (PS3.4 C.4.1), C-GET retrieves (C.4.3), by pynetdicom.

C-GET brings the files over the association that asks, so no port of the site is open. Each SOP class is offered once
with the uncompressed transfer syntaxes and once with each compressed one: the archive sends a file as it is stored.
A file's bytes go to the disk unparsed; only the answers to queries are decoded here.

Assumes a network and an archive that the hospital trusts: TLS is not spoken, and DIMSE has no login but the titles.
A file is in memory once it came, at most `MOST_FILE_BYTES`; an archive that announces longer messages loses the
connection. Use DICOMweb where the archive has it.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from configs.site_data import SourceConfig
from site_client.sources.archive import Instance, Keep, Listing, MirroredArchive, follow
from site_client.sources.dicom import quiet_library
from site_client.sources.dicomweb import MOST_INSTANCES, MOST_STUDIES, checked_uid, study_mark
from site_client.sources.interface import Progress, SourceError, Synced
from site_client.sources.mirror import Mirror
from site_client.sources.patience import NotGivenError, Patience, ServerFaultError, ServerSilentError

__all__ = ["MOST_FILE_BYTES", "DimseSource"]

MOST_FILE_BYTES = 512 * 2**20
MOST_ANSWER_BYTES = 2**20  # one answer to a query
_FIND, _GET = "1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.5.1.4.1.2.2.3"  # Study Root
_NATIVE = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2")
_COMPRESSED = tuple(f"1.2.840.10008.1.2.{end}" for end in (
    "4.50", "4.51", "4.57", "4.70", "4.80", "4.81", "4.90", "4.91", "4.201", "4.202", "4.203", "5", "1.99"))
_MOST_CLASSES = 8  # of one association: 128 contexts are the most (PS3.8 9.3.2.2)
# Where the archive does not say what an instance is: CR, DX, CT, MR, US, US multi-frame, MG, secondary capture.
_USUAL_CLASSES = tuple(f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("1", "1.1", "2", "4", "6.1", "3.1", "1.2", "7"))
_ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(?P<port>[0-9]{1,5})")
_REJECTED = {3: "does not know this site's calling_title", 7: "is not named by called_title"}  # PS3.8 9.3.4


class DimseSource(MirroredArchive):
    """The archive at `config.url` (HOST:PORT), mirrored below `mirror`; files above `most_file_bytes` fail.

    Raises SourceError when pynetdicom is not installed or the address is none.
    """

    def __init__(
        self, config: SourceConfig, mirror: Path, *, most_file_bytes: int = MOST_FILE_BYTES,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        found = _ADDRESS.fullmatch(config.url)
        if found is None or not 0 < int(found["port"]) < 65536:
            raise SourceError(f"source {config.name}: url must be HOST:PORT, such as pacs.example.org:104.")
        self._config = config
        self._address = found["host"].strip("[]"), int(found["port"])
        self._library = _library(config.name)
        super().__init__(config.name, Mirror(mirror))
        self._most_file_bytes = min(most_file_bytes, MOST_FILE_BYTES)
        self._pause = pause

    def sync(self, progress: Progress | None = None) -> Synced:
        """See `archive.follow`."""
        archive = _DimseArchive(self._config, self._address, self._library, self._most_file_bytes, self._pause)
        with quiet_library():
            try:
                return follow(archive, self._mirror, progress)
            finally:
                archive.close()


class _DimseArchive:
    def __init__(self, config: SourceConfig, address: tuple[str, int], library: Any, most_file_bytes: int,
                 pause: Callable[[float], None]) -> None:
        self._config = config
        self._address = address
        self._library = library
        self._most_file_bytes = most_file_bytes
        self._patience = Patience(pause)
        self._query: Any = None
        self._transfer: Any = None
        self._classes: tuple[str, ...] = ()  # that the transfer's association carries
        self._expected: tuple[str, ...] = ()  # that the current study holds
        self._received: dict[str, bytes] = {}
        self._count = 0  # bytes since the last whole message
        self._messages = 0  # that came since the last query was sent

    def studies(self) -> Listing:
        marks: dict[str, str] = {}
        unusable = 0
        for modality in self._config.modalities or [""]:
            for found in self._find("STUDY", MOST_STUDIES, StudyInstanceUID="", **self._filters(modality), PatientID="",
                                    IssuerOfPatientID="", PatientName="", AccessionNumber=""):
                uid = checked_uid(_value(found, "StudyInstanceUID"))
                if uid:
                    marks[uid] = study_mark(*(_value(found, keyword) for keyword in (
                        "PatientID", "IssuerOfPatientID", "PatientName", "AccessionNumber")))
                unusable += not uid
        return Listing(marks, unusable)

    def instances(self, study: str) -> Sequence[Instance]:
        found: list[Instance] = []
        for series in self._find("SERIES", MOST_INSTANCES, StudyInstanceUID=study, SeriesInstanceUID="", Modality=""):
            series_uid = checked_uid(_value(series, "SeriesInstanceUID"))
            if self._config.modalities and _value(series, "Modality") not in ("", *self._config.modalities):
                continue
            for image in self._find("IMAGE", MOST_INSTANCES, StudyInstanceUID=study, SeriesInstanceUID=series_uid,
                                    SOPInstanceUID="", SOPClassUID=""):
                uid, sop_class = (checked_uid(_value(image, keyword)) for keyword in ("SOPInstanceUID", "SOPClassUID"))
                if not uid or not series_uid or len(found) >= MOST_INSTANCES:
                    raise NotGivenError(str(self._error("the archive lists an instance without valid UIDs, or no end "
                                                        "of them")))
                found.append(Instance(uid, series_uid, sop_class))
        self._expected = tuple(dict.fromkeys(instance.sop_class for instance in found))
        return found

    def fetch(self, study: str, instance: Instance, keep: Keep) -> None:
        keep([self._patience.of(lambda: self._get(study, instance))])

    def lists(self, study: str) -> bool:
        return any(checked_uid(_value(found, "StudyInstanceUID")) == study
                   for modality in self._config.modalities or [""]
                   for found in self._find("STUDY", MOST_STUDIES, **self._filters(modality) | {
                       "StudyInstanceUID": study}))

    def close(self) -> None:
        """Release what is open."""
        for association in (self._query, self._transfer):
            if association is not None and association.is_established:
                association.release()
        self._query = self._transfer = None

    def _filters(self, modality: str) -> dict[str, str]:
        since = self._config.since.replace("-", "")
        return {"StudyDate": f"{since}-" if since else "", "ModalitiesInStudy": modality}

    # -------------------------------------------------------------- one question each

    def _find(self, level: str, most: int, **keys: str) -> list[Any]:
        return self._patience.of(lambda: self._found(level, most, keys))

    def _found(self, level: str, most: int, keys: dict[str, str]) -> list[Any]:
        if self._query is None or not self._query.is_established:
            self._query = self._associate([self._library.build_context(_FIND)], (), MOST_ANSWER_BYTES)
        found, read, self._messages = [], 0, 0
        for status, identifier in self._answers(self._query.send_c_find(_identifier(level, keys), _FIND)):
            self._count = 0
            read += 1
            if status in (0xFF00, 0xFF01) and identifier is not None:
                found.append(identifier)
            elif status != 0x0000:
                raise ServerFaultError(str(self._error(f"the archive refuses a query (status {status:04X}); ask its "
                                                       "operator whether this site may query it")))
            if len(found) > most:
                self._query.abort()
                raise self._error(f"the archive lists more than {most} entries; narrow modalities or since")
        if read != self._messages:
            # pynetdicom's own thread can take an answer away from the asking one (pynetdicom issue 875).
            raise ServerSilentError(str(self._error("an answer of the archive was lost; try again")))
        return found

    def _get(self, study: str, instance: Instance) -> bytes:
        self._connect_for(instance.sop_class)
        self._received.clear()
        self._count = 0
        keys = {"StudyInstanceUID": study, "SeriesInstanceUID": instance.series_uid, "SOPInstanceUID": instance.uid}
        last = 0
        for status, _ in self._answers(self._transfer.send_c_get(_identifier("IMAGE", keys), _GET)):
            last = status
        data = self._received.pop(instance.uid, b"")
        if not data:
            raise NotGivenError(str(self._error(f"the archive does not give an instance (status {last:04X}); ask its "
                                                "operator whether this site may use C-GET")))
        return data

    def _answers(self, answers: Iterable[tuple[Any, Any]]) -> Iterator[tuple[int, Any]]:
        try:
            for status, identifier in answers:
                if "Status" not in status:  # no answer in time, or the connection is gone
                    break
                yield int(status.Status), identifier
            else:
                return
        except (ValueError, RuntimeError, AttributeError) as error:
            if isinstance(error, SourceError):
                raise
        raise ServerSilentError(str(self._error(
            f"the archive does not answer within {self._config.timeout_s:g} s, broke the association off, or sent more "
            "than the limit; try again, what came is kept")))

    # -------------------------------------------------------------- associations

    def _connect_for(self, sop_class: str) -> None:
        if self._transfer is not None and self._transfer.is_established and (
                sop_class in self._classes or (not sop_class and set(_USUAL_CLASSES) <= set(self._classes))):
            return
        if self._transfer is not None and self._transfer.is_established:
            self._transfer.release()
        others = [name for name in self._expected if name and name != sop_class]
        self._classes = (sop_class, *others)[:_MOST_CLASSES] if sop_class else _USUAL_CLASSES
        build = self._library.build_context
        contexts = [build(_GET)] + [build(name, syntaxes) for name in self._classes
                                    for syntaxes in (list(_NATIVE), *([syntax] for syntax in _COMPRESSED))]
        roles = [self._library.build_role(name, scp_role=True) for name in self._classes]
        self._transfer = self._associate(contexts, roles, self._most_file_bytes)

    def _associate(self, contexts: Sequence[Any], roles: Sequence[Any], most_bytes: int) -> Any:
        entity = self._library.AE(ae_title=self._config.calling_title)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = self._config.timeout_s
        entity.connection_timeout = self._config.timeout_s
        events = self._library.evt
        handlers = [(events.EVT_C_STORE, self._store), (events.EVT_DATA_RECV, self._bound(most_bytes)),
                    (events.EVT_DIMSE_RECV, self._note_message)]
        self._count = 0
        try:
            association = entity.associate(*self._address, contexts=list(contexts), ae_title=self._config.called_title,
                                           ext_neg=list(roles), evt_handlers=handlers)
        except OSError:  # such as a name that DNS does not know
            association = None
        if association is not None and association.is_established:
            return association
        if association is not None and association.is_rejected:
            primitive = association.acceptor.primitive
            said = _REJECTED.get(primitive.diagnostic) if primitive.result_source == 1 else None
            raise self._error(f"the archive rejects the association: it {said or 'does not want this site now'}; "
                              "correct it here, or have the archive's operator admit this site")
        raise ServerSilentError(str(self._error("no association with the archive: it cannot be reached, does not "
                                                "answer in time, or offers no such service; check url and that it "
                                                "runs")))

    def _store(self, event: Any) -> int:
        self._count = 0
        self._received.clear()  # one instance was asked for
        self._received[str(event.request.AffectedSOPInstanceUID)] = event.encoded_dataset()
        return 0x0000

    def _note_message(self, event: Any) -> None:
        self._messages += 1

    def _bound(self, most_bytes: int) -> Callable[[Any], None]:
        def count(event: Any) -> None:
            self._count += len(event.data)
            if self._count > most_bytes and event.assoc.dul.socket is not None:
                event.assoc.dul.socket.close()

        return count

    def _error(self, text: str) -> SourceError:
        return SourceError(f"source {self._config.name}: {text}.")


def _library(name: str) -> Any:
    try:
        import pynetdicom
    except ImportError:
        raise SourceError(f"source {name} speaks DIMSE, for which pynetdicom is missing; run: "
                          "pip install 'federated-medgpt[dimse]'.") from None
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)  # its lines name UIDs
    return pynetdicom


def _identifier(level: str, keys: dict[str, str]) -> Any:
    from pydicom.dataset import Dataset

    dataset = Dataset()
    dataset.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(dataset, keyword, value)
    return dataset


def _value(dataset: Any, keyword: str) -> str:
    """The first value as text; "" where it is absent or damaged."""
    try:
        value = dataset.get(keyword)
        return "" if value is None else str(value).split("\\")[0].strip("\0 ")
    except Exception:  # a damaged element makes the library raise nearly anything
        return ""
