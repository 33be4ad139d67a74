"""What a FHIR R4 DiagnosticReport and the resources that it refers to say, as plain JSON of any shape.

**Patient ID.** Of the identifiers with a value that are neither ``old`` nor past their period: those of the configured
system; without one those of type MR (HL7 table 0203); where no identifier has a type, all. Of several values the one
whose use is ``usual``, else ``official``. What then is not one value is refused, never guessed. The identifier's system
is no DICOM issuer (PS3.3 C.7.1.1), so a report's issuer is the site's own.

**Study.** UIDs are those of ImagingStudy.identifier with the system ``urn:dicom:uid``, values ``urn:oid:...``;
accession numbers those of type ACSN of the ImagingStudy, the ServiceRequest of ``basedOn``, and the report. One UID, or
one accession number where there are several UIDs or none.

**Text.** The first of presentedForm as text/plain, presentedForm as HTML, and the narrative; split by its headings
(`report_text`). Without a heading of the impression, ``conclusion`` is it.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from email.message import Message
from typing import Any

from site_client.records import RefusedItemError, checked_patient_id
from site_client.sources.report_text import html_text, sections
from site_client.sources.table_rows import MAX_TEXT_CHARS, required, tidy

__all__ = [
    "FINAL", "Resource", "accessions", "binary", "decoded", "instant", "items", "patient_dates", "patient_id",
    "patient_names", "report_sections", "study_uids", "text",
]  # fmt: skip

Resource = Mapping[str, Any]
FINAL = ("final", "amended", "corrected")
MOST_MARKUP_BYTES = 2**18
_MOST_ITEMS, _MOST_CHARS = 64, 1024
_CHARSETS = {"utf-8": "utf-8", "utf8": "utf-8", "us-ascii": "utf-8", "iso-8859-1": "latin-1", "iso-8859-15": "latin-9",
             "windows-1252": "cp1252"}
_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)(T|$)")
_OID = re.compile(r"(urn:oid:)?([0-9]+(?:\.[0-9]+)+)")
_HTML = ("text/html", "application/xhtml+xml")


def text(value: object) -> str:
    """A JSON text without the blanks around it; "" for anything else."""
    return value.strip() if isinstance(value, str) else ""


def items(value: object) -> list[Resource]:
    """The objects of a JSON array, at most 64; none for anything else."""
    return [item for item in value[:_MOST_ITEMS] if isinstance(item, dict)] if isinstance(value, list) else []


def instant(value: object) -> datetime | None:
    """A FHIR instant or dateTime with a time zone; None for anything else."""
    try:
        found = datetime.fromisoformat(text(value))
    except ValueError:
        return None
    return found.astimezone(UTC) if found.tzinfo and 1900 < found.year < 2200 else None


def patient_id(patient: Resource, system: str, now: datetime) -> str:
    """The normalised ID by the rule above. RefusedItemError: patient-missing, patient-ambiguous, patient-dummy."""
    current = [item for item in items(patient.get("identifier")) if text(item.get("value")) and _is_current(item, now)]
    if system:
        found = [item for item in current if text(item.get("system")) == system]
    else:
        found = [item for item in current if _has_type(item, "MR")] or (
            [] if any(item.get("type") for item in current) else current)
    if not found:
        raise RefusedItemError("patient-missing")
    for use in ("usual", "official"):
        if len({text(item.get("value")) for item in found}) > 1:
            found = [item for item in found if text(item.get("use")) == use] or found
    values = {checked_patient_id(text(item.get("value"))[:_MOST_CHARS]) for item in found}
    if len(values) > 1:
        raise RefusedItemError("patient-ambiguous")
    return values.pop()


def patient_names(patient: Resource) -> tuple[str, ...]:
    """Every name, as free text and as FAMILY^GIVEN."""
    found = []
    for name in items(patient.get("name")):
        given = name.get("given") if isinstance(name.get("given"), list) else []
        parts = f"{text(name.get('family'))}^{' '.join(text(part) for part in given or [])}".strip("^ ")
        found += [text(name.get("text"))[:_MOST_CHARS], parts[:_MOST_CHARS]]
    return tuple(dict.fromkeys(filter(None, found)))


def patient_dates(patient: Resource, report: Resource) -> tuple[str, ...]:
    """Birth and examination as YYYYMMDD, where they are whole days."""
    days = (patient.get("birthDate"), report.get("effectiveDateTime"), _child(report, "effectivePeriod").get("start"))
    found = (_DATE.match(text(day)) for day in days)
    return tuple(dict.fromkeys("".join(day.groups()[:3]) for day in found if day))


def study_uids(resource: Resource) -> Iterator[str]:
    """The study UIDs among an ImagingStudy's identifiers, or in a reference by identifier."""
    for item in _identifiers(resource):
        found = _OID.fullmatch(text(item.get("value")))
        if text(item.get("system")) == "urn:dicom:uid" and found and len(found[2]) <= 64:
            yield found[2]


