"""English reports, letters, notes and list lines of the fifth set of texts, American and British, with the sentences
they are filled with. A template's weight says how common such a text is."""

from __future__ import annotations

FILLERS: dict[str, tuple[str, ...]] = {
    "exam": (
        "CT chest with IV contrast", "CT abdomen and pelvis", "MRI brain without and with contrast", "XR chest PA",
        "US abdomen complete", "CT head without contrast", "MRI lumbar spine", "Mammogram bilateral screening",
        "MRI left knee", "CT pulmonary angiogram", "X-ray right hip", "US thyroid", "PET/CT skull base to mid-thigh",
    ),
    "ind": (
        "Shortness of breath, rule out PE.", "Follow-up of known pulmonary nodule.", "Abdominal pain.",
        "Fall, hip pain.",
        "Chronic low back pain radiating to the left leg.", "Headache for 3 weeks.", "Staging of colon cancer.",
        "Cough and fever x 5 days.", "Weight loss.", "Post-op day {n}, increasing white count.", "Palpable lump.",
    ),
    "tech": (
        "Axial images were obtained following 100 mL of Omnipaque 350.", "Multiplanar, multisequence MR imaging.",
        "Standard protocol.", "Axial and coronal reformats were reviewed.", "Two views.", "",
    ),
    "f1": (
        "The lungs are clear.", "There is a {mm} mm nodule in the right upper lobe (series 4, image 112).",
        "No pleural effusion or pneumothorax.", "The heart is normal in size.", "Mild bibasilar atelectasis.",
        "The liver is normal in contour without focal lesion.", "No hydronephrosis.", "The spleen is unremarkable.",
        "Small hiatal hernia.", "Degenerative changes at L4-L5 and L5-S1.", "No acute intracranial hemorrhage.",
        "Ventricles and sulci are within normal limits for age.", "Moderate medial compartment joint space narrowing.",
        "No displaced fracture is identified.", "Small Baker's cyst.", "No suspicious osseous lesion.",
    ),
    "f2": (
        "No enlarged lymph nodes.", "The gallbladder is surgically absent.", "Simple cyst in the left kidney, {mm} mm.",
        "Aorta is normal in caliber.", "Bones are osteopenic.", "Grade 1 anterolisthesis of L4 on L5.",
        "Scattered colonic diverticula without diverticulitis.", "Mild white matter disease.", "No free air.",
    ),
    "impr": (
        "No acute cardiopulmonary disease.", "1. No PE. 2. Stable {mm} mm nodule.", "No acute abnormality.",
        "Unchanged disease.", "1. Acute uncomplicated diverticulitis.", "Findings compatible with pneumonia.",
        "BI-RADS 2, benign.", "Moderate L4-L5 central canal stenosis.", "No evidence of metastatic disease.",
    ),
    "hosp": (
        "ST. ELSEWHERE REGIONAL MEDICAL CENTER", "Northfield General Hospital", "Lakeshore Imaging Associates",
        "Ridgeway University Hospitals NHS Trust", "Department of Radiology",
    ),
    "title": ("[Mr.|Mrs.]", "[Mr|Mrs]", "[Mr.|Ms.]", "[Mr|Ms]"),
    "idlabel": ("MRN", "MRN:", "MRN #", "Patient ID:", "Hospital No:", "Hosp No", "Unit No.", "ID"),
    "acclabel": ("Accession:", "Accession #:", "Acc #", "ACC:", "Accession number", "Acc. No."),
    "doblabel": ("DOB:", "DOB", "D.O.B.", "Date of Birth:", "Born", "dob"),
}  # fmt: skip

