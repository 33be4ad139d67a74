"""Images from an archive that speaks DICOMweb: QIDO-RS lists (PS3.18 10.6), WADO-RS retrieves (10.4).

Instances are retrieved one by one, in the transfer syntax in which they are stored (a server that had to transcode a
compressed study answers with a fault instead), and stream to the disk; dicomweb-client's own retrieval would hold each
in memory and parse it here. It makes the queries, and nothing is parsed but their JSON. What bounds a hostile server:
`server_session` (origin, sizes, pace), `MOST_STUDIES` and `MOST_INSTANCES` (endless listings), UIDs that must be UIDs
before they go into an address, and names of files that are hashes.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import requests
from dicomweb_client import DICOMwebClient
from dicomweb_client.uri import URI

from configs.site_data import SourceConfig
from site_client.sources.archive import Instance, Keep, Listing, MirroredArchive, follow
from site_client.sources.interface import Progress, SourceError, Synced
from site_client.sources.mirror import Mirror
from site_client.sources.multipart import MultipartError, boundary, only_part
from site_client.sources.patience import NotGivenError, ServerSilentError, TooLargeError
from site_client.sources.server_session import ServerSession

__all__ = ["MOST_FILE_BYTES", "DicomWebSource", "checked_uid", "study_mark"]

MOST_FILE_BYTES = 2 * 2**30
MOST_STUDIES, MOST_INSTANCES = 1_000_000, 100_000  # of an archive, of a study
_ACCEPT = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_UID = re.compile(r"(?!\.+$)[0-9A-Za-z._-]{1,64}")
_PATIENT_ID, _ISSUER, _NAME, _ACCESSION = "00100020", "00100021", "00100010", "00080050"
_STUDY_UID, _SERIES_UID, _SOP_UID, _SOP_CLASS, _MODALITY = "0020000D", "0020000E", "00080018", "00080016", "00080060"

logging.getLogger("dicomweb_client").setLevel(logging.CRITICAL)  # its lines name UIDs


class DicomWebSource(MirroredArchive):
    """The archive at `config.url`, mirrored below `mirror`; files above `most_file_bytes` count as failed."""

    def __init__(
        self, config: SourceConfig, mirror: Path, *, most_file_bytes: int = MOST_FILE_BYTES,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._config = config
        super().__init__(config.name, Mirror(mirror))
        self._most_file_bytes = most_file_bytes
        self._pause = pause

    def sync(self, progress: Progress | None = None) -> Synced:
        """See `archive.follow`."""
        with ServerSession(self._config, self._pause) as session:
            return follow(_WebArchive(self._config, session, self._most_file_bytes), self._mirror, progress)


class _WebArchive:
    def __init__(self, config: SourceConfig, session: ServerSession, most_file_bytes: int) -> None:
        self._config = config
        self._session = session
        self._most_file_bytes = most_file_bytes
        self._url = config.url.rstrip("/")
        self._client = DICOMwebClient(self._url, session=session, permissive_uid=True)
        self._client.set_http_retry_params(retry=False)  # the session's own caller tries again

    def studies(self) -> Listing:
        marks: dict[str, str] = {}
        unusable = 0
        for modality in self._config.modalities or [""]:
            for entry in self._pages(_STUDY_UID, MOST_STUDIES, partial(self._ask_studies, self._filters(modality))):
                uid = checked_uid(_value(entry, _STUDY_UID))
                if uid:
                    marks[uid] = study_mark(*(_value(entry, tag) for tag in (_PATIENT_ID, _ISSUER, _NAME, _ACCESSION)))
                unusable += not uid
        return Listing(marks, unusable)

    def instances(self, study: str) -> Sequence[Instance]:
        found = []
        for entry in self._pages(_SOP_UID, MOST_INSTANCES, lambda limit, offset: self._client.search_for_instances(
                study_instance_uid=study, limit=limit, offset=offset, fields=["Modality"])):
            uid, series = checked_uid(_value(entry, _SOP_UID)), checked_uid(_value(entry, _SERIES_UID))
            if not uid or not series:
                raise NotGivenError(str(self._session.error("the server lists an instance without valid UIDs")))
            if not self._config.modalities or _value(entry, _MODALITY) in ("", *self._config.modalities):
                found.append(Instance(uid, series, checked_uid(_value(entry, _SOP_CLASS))))
        return found

    def fetch(self, study: str, instance: Instance, keep: Keep) -> None:
        url = str(URI(self._url, study, instance.series_uid, instance.uid, permissive=True))
        self._session.patiently(lambda: keep(self._file(url)))

    def lists(self, study: str) -> bool:
        one = {"StudyInstanceUID": study}
        return any(self._search(partial(self._ask_studies, self._filters(modality) | one, 1, 0))
                   for modality in self._config.modalities or [""])

    def _ask_studies(self, filters: dict[str, str], limit: int, offset: int) -> Any:
        return self._client.search_for_studies(limit=limit, offset=offset, search_filters=filters)

    def _filters(self, modality: str) -> dict[str, str]:
        since = {"StudyDate": self._config.since.replace("-", "") + "-"} if self._config.since else {}
        return since | ({"ModalitiesInStudy": modality} if modality else {})

    def _pages(self, tag: str, most: int, ask: Callable[[int, int], Any]) -> Iterator[dict[str, Any]]:
        """Every entry once. A page may be shorter than asked for; an empty one, or one without news, is the end."""
        seen: set[bytes] = set()  # digests: what stands in place of a UID can be as long as an answer
        size, offset = self._config.page_size, 0
        while True:
            page = self._search(partial(ask, size, offset))
            named = {_digest(_value(entry, tag)): entry for entry in page}
            fresh = {name: entry for name, entry in named.items() if name not in seen}
            if not fresh and len(page) == size:
                raise self._session.error("the server gives the same page again and again; raise page_size above the "
                                          "number of its studies and of instances in a study")
            if not fresh:
                return
            yield from fresh.values()
            seen.update(fresh)
            offset += len(page)
            if len(seen) > most:
                raise self._session.error(f"the server lists more than {most} entries; narrow modalities or since")

    def _search(self, ask: Callable[[], Any]) -> list[dict[str, Any]]:
        try:
            page = self._session.patiently(ask)
        except TooLargeError:
            raise
        except NotGivenError as error:
            raise SourceError(f"{error} It must be the root of DICOMweb, such as https://HOST/dicom-web") from None
        except (requests.RequestException, ValueError, RecursionError) as error:
            if isinstance(error, SourceError):
                raise
            page = None
        if not isinstance(page, list) or not all(isinstance(entry, dict) for entry in page):
            raise self._session.error("the server answers, but not as DICOMweb; url must be its root, such as "
                                      "https://HOST/dicom-web")
        return page

    def _file(self, url: str) -> Iterator[bytes]:
        with self._session.get(url, headers={"Accept": _ACCEPT}, stream=True) as response:
            kind, pieces = response.headers.get("Content-Type", ""), self._session.body(response, self._most_file_bytes)
            if kind.partition(";")[0].strip().lower() == "application/dicom" and response.headers.keys() & {
                    "Content-Length", "Transfer-Encoding"}:  # against the standard, and common
                yield from pieces
                return
            try:
                separator = boundary(kind)
            except MultipartError:
                raise NotGivenError(str(self._session.error("an answer holds no DICOM file"))) from None
            try:
                yield from only_part(separator, pieces)
            except MultipartError:
                raise ServerSilentError(str(self._session.error("an answer is no whole DICOM file"))) from None


def checked_uid(uid: str) -> str:
    """The UID, "" for what cannot be one. Letters occur in archives, although PS3.5 9.1 forbids them."""
    return uid if _UID.fullmatch(uid) else ""


def study_mark(patient_id: str, issuer: str, name: str, accession: str) -> str:
    """What tells that an archive corrected a study's patient or order, as a digest."""
    return hashlib.sha256(json.dumps([patient_id, issuer, name, accession]).encode()).hexdigest()


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()


def _value(entry: dict[str, Any], tag: str) -> str:
    """The first value of an element in DICOM JSON (PS3.18 F.2) as text; "" where it has none."""
    element = entry.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    first = values[0] if isinstance(values, list) and values else ""
    if isinstance(first, dict):  # a person's name
        return "=".join(str(first.get(group, "")) for group in ("Alphabetic", "Ideographic", "Phonetic"))
    return first if isinstance(first, str) else str(first)
