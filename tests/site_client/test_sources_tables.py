"""The folder source: further columns, JSON lines and conversations; each row alone, no path out of the folder."""

from __future__ import annotations

import json
import time

import pytest

from site_client.records import REASONS, Refusal
from site_client.sources import table_rows
from site_client.sources.interface import Question, Report, SourceError
from site_client.sources.tables import KIND_SOURCES, FolderSource

REPORTS = "PatientID,AccessionNumber,Findings,Impression"
QUESTIONS = "PatientID,QuestionID,Kind,AccessionNumber,SOPInstanceUIDs,Question,Choices,Answer"


def source(tmp_path, **files: str | bytes) -> FolderSource:
    (tmp_path / "dicom").mkdir(exist_ok=True)
    for name, content in files.items():
        path = tmp_path / name.replace("_", ".")
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return FolderSource(tmp_path)


def lines(*rows: object) -> str:
    return "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)


def reasons(items) -> list[str]:
    found = [item.reason for item in items if isinstance(item, Refusal)]
    assert set(found) <= set(REASONS)
    return found


def test_an_empty_folder_has_nothing_and_a_missing_one_is_one_sentence(tmp_path):
    empty = source(tmp_path)
    assert (list(empty.reports()), list(empty.questions()), empty.folders()) == ([], [], [tmp_path / "dicom"])
    assert empty.sync().new == 0 and empty.name == "data"
    with pytest.raises(SourceError, match="does not exist"):
        FolderSource(tmp_path / "nowhere")


def test_csv_without_the_further_columns_reads_as_before(tmp_path):
    (report,) = source(tmp_path, reports_csv=f"{REPORTS}\np1,A1,Clear  lungs.,Normal.\n").reports()
    assert report == Report("reports.csv line 2", "P1", "", "", "A1", "Clear lungs.", "Normal.")
    (question,) = source(tmp_path, questions_csv=f"{QUESTIONS}\nP1,q1,normal,A1,,Normal?,yes|no,no\n").questions()
    assert question == Question("questions.csv line 2", "P1", "q1", "normal", "Normal?", ("yes", "no"), "no",
                                accession="A1")


def test_csv_with_the_further_columns(tmp_path):
    header = f"{REPORTS},StudyInstanceUID,PatientName,PatientBirthDate,IssuerOfPatientID"
    rows = "P1,,Clear.,Normal.,1.2.3,Doe^Jane,1956-03-12,HOSP\nP2,,Clear.,,,,,\nP3,A3,Clear.,,,,12.3.1956,\n"
    first, *others = source(tmp_path, reports_csv=f"{header}\n{rows}").reports()
    assert first == Report("reports.csv line 2", "P1", "HOSP", "1.2.3", "", "Clear.", "Normal.", ("Doe^Jane",),
                           ("19560312",))
    assert reasons(others) == ["identifier-missing", "date-malformed"]


@pytest.mark.parametrize("name", ["PatientName", "StudyInstanceUID"])
def test_a_further_column_twice_is_the_operators_error(tmp_path, name):
    table = source(tmp_path, reports_csv=f"{REPORTS},{name},{name}\nP1,A1,Clear.,,x,y\n")
    with pytest.raises(SourceError, match=f"at most one column {name}"):
        list(table.reports())


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("P1,q1,study,,,Report?,,,1.2", ("P1", "1.2", "", (), "")),
        ("P1,q1,study,A1,1.9,Report?,,Clear.,", ("P1", "", "A1", (), "Clear.")),
        ("P1,q1,study,,,Report?,,Clear.,", "study-missing"),
        (",q1,study,,,Report?,,Clear.,1.2", "patient-missing"),
        ("P1,q1,question,,1.9;1.8,Which?,,CT,", ("P1", "", "", ("1.9", "1.8"), "CT")),
        (",q1,question,,1.9,Which?,,CT,", ("", "", "", ("1.9",), "CT")),
        (",q1,question,,,Which?,,CT,1.2", ("", "1.2", "", (), "CT")),
        ("P1,q1,question,,,What is a CT?,,A scan,", ("P1", "", "", (), "A scan")),
        (",q1,question,,,What is a CT?,,A scan,", "patient-missing"),
        ("ANON,q1,question,,1.9,Which?,,CT,", "patient-dummy"),
        ("P1,q1,question,,1.9,Which?,,CT,1.2", "images-ambiguous"),
        ("P1,q1,question,,1;2;3;4;5;6;7;8;9,Which?,,CT,", "images-not-counted"),
        ("P1,q1,question,,1.9,Which?,,,", "answer-missing"),
        ("P1,q1,alike,,,Alike?,,no,1.2", "images-not-counted"),
        ("P1,q1,normal,,,Normal?,,no,1.2", ("P1", "1.2", "", (), "no")),
        ("P1,q1,other,,1.9,Which?,,CT,", "kind-unknown"),
    ],
)
def test_kinds_of_questions(tmp_path, row, expected):
    (found,) = source(tmp_path, questions_csv=f"{QUESTIONS},StudyInstanceUID\n{row}\n").questions()
    if isinstance(expected, str):
        assert reasons([found]) == [expected]
    else:
        assert (found.patient_id, found.study_uid, found.accession, found.uids, found.answer) == expected
        assert found.kind in KIND_SOURCES