def accessions(resource: Resource) -> Iterator[str]:
    """The accession numbers among a resource's identifiers, or in a reference by identifier."""
    for item in _identifiers(resource):
        if _has_type(item, "ACSN") and text(item.get("value")):
            yield text(item.get("value"))[:_MOST_CHARS]


def report_sections(report: Resource, fetch: Callable[[str, str], tuple[str, bytes]]) -> tuple[str, str]:
    """(findings, impression) by the rule above; `fetch(address, media type)` is (content type, bytes) of an attachment.

    Raises RefusedItemError: report-pdf, report-format, text-missing, text-too-long, not-utf8.
    """
    forms = items(report.get("presentedForm"))
    conclusion = tidy(text(report.get("conclusion")))
    for content in _texts(report, forms, fetch):
        if len(content) > MAX_TEXT_CHARS:
            raise RefusedItemError("text-too-long")
        findings, impression = sections(content)
        if findings:
            return tidy(findings), tidy(impression) or conclusion
        conclusion = tidy(impression) or conclusion
    kinds = {_kind(form.get("contentType")) for form in forms}
    raise RefusedItemError("report-pdf" if "application/pdf" in kinds else "report-format" if kinds else "text-missing")


def decoded(content_type: str, data: bytes) -> str:
    """An attachment's bytes as text. RefusedItemError: not-utf8 for another or a damaged encoding, text-too-long."""
    if len(data) > MOST_MARKUP_BYTES:
        raise RefusedItemError("text-too-long")
    message = Message()
    message["Content-Type"] = content_type
    charset = _CHARSETS.get(str(message.get_param("charset") or "utf-8").strip("'\" ").lower())
    try:
        return data.decode(required(charset or "", "not-utf8"))
    except UnicodeDecodeError:
        raise RefusedItemError("not-utf8") from None


def binary(resource: object) -> tuple[str, bytes]:
    """(content type, bytes) of a Binary; RefusedItemError: reference-unresolved, report-format."""
    if not isinstance(resource, dict) or resource.get("resourceType") != "Binary":
        raise RefusedItemError("reference-unresolved")
    return text(resource.get("contentType")), _unpacked(text(resource.get("data")))


def _unpacked(encoded: str) -> bytes:
    try:
        return base64.b64decode("".join(encoded.split()), validate=True)
    except (binascii.Error, ValueError):
        raise RefusedItemError("report-format") from None


def _texts(
    report: Resource, forms: Iterable[Resource], fetch: Callable[[str, str], tuple[str, bytes]]
) -> Iterator[str]:
    for kinds in (("text/plain",), _HTML):
        for form in forms:
            if (kind := _kind(form.get("contentType"))) in kinds:
                content = _attachment(form, kind, fetch)
                yield html_text(content) if kind in _HTML else content
    narrative = text(_child(report, "text").get("div"))
    if len(narrative) > MOST_MARKUP_BYTES:
        raise RefusedItemError("text-too-long")
    yield html_text(narrative)


def _attachment(form: Resource, kind: str, fetch: Callable[[str, str], tuple[str, bytes]]) -> str:
    declared = text(form.get("contentType"))
    if encoded := text(form.get("data")):
        if len(encoded) > 2 * MOST_MARKUP_BYTES:
            raise RefusedItemError("text-too-long")
        return decoded(declared, _unpacked(encoded))
    if not text(form.get("url")):
        return ""
    answered, data = fetch(text(form.get("url")), kind)
    return decoded(declared if "charset" in declared.lower() else answered, data)


def _identifiers(resource: Resource) -> list[Resource]:
    found = resource.get("identifier")
    return [found] if isinstance(found, dict) else items(found)


def _has_type(identifier: Resource, code: str) -> bool:
    return any(text(coding.get("code")) == code for coding in items(_child(identifier, "type").get("coding")))


def _is_current(identifier: Resource, now: datetime) -> bool:
    end = text(_child(identifier, "period").get("end"))
    return text(identifier.get("use")) != "old" and not (end and end[:10] < now.date().isoformat()[: len(end[:10])])


def _child(resource: Resource, name: str) -> Resource:
    value = resource.get(name)
    return value if isinstance(value, dict) else {}


def _kind(content_type: object) -> str:
    return text(content_type).partition(";")[0].strip().lower()
