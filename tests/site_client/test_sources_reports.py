"""Tables: a damaged row is counted, a damaged table is one sentence, and no row swallows the next one."""

from __future__ import annotations

import pytest

from site_client.records import Refusal
from site_client.sources.table_rows import MAX_TEXT_CHARS
from site_client.sources.tables import csv_questions, csv_reports

REPORTS = "PatientID,AccessionNumber,Findings,Impression\n"
QUESTIONS = "PatientID,QuestionID,Kind,AccessionNumber,SOPInstanceUIDs,Question,Choices,Answer\n"


def parted(rows):
    """(what was read, what was refused)."""
    rows = list(rows)
    return ([row for row in rows if not isinstance(row, Refusal)], [row for row in rows if isinstance(row, Refusal)])


def read_reports(path):
    return parted(csv_reports(path))


def read_questions(path):
    return parted(csv_questions(path))


def reports(tmp_path, body: str | bytes):
    path = tmp_path / "reports.csv"
    path.write_bytes(REPORTS.encode() + (body if isinstance(body, bytes) else body.encode()))
    return read_reports(path)


def question(tmp_path, **changes: str):
    cells = {
        "PatientID": "P1", "QuestionID": "q1", "Kind": "normal", "AccessionNumber": "A1",
        "SOPInstanceUIDs": "", "Question": "Normal?", "Choices": "yes|no", "Answer": "no",
    } | changes  # fmt: skip
    path = tmp_path / "questions.csv"
    path.write_text(QUESTIONS + ",".join(cells.values()) + "\n", encoding="utf-8")
    return read_questions(path)


def test_a_good_report_is_read_and_its_blanks_tidied(tmp_path):
    found, refused = reports(tmp_path, 'p1 , A1,"Clear\tlungs,  ""no""  effusion.",\n\n')
    assert not refused
    assert (found[0].patient_id, found[0].accession) == ("P1", "A1")
    assert found[0].findings == 'Clear lungs, "no" effusion.'
    assert found[0].impression == ""


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ("P1,A1,text", "row-malformed"),
        ("P1,A1,text,imp,more", "row-malformed"),
        ('P1,A1,"te"xt,imp', "row-malformed"),
        (",A1,text,imp", "patient-missing"),
        ("0,A1,text,imp", "patient-dummy"),
        ("P1,,text,imp", "identifier-missing"),
        ("P1,A1, ,imp", "text-missing"),
        (b"P1,A1,caf\xe9,imp", "not-utf8"),
        ("P1,A1," + "x" * (MAX_TEXT_CHARS + 1) + ",imp", "text-too-long"),
        ("P1,A1," + "x" * 200_000 + ",imp", "row-malformed"),
    ],
)
def test_bad_rows_are_refused_and_their_neighbours_kept(tmp_path, row, code):
    row = row if isinstance(row, bytes) else row.encode()
    found, refused = reports(tmp_path, b"P0,A0,one,\n" + row + b"\nP2,A2,two,\n")
    assert [report.patient_id for report in found] == ["P0", "P2"]
    assert [refusal.reason for refusal in refused] == [code]
    assert refused[0].item == "reports.csv line 3"


def test_an_open_quotation_mark_never_joins_two_patients(tmp_path):
    bodies = [
        'P1,A1,"first patient,x\nP2,A2,second patient,x\nP3,A3,"third, quoted",x\nP4,A4,fourth patient,x\n',
        'P1,A1,"first patient,x\nP2,A2,second patient,x\n',
    ]
    for body in bodies:
        found, refused = reports(tmp_path, body)
        assert "row-malformed" in {refusal.reason for refusal in refused}
        assert all(report.findings.count("patient") <= 1 for report in found)
        assert "P1" not in {report.patient_id for report in found}


def test_an_unclosed_quotation_mark_costs_its_own_row_only(tmp_path):
    texts = ['"unclosed'] + [f"text {k}" for k in range(1, 100)]
    found, refused = reports(tmp_path, "".join(f"P{k},A{k},{text},imp\n" for k, text in enumerate(texts)))
    assert [(report.patient_id, report.findings) for report in found] == [(f"P{k}", f"text {k}") for k in range(1, 100)]
    assert [(refusal.item, refusal.reason) for refusal in refused] == [("reports.csv line 2", "row-malformed")]


def test_a_stray_quotation_mark_between_quoted_texts_costs_its_own_row_only(tmp_path):
    texts = ['"text 0, 5"" nodule'] + [f'"text {k}, ok"' for k in range(1, 100)]
    found, refused = reports(tmp_path, "".join(f"P{k},A{k},{text},imp\n" for k, text in enumerate(texts)))
    assert [(report.patient_id, report.findings) for report in found] == [
        (f"P{k}", f"text {k}, ok") for k in range(1, 100)
    ]
    assert [(refusal.item, refusal.reason) for refusal in refused] == [("reports.csv line 2", "row-malformed")]


def test_two_stray_quotation_marks_never_join_two_patients(tmp_path):
    found, refused = reports(
        tmp_path, 'P0,A0,"Mass in left lobe,imp\nP1,A1,patient one has a nodule 5",imp\nP2,A2,text,imp\n'
    )
    # A quotation mark inside an unquoted cell is an ordinary character, so the second line is a whole row.
    assert [(report.patient_id, report.findings) for report in found] == [
        ("P1", 'patient one has a nodule 5"'), ("P2", "text")
    ]  # fmt: skip
    assert [refusal.item for refusal in refused] == ["reports.csv line 2"]


