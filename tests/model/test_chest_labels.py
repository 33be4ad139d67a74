"""The labeller of chest reports on sentences labelled by hand, and beside the MeSH headings of real reports."""

from __future__ import annotations

import pytest

from model.benchmarks.chest_reports import load_reports
from model.chest_labels import affirmed, labels_of
from model.chest_terms import MENTIONS, NO_FINDING, OBSERVATIONS

P, U, A = "present", "uncertain", "absent"

# Made up and labelled by hand: sentence -> what it says of every observation but No Finding.
SENTENCES: dict[str, dict[str, str]] = {
    "No pleural effusion or pneumothorax.": {"Pleural Effusion": A, "Pneumothorax": A},
    "There is no focal consolidation, pneumothorax, or large effusion.": {
        "Consolidation": A, "Pneumothorax": A, "Pleural Effusion": A},
    "Mild cardiomegaly with a small left pleural effusion.": {"Cardiomegaly": P, "Pleural Effusion": P},
    "The heart is not enlarged.": {"Cardiomegaly": A},
    "Heart size is within normal limits.": {"Cardiomegaly": A},
    "Heart size and mediastinal contours are normal.": {"Cardiomegaly": A, "Enlarged Cardiomediastinum": A},
    "The cardiac silhouette is moderately enlarged.": {"Cardiomegaly": P},
    "Widening of the mediastinum.": {"Enlarged Cardiomediastinum": P},
    "Pneumonia cannot be excluded.": {"Pneumonia": U},
    "We cannot exclude pneumonia.": {"Pneumonia": U},
    "Right lower lobe opacity, possibly atelectasis or pneumonia.": {
        "Lung Opacity": P, "Atelectasis": U, "Pneumonia": U},
    "Findings suggest mild pulmonary edema.": {"Edema": U},
    "Bibasilar atelectasis without pneumothorax.": {"Atelectasis": P, "Pneumothorax": A},
    "The pneumothorax has resolved.": {"Pneumothorax": A},
    "Pleural effusions are not seen.": {"Pleural Effusion": A},
    "No edema, but there is a nodule in the left apex.": {"Edema": A, "Lung Lesion": P},
    "Old healed rib fractures.": {"Fracture": P},
    "No displaced rib fracture.": {"Fracture": A},
    "Pleural thickening at the right base.": {"Pleural Other": P},
    "Left chest tube in place; no residual pneumothorax.": {"Support Devices": P, "Pneumothorax": A},
    "Dual lead pacemaker is noted.": {"Support Devices": P},
    "Blunting of the left costophrenic angle.": {"Pleural Effusion": P},
    "Calcified granuloma in the right lung.": {"Lung Lesion": P},
    "There may be a small effusion.": {"Pleural Effusion": U},
    "Lungs are clear.": {},
    "No acute cardiopulmonary abnormality.": {},
    "Pericardial effusion on ultrasound.": {},
    "Patchy consolidation in the lingula is concerning for pneumonia.": {"Consolidation": P, "Pneumonia": U},
    "Negative for pneumonia.": {"Pneumonia": A},
    "CHF has improved.": {"Edema": P},
}  # fmt: skip


@pytest.mark.parametrize("sentence", SENTENCES)
def test_sentences_labelled_by_hand(sentence: str) -> None:
    found = labels_of(sentence)
    found.pop(NO_FINDING, None)
    assert found == SENTENCES[sentence]


def test_there_are_the_14_observations_and_each_has_a_sentence() -> None:
    assert len(OBSERVATIONS) == 14 and len(set(OBSERVATIONS)) == 14
    assert set(MENTIONS) <= {name for labels in SENTENCES.values() for name in labels}


def test_the_strongest_mention_counts_and_clauses_are_apart() -> None:
    text = "No effusion on the left. Possible effusion on the right."
    assert labels_of(text)["Pleural Effusion"] == U
    assert labels_of(text + " Large effusion seen.")["Pleural Effusion"] == P


def test_no_finding_is_the_absence_of_pathology_but_not_of_devices() -> None:
    assert labels_of("No acute disease.")[NO_FINDING] == P
    assert labels_of("Pacemaker in place. No effusion.")[NO_FINDING] == P
    assert labels_of("Possible pneumonia.")[NO_FINDING] == A
    assert labels_of("  ") == labels_of("the the of lobe qq 12") == {}  # an empty or meaningless answer says nothing
    assert labels_of("Normal chest.") == labels_of("Lungs are clear.") == {NO_FINDING: P}


def test_what_is_affirmed() -> None:
    assert affirmed(labels_of("Cardiomegaly. Possible edema. No effusion.")) == {"Cardiomegaly", "Edema"}


# The indexers of MEDLINE gave each report MeSH headings of what is present. (precision, recall) of the labels against
# them: the floors are what short term lists should reach. Doubtful mentions have no heading, so precision is lower.
FLOORS = {"Cardiomegaly": ("Cardiomegaly", 0.90, 0.90), "Pleural Effusion": ("Pleural Effusion", 0.70, 0.95),
          "Atelectasis": ("Pulmonary Atelectasis", 0.80, 0.95), "Consolidation": ("Consolidation", 0.70, 0.95),
          "Fracture": ("Fractures, Bone", 0.70, 0.95)}  # fmt: skip


def test_real_reports_agree_with_their_mesh_headings() -> None:
    reports = load_reports()
    labels = [affirmed(labels_of(f"{report.findings}\n{report.impression}")) for report in reports]
    for name, (heading, precision, recall) in FLOORS.items():
        wanted = {i for i, r in enumerate(reports) if any(major.split("/")[0] == heading for major in r.majors)}
        found = {i for i, names in enumerate(labels) if name in names}
        assert len(wanted) > 20
        assert len(wanted & found) / len(found) >= precision, name
        assert len(wanted & found) / len(wanted) >= recall, name