def test_json_lines_of_reports(tmp_path):
    table = source(tmp_path, reports_jsonl=lines(
        {"patient_id": 17, "study_instance_uid": "1.2", "report": "Technique: PA.\nFindings: Clear\nlungs.\nImpression:"
         " Normal.", "patient_name": "Doe^J", "patient_birth_date": "19560312", "issuer_of_patient_id": "H"},
        "", {"patient_id": "P2", "accession_number": "A2", "findings": "Clear.", "impression": None, "more": [1]}))
    assert list(table.reports()) == [
        Report("reports.jsonl line 1", "17", "H", "1.2", "", "Clear lungs.", "Normal.", ("Doe^J",), ("19560312",)),
        Report("reports.jsonl line 3", "P2", "", "", "A2", "Clear.", "")]


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        ("{", "row-malformed"), ("[1]", "row-malformed"), ('{"a": 1} {"b": 2}', "row-malformed"),
        ("[" * 200_000, "row-malformed"), ('{"a":' * 100_000, "row-malformed"),
        ('{"patient_id": "P1", "patient_id": "P2"}', "row-malformed"),
        ('{"patient_id": ["P1"]}', "row-malformed"), ('{"patient_id": true}', "row-malformed"),
        ('{"patient_id": ' + "9" * 5000 + "}", "row-malformed"),
        ('{"patient_id": "\\ud800"}', "not-utf8"), (b'{"patient_id": "caf\xe9"}', "not-utf8"),
        ('{"patient_id": "P1", "accession_number": "A", "findings": "' + "x" * 20_001 + '"}', "text-too-long"),
        ('{"patient_id": "P1", "accession_number": "A", "findings": "' + "x" * 2**20 + '"}', "row-malformed"),
        ('{"patient_id": "P1", "accession_number": "A", "findings": ""}', "text-missing"),
        ('{"patient_id": "P1", "findings": "x"}', "identifier-missing"),
    ],
)
def test_a_bad_line_of_json_costs_itself_only(tmp_path, bad, code):
    good = [json.dumps({"patient_id": f"P{k}", "accession_number": "A", "findings": "Clear."}).encode() for k in (1, 2)]
    bad = bad if isinstance(bad, bytes) else bad.encode()
    first, refused, last = source(tmp_path, reports_jsonl=b"\n".join([good[0], bad, good[1]])).reports()
    assert (first.patient_id, last.patient_id, reasons([refused])) == ("P1", "P2", [code])


def test_json_lines_of_questions(tmp_path):
    table = source(tmp_path, questions_jsonl=lines(
        {"question_id": 1, "images": ["a/./b.dcm"], "question": "Which?", "choices": ["CT", "MR"], "answer": "CT"},
        {"question_id": "2", "patient_id": "p1", "kind": "study", "accession_number": "A1", "question": "Report?"},
        {"question_id": "3", "sop_instance_uids": ["1.2", "1.3"], "question": "Which?", "choices": ["CT"],
         "answer": "CT"}))
    first, second, third = table.questions()
    assert first == Question("questions.jsonl line 1", "", "1", "question", "Which?", ("CT", "MR"), "CT",
                             paths=("a/b.dcm",))
    assert (second.patient_id, second.kind, second.accession, second.answer) == ("P1", "study", "A1", "")
    assert reasons([third]) == ["choices-malformed"]


@pytest.mark.parametrize(
    "path", ["../x.dcm", "/etc/passwd", "a/../../x", "link/x.dcm", "link", "a\\..\\x", ".", "a\0b"])