TEMPLATES: dict[str, tuple[int, str]] = {
    "ris-block": (10, (
        "{hosp}\n\nPATIENT NAME: {head}\n{idlabel} {id}\n{doblabel} {dob}\n{acclabel} {acc}\nEXAM DATE: {study}\n"
        "ORDERING PROVIDER: {dr}\n\nEXAM: {exam}\nINDICATION: {ind}\nTECHNIQUE: {tech}\nCOMPARISON: <{prior}|None>\n\n"
        "FINDINGS:\n{f1} {f2} {f1}\n\nIMPRESSION: {impr}"
    )),
    "one-line-header": (7, (
        "{head} {idlabel} {id} {doblabel} {dob} [M|F]\n{exam} {study} {time}\n{ind}\n{f1} {f2}\nIMPRESSION: {impr}"
    )),
    "plain-report": (10, (
        "EXAM: {exam} <performed on|-|dated> {study}.\nHISTORY: {age}-year-old [male|female]. {ind}\n"
        "COMPARISON: <CT from {prior}|{prior}|Prior study dated {prior}|Chest radiograph {other}>.\n"
        "FINDINGS: {f1} {f2} {f1}\nIMPRESSION: {impr}"
    )),
    "history-name": (7, (
        "HISTORY: {title} {fam} is a {age} year old [man|woman]. {ind}\nFINDINGS: {f1} {f2}\nIMPRESSION: {impr} "
        "<|Findings discussed with Dr. {dr} at {time} on {study}.>"
    )),
    "letter-us": (6, (
        "{study}\n\nRE: {full}{maiden}\n{doblabel} {dob}\n{idlabel} {id}\n\nDear Dr. {dr}:\n\nThank you for referring "
        "{title} {fam} for {exam}. {f1} {f2} {impr}\n\n<{title} {fam} will return|I have asked [him|her] to return> in "
        "{n} months. I saw {title} {fam}'s old films from {prior}.\n\nSincerely,\n{dr}, MD"
    )),
    "letter-uk": (6, (
        "Dear Dr {dr}\n\nRe: {title} {full}, {doblabel} {dob}, {idlabel} {id}\n\n<I reviewed this pleasant|Thank you "
        "for "
        "asking us to see this> {age} year old [gentleman|lady] in clinic on {study}. {title} {fam} "
        "<reports|describes> "
        "ongoing pain. {exam} showed: {f1} {f2}\n\n[His|Her] [wife|husband] was present. Kind regards\n{dr}"
    )),
    "critical-call": (4, (
        "ADDENDUM {study} {time}: Critical result for {full} (<MRN|{idlabel}> {id}) was called to Dr. {dr} "
        "<and read back|who acknowledged>. {impr}"
    )),
    "addendum": (4, (
        "Addendum to report {acc} of {study}: <The patient's name was misspelled in the original report; correct "
        "name is "
        "{head}.|Outside images of {prior} are now available for comparison.> {f1} No change to the impression."
    )),
    "signed-footer": (6, (
        "{f1} {f2}\n\nIMPRESSION:\n{impr}\n\nElectronically signed by {dr}, MD on {study} <{time}|at {time}>\n"
        "{head} | {id} | {acc}"
    )),
    "page-footer": (4, (
        "{f1}\n{f2}\n{impr}\n---\nPage 2 of 2    {head}    {doblabel} {dob}    {idlabel} {id}    Printed {other}"
    )),
    "discharge": (4, (
        "DISCHARGE SUMMARY\nPatient: {full}{maiden}   {doblabel} {dob}\n<Admitted {study}, discharged home.|Admission: "
        "{range}.> {title} {fam} was admitted with: {ind} {exam}: {impr} <{title} {fam}'s [wife {woman}|husband {man}]"
        " will collect [him|her].|>"
    )),
    "worklist": (5, "{time} {head} {dob} {id} {exam} {acc} <Dr {dr}|>"),
    "worklist-csv": (3, "\"{head}\",{id},{dob},[M|F],{acc},{study},\"{exam}\",FINAL"),
    "child": (4, (
        "Clinical details: {giv} is {age} years old and <fell off a trampoline|has had a limp for 2 weeks|was born "
        "at 34 "
        "weeks>. {exam} on {study}: {f1} {giv} <tolerated the scan well|was cooperative|cried throughout; some motion "
        "artefact>. [His|Her] mother {woman} was present. {impr}"
    )),
    "letter-child": (3, (
        "RE: {full}, {doblabel} {dob}\n\nDear parents of {giv},\n{giv}'s scan on {study} was normal. {impr} Please "
        "bring "
        "{giv} back to clinic in {n} months.\nDr {dr}"
    )),
    "mdt": (5, (
        "MDT <discussion|outcome> {study}: {head}, {age}[M|F], {idlabel} {id}. {ind} {exam} ({prior}): {f1} Plan: "
        "<refer to oncology, Dr {dr}|discuss with {title} {fam} in clinic|repeat CT in 3 months>."
    )),
    "initials": (3, (
        "<Case for teaching: patient {ini}, {age}[M|F].|Pt {ini}, seen {study}.|Pt initials {ini}, {exam}.> {f1} {impr}"
    )),
    "sentence-fam": (5, (
        "{exam}. {f1} As on the previous study of {prior}, {f2} <{fam} has been|{title} {fam} has been> <informed of "
        "the "
        "result|advised to see Dr {dr}>. {impr}"
    )),
    "yearless": (2, "Compared with the study of {short}, {f1} {f2} {impr}"),
    "nurse-note": (3, (
        "{study} {time} Pt {full} arrived in CT via stretcher. ID band checked: {id}, {dob}. IV 20G R AC. "
        "{title} {fam} denies allergies. Contrast given, no reaction. RN {dr}"
    )),
    "mammo-letter": (4, (
        "{full}\n<|{idlabel} {id}\n>\nDear {title} {fam},\n\nThank you for <coming to|attending> your appointment on "
        "{study}. Your result is normal. Please keep this letter. Your next screening is due in 2 years.\n\n{dr}, MD"
    )),
    "dictation": (5, (
        "This is Dr. {dr} dictating on patient <{full}|{title} {full}>, medical record number {id}, <date of birth "
        "{dob}|"
        "accession {acc}>. {exam} done {study}. {f1} {f2} Impression: {impr} End of dictation."
    )),
    "outside": (3, (
        "OUTSIDE FILM CONSULTATION\nImages labeled {head}, {idlabel} {id}, dated {prior}, from another institution are "
        "reviewed at the request of Dr. {dr}. {f1} {f2} {impr}"
    )),
    "biopsy": (4, (
        "PROCEDURE: US-guided biopsy. Informed consent was obtained from <{title} {fam}|{full}|the patient>. Time out "
        "confirmed {full}, DOB {dob}. Lidocaine 1%, 10 mL. {n} cores. Performed {study} by Dr {dr}. No complications."
    )),
    "ed-note": (3, (
        "{fam}, {giv} {age}yo [M|F] bed {n}. {ind} {exam} neg per rads {time}. <{title} {fam} wants to go "
        "home|Daughter "
        "{woman} at bedside|PCP Dr. {dr} called>. f/u {other}."
    )),
    "fields": (3, (
        "Last name: {last}\nFirst name: {first}\n{doblabel} {dob}\n{idlabel} {id}\nExam: {exam} {study}\n{f1} {f2}\n"
        "Impression: {impr}"
    )),
    "file-name": (1, "Outside CD received {other}, folder {file} opened without error. {exam}: {f1} {f2} {impr}"),
    "hl7ish": (2, "Pt: {head} Sex: [M|F] DOB: {dob} PID: {id} Order: {acc} Obs: {iso}T{time} Result: {f1} {impr}"),
}