@pytest.mark.parametrize(
    "text", ['"', '""', '"""', 'a"b', '"a"b', '"a', 'a"', '"a\nb"', '"a\r\n\r\nb,c"', "a\rb", "\\", ",,,"]
)
def test_whatever_one_patient_writes_the_others_stay_as_they_are(tmp_path, text):
    others = ['P0,A0,"text, ""quoted""",imp', "P2,A2,text,imp", 'P3,A3,five "inch,"imp"']
    expected, _ = reports(tmp_path, "\n".join(others))
    found, _ = reports(tmp_path, "\n".join([others[0], f"P1,A1,{text},imp", *others[1:]]))
    assert len(expected) == 3
    assert [content(report) for report in found if report.patient_id != "P1"] == [content(r) for r in expected]


def content(report) -> tuple[str, ...]:
    return report.patient_id, report.accession, report.findings, report.impression


def test_a_row_over_several_lines_is_refused_line_by_line(tmp_path):
    found, refused = reports(tmp_path, 'P0,A0,one,\nP1,A1,"first\nsecond",imp\nP2,A2,two,\n')
    assert [report.patient_id for report in found] == ["P0", "P2"]
    assert [(refusal.item, refusal.reason) for refusal in refused] == [
        ("reports.csv line 3", "row-malformed"), ("reports.csv line 4", "row-malformed")
    ]  # fmt: skip


def test_lines_end_at_line_feeds_and_carriage_returns_only(tmp_path):
    inside = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"  # str.splitlines would end a line at each
    found, refused = reports(tmp_path, f"P0,A0,a{inside}b,\r\nP1,A1,text,\rP2,A2,text,\n\n\rP3,A3,text,")
    assert not refused
    assert [report.patient_id for report in found] == ["P0", "P1", "P2", "P3"]
    assert found[0].findings == "a b"


def test_a_cut_character_does_not_reach_into_the_next_line(tmp_path):
    found, refused = reports(tmp_path, b"P0,A0,text,cut \xe2\x80\nP1,A1,text,\n")
    assert [report.patient_id for report in found] == ["P1"]
    assert [refusal.reason for refusal in refused] == ["not-utf8"]


@pytest.mark.parametrize("column", ["PatientID", "AccessionNumber", "Findings", "Impression"])
def test_a_missing_column_is_one_sentence_with_file_and_column(tmp_path, column):
    path = tmp_path / "reports.csv"
    path.write_text(REPORTS.replace(column, "Other") + "Jane Doe,A1,text,imp\n")
    with pytest.raises(ValueError, match=f"^reports.csv must have exactly one column {column}; correct") as caught:
        read_reports(path)
    assert "Doe" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00\x01", b"Jane Doe,A1,secret,imp\n", REPORTS.encode("utf-16")])
def test_a_table_without_a_header_does_not_quote_its_first_row(tmp_path, content):
    path = tmp_path / "reports.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"^reports.csv must have exactly one column PatientID") as caught:
        read_reports(path)
    assert "secret" not in str(caught.value)


def test_a_repeated_column_is_refused(tmp_path):
    path = tmp_path / "reports.csv"
    path.write_text(REPORTS.strip() + ",Findings\nP1,A1,text,imp,other\n")
    with pytest.raises(ValueError, match="exactly one column Findings"):
        read_reports(path)


def test_a_byte_order_mark_and_further_columns_are_accepted(tmp_path):
    path = tmp_path / "reports.csv"
    path.write_bytes(b"\xef\xbb\xbf" + b"Ward,PatientID,AccessionNumber,Impression,Findings\r\n7,P1,A1,imp,text\r\n")
    found, refused = read_reports(path)
    assert not refused
    assert (found[0].patient_id, found[0].findings) == ("P1", "text")


def test_a_missing_table_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"^questions.csv is missing"):
        read_questions(tmp_path / "questions.csv")


def test_a_good_question_is_read(tmp_path):
    found, refused = question(tmp_path)
    assert not refused
    assert (found[0].source, found[0].accession, found[0].uids) == ("reports", "A1", ())
    assert (found[0].choices, found[0].answer) == (("yes", "no"), "no")


def test_an_image_question_lists_its_images(tmp_path):
    found, _ = question(tmp_path, Kind="alike", AccessionNumber="", SOPInstanceUIDs="1.2; 1.3;")
    assert (found[0].source, found[0].accession, found[0].uids) == ("patches", "", ("1.2", "1.3"))


def test_an_open_question_needs_no_choices(tmp_path):
    found, _ = question(tmp_path, Choices="", Answer="Clear lungs")
    assert (found[0].choices, found[0].answer) == ((), "Clear lungs")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"Answer": ""}, "answer-missing"),
        ({"Answer": "maybe"}, "answer-not-a-choice"),
        ({"Choices": "no"}, "choices-malformed"),
        ({"Choices": "no|no"}, "choices-malformed"),
        ({"Choices": "no|"}, "choices-malformed"),
        ({"Kind": "colour"}, "kind-unknown"),
        ({"Question": " "}, "text-missing"),
        ({"QuestionID": ""}, "identifier-missing"),
        ({"AccessionNumber": ""}, "identifier-missing"),
        ({"PatientID": ""}, "patient-missing"),
        ({"Kind": "alike"}, "images-not-counted"),
        ({"Kind": "alike", "SOPInstanceUIDs": ";".join(f"1.{k}" for k in range(9))}, "images-not-counted"),
    ],
)
def test_bad_questions_are_refused_with_a_reason(tmp_path, changes, code):
    found, refused = question(tmp_path, **changes)
    assert not found
    assert [refusal.reason for refusal in refused] == [code]
