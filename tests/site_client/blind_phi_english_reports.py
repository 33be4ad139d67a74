"""English radiology reports, with {places} where a patient's own identifiers stand. Written from imagination."""

from __future__ import annotations

TEMPLATES = {
    "en-header-block": """PATIENT NAME: {caps}
MRN: {mrn}   ACCESSION #: {acc}
DATE OF BIRTH: {dob}   AGE: {age}   SEX: {sex}
DATE OF EXAM: {study}
EXAM: CT CHEST WITHOUT CONTRAST

INDICATION: Chronic cough.

FINDINGS: {body}

IMPRESSION:
1. No acute cardiopulmonary abnormality.

Electronically signed by: {doctor}""",
    "en-single-line-header": """{lastfirst} | {mrnbare} | {dob} | {sex} | {acc} | {study} 10:42 | XR CHEST 2 VIEWS

{body} Heart size is normal. No effusion.""",
    "en-this-yo": """HISTORY: This {age} y/o {title} presents with three days of right flank pain. Prior lithotripsy.

TECHNIQUE: Low-dose unenhanced CT.

FINDINGS: {body}

Discussed with {doctor} by phone at 14:20 while {title} was still in the department.""",
    "en-comparison-of": """EXAM: MRI of the brain with and without gadolinium, {study}

COMPARISON: MRI of {prior}. CT head of {olddate}.

FINDINGS: {body}

IMPRESSION: Stable appearance compared with {prior}.""",
    "en-comparison-none": """Chest radiograph, {studynum}. Comparison: {prior} and outside CT {olddate}.
Clinical information: {first}, {age} years old, fever.
{body}""",
    "en-dictation-opening": """This is a dictation on {full}, medical record number {mrn}, \
date of birth {doblong}, exam performed on {studylong}. Ultrasound of the abdomen. {body} End of dictation. Thanks.""",
    "en-dictation-run-on": """ultrasound of the right upper quadrant on {full} mrn {mrn} dob {dob} next line \
liver is normal in size next line {body} next line {title} tolerated the examination well""",
    "en-page-footer": """FINDINGS:
{body}

{lastfirst}          MRN {mrn}          Page 1 of 2
--------------------------------------------------
{lastfirst}          DOB {dob}          Page 2 of 2

IMPRESSION: Degenerative change as described.

Printed {stamp} by RADWS07""",
    "en-confidential-footer": """{body}

CONFIDENTIAL: This report concerns {full} ({dobnum}) and is intended for the referring clinician only.
Report ID {acc}. Finalised {study} 16:05.""",
    "en-addendum": """ADDENDUM {prior} 09:12:
After review of outside films brought in by {title}, the lesion in segment 7 is unchanged since 2016.
The original report of {study} (accession {acc}) was issued under the name {lastfirst}.

ORIGINAL REPORT:
{body}""",
    "en-addendum-wrong-side": """*** ADDENDUM ***
Laterality corrected: the fracture is on the LEFT. {he} was recalled. {title} and her GP were informed on {studylong}.
*** END OF ADDENDUM ***
{body}
Dictated: {stamp}  Transcribed: {stamp}  Job: 88123""",
    "en-relative": """CLINICAL HISTORY: {title}'s daughter {relative} reports that {last} fell twice in the last week.
{body}
IMPRESSION: No intracranial haemorrhage.""",
    "en-mammography": """BILATERAL SCREENING MAMMOGRAM {studynum}

{title} is a {age}-year-old woman with a family history in her sister ({relative}).
Comparison is made to exams dated: {prior}, {olddate}.
{body}
BI-RADS CATEGORY 2: BENIGN.
A letter was sent to {full} with the results in lay language.
ACR density b. Patient ID {mrn}.""",
    "en-procedure-timeout": """PROCEDURE: US-guided thyroid FNA, right lobe.
TIME OUT: performed at 10:05 with two identifiers ({full}, DOB {dob}).
CONSENT: The risks were explained to {title}, who signed the form. Interpreter: {staff}.
{body}
Specimen labels: {lastini}, {mrn}, {studynum}. Passes: 4 x 25G.
COMPLICATIONS: None. {title} left in good condition.""",
    "en-biopsy-caps": """CT GUIDED BIOPSY {study}
PT: {caps} HOSP NO {mrn} D.O.B. {dob}
{title} WAS PLACED PRONE. 17G COAXIAL NEEDLE. 3 CORES. {body}
NO PNEUMOTHORAX ON POST PROCEDURE IMAGES.""",
    "en-er-prelim": """PRELIM READ (ED) - {lastfirst} {mrn}
Wet read by {staff} 02:13. {body}
ED attending notified: {doctor}. Pt {last} in bed 12.""",
    "en-fluoro": """UPPER GI SERIES

{title}, a pleasant {age}-year-old, swallowed barium without difficulty on {study}.
{body}
Fluoroscopy time 2.4 min, DAP 812 cGy cm2.""",
    "en-pn-copied": """{pn}
{dob} {sex}
{acc}
XR KNEE RT AP/LAT
{body}""",
    "en-overlay-copied": """[{pn}] [{mrn}] [{studynum}] SE 4 IM 112 W 350 L 40
{body}""",
    "en-file-path": """Source document: \\\\FILESRV02\\radiology\\letters\\{file}_{mrnbare}.docx
{body}
c:\\temp\\{file}.pdf printed {stamp}""",
    "en-hl7-remains": """PID|1||{mrn}^^^HOSP^MR||{pn}||{dobraw}|{sexletter}
OBR|1||{acc}|71250^CT CHEST|||{studyraw}
OBX|1|TX|||{body}""",
    "en-pacs-note": """PACS admin note: images of {lastfirst} (ID {mrn}) \
were first filed under the wrong folder and moved on {study}.
Merged with acc. {acc}. {body}""",
    "en-barcode": """*{mrnbare}*   *{accbare}*
{any}  b. {dobnum}
{body}""",
    "en-teleradiology": """To: Night desk   From: {staff}
Re: {any} / {dobnum} / CT head / {studynum}
Study received 23:41, read 23:58.
{body}
Please call ext. 4411 if {title} deteriorates.""",
    "en-sentence-identifiers": """{body} The patient, {full}, born {doblong}, was examined on {studylong}; \
the number on the wristband was {mrn}.
Image quality is limited by motion because {last} could not hold {his} breath.""",
    "en-paediatric": """RENAL ULTRASOUND
{first} was brought in by {his} mother ({relative}) and slept through the exam. Born at 31 weeks on {dob}.
{body}
{first} will return for a MCUG. Hosp no: {mrn}""",
    "en-neonatal-baby-of": """BABY OF {last} / DOB {dob} 04:17 / {mrn}
Cranial ultrasound {studynum}, day 3 of life.
{body}
Plan: repeat at term. Discussed with {title} at the cot side.""",
    "en-followup-lungrads": """LOW DOSE CT LUNG SCREENING {studynum}
{title} is a {age} y.o. current smoker, 35 pack-years. Baseline {prior}.
{body}
Lung-RADS 3. {inilast} to be recalled in 6 months; reminder sent to {email}@example.org.""",
    "en-multi-visit": """Dates of service: {prior}; {study}
Name..........: {lastfirst}
Birth Dt......: {dob}
Account.......: {mrn}
Order.........: {acc}
{body}""",
    "en-signature-block": """{body}

I have personally reviewed the images of {title} and agree with the above.
Resident: {staff}
Attending: {doctor}
D: {studynum} 11:02   T: {studynum} 11:40   V: {studynum} 12:15
cc: chart of {lastini} #{mrn}""",
}