def test_no_path_leads_out_of_the_folder(tmp_path, path):
    (tmp_path / "dicom").mkdir()
    (tmp_path / "dicom" / "link").symlink_to(tmp_path)
    row = {"question_id": "1", "id": "1", "images": [path], "image": path, "question": "Which?", "answer": "CT",
           "conversations": [{"from": "human", "value": "Which?"}, {"from": "gpt", "value": "CT"}]}
    table = source(tmp_path, questions_jsonl=lines(row), conversations_jsonl=lines(row))
    assert reasons(table.questions()) == ["path-outside"] * 2


def conversation(*texts: str, **more: object) -> dict[str, object]:
    roles = ("human", "gpt")
    turns = [{"from": roles[index % 2], "value": text} for index, text in enumerate(texts)]
    return {"id": "c1", "image": "x.dcm", "conversations": turns} | more


@pytest.mark.parametrize("name", ["conversations_json", "conversations_jsonl"])
def test_each_answer_of_a_conversation_is_a_question(tmp_path, name):
    row = conversation("<image>\nWhich modality?", "CT.", "Which part?", "Head.", patient_id="p1")
    table = source(tmp_path, **{name: json.dumps([row] if name.endswith("json") else row)})
    first, second = table.questions()
    assert (first.question_id, first.text, first.answer) == ("c1.1", "Which modality?", "CT.")
    assert (second.question_id, second.answer) == ("c1.2", "Head.")
    assert second.text == "Question: Which modality? Answer: CT. Which part?"
    assert {(q.patient_id, q.kind, q.paths) for q in (first, second)} == {("P1", "question", ("x.dcm",))}


@pytest.mark.parametrize(
    ("row", "usable", "code"),
    [
        (conversation("Which?", "CT.", "And?"), 1, "answer-missing"),
        (conversation("<image>", "CT."), 0, "text-missing"),
        (conversation("Which?", "CT.", "x" * 19_990, "y", "Once more?", "No."), 1, "text-too-long"),
        (conversation(), 0, "conversation-malformed"),
        (conversation(*["x"] * 130), 0, "conversation-malformed"),
        (conversation("Which?", "CT.", id=None), 0, "identifier-missing"),
        (conversation("Which?", "CT.", image=None), 0, "patient-missing"),
        (conversation("Which?", "CT.", image=["a"] * 9), 0, "images-not-counted"),
        (conversation("Which?", "CT.", patient_id="0"), 0, "patient-dummy"),
        (conversation("Which?", "CT.", conversations=[{"from": "gpt", "value": "x"}] * 2), 0, "conversation-malformed"),
        (conversation("Which?", "CT.", conversations=["x", "y"]), 0, "conversation-malformed"),
        ("[]", 0, "row-malformed"),
    ],
)
def test_bad_conversations(tmp_path, row, usable, code):
    found = list(source(tmp_path, conversations_jsonl=lines(row, conversation("Ok?", "Yes."))).questions())
    assert reasons(found) == [code] and len(found) == usable + 2
    assert isinstance(found[-1], Question) and found[-1].answer == "Yes."


@pytest.mark.parametrize("text", ["", "{}", "[", "[{},", '[{"a": 1} {"b": 2}]', "[{}] x", "[" * 100_000, "[1,]"])
def test_a_file_that_is_not_one_array_is_the_operators_error(tmp_path, text):
    with pytest.raises(SourceError, match="is not one JSON array from entry"):
        list(source(tmp_path, conversations_json=text).questions())


def test_an_empty_array_and_elements_that_are_no_objects(tmp_path):
    assert list(source(tmp_path, conversations_json=" [ ] \n").questions()) == []
    assert reasons(source(tmp_path, conversations_json="[1, null]").questions()) == ["row-malformed"] * 2


def test_a_table_too_large_is_the_operators_error(tmp_path, monkeypatch):
    monkeypatch.setattr(table_rows, "MAX_TABLE_BYTES", 10)
    for name in ("reports_jsonl", "conversations_json"):
        table = source(tmp_path, **{name: "x" * 11})
        with pytest.raises(SourceError, match="is larger than 10 bytes"):
            [*table.reports(), *table.questions()]


def test_a_long_array_is_read_in_linear_time(tmp_path):
    rows = [conversation("Which?", "CT.", id=k) for k in range(20_000)]
    table = source(tmp_path, conversations_json=json.dumps(rows))
    begin = time.monotonic()
    assert sum(isinstance(q, Question) for q in table.questions()) == 20_000
    assert time.monotonic() - begin < 20
