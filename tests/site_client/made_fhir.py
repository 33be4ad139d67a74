"""FHIR resources that tests are made of: a report with its patient and its study."""

from __future__ import annotations

import base64

TEXT = "FINDINGS: Clear lungs.\nIMPRESSION: Normal."


def form(text: str | bytes = TEXT, kind: str = "text/plain", **more: object) -> dict[str, object]:
    data = text.encode() if isinstance(text, str) else text
    return {"contentType": kind, "data": base64.b64encode(data).decode()} | more


def identifier(value: str, code: str | None = "MR", **more: object) -> dict[str, object]:
    return {"value": value} | ({"type": {"coding": [{"code": code}]}} if code else {}) | more


def patient(key: str = "1", /, **more: object) -> dict[str, object]:
    return {"resourceType": "Patient", "id": key, "identifier": [identifier(f"mrn {key}")],
            "name": [{"family": "Doe", "given": ["Jane", "A"], "text": "Jane Doe"}], "birthDate": "1956-03-12"} | more


def study(name: str = "1", *uids: str, **more: object) -> dict[str, object]:
    found = [{"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"} for uid in uids or (f"1.2.{name}",)]
    return {"resourceType": "ImagingStudy", "id": name, "identifier": found} | more


def report(name: str = "1", **more: object) -> dict[str, object]:
    values = {"resourceType": "DiagnosticReport", "id": name, "status": "final", "subject": {"reference": "Patient/1"},
              "imagingStudy": [{"reference": "ImagingStudy/1"}], "effectiveDateTime": "2024-01-05T10:00:00+01:00",
              "issued": "2024-01-05T12:00:00Z", "presentedForm": [form()]} | more
    return {key: value for key, value in values.items() if value is not None}
