"""English templates of the third set: headers, letters, dictations, footers and addenda as departments in the United
States, Britain and Ireland write them. Slots in braces are filled by the renderer: identifiers by form (alternatives
with a bar), `g:` a choice by sex, `c:` a free choice, the rest filler sentences, staff and other dates."""

from __future__ import annotations

TEMPLATES = {
    "en-ris-header": """PATIENT: {COMMA|COMMAMI}
MRN: {pid}   ACC#: {acc}
DOB: {dobnum}  SEX: {g:M~F}
EXAM DATE: {studynum} {time}
EXAM: {exam}

FINDINGS: {f3}
IMPRESSION: {imp}
Electronically signed by {doc}, MD""",
    "en-gp-letter": """Dear Dr {docfam},

Re: {fullmid|full}{suf}, DOB {dob}, Hosp No. {pid}

Thank you for referring this {age} year old {g:gentleman~lady}. {exam} was performed on {study}. {f2}
I have explained the findings to {g:Mr~Mrs} {fam}, who will be seen again in clinic. {imp}

Yours sincerely,
{doc}
Consultant Radiologist""",
    "en-dictation-plain": """this is a dictation on patient {lower} medical record number {pid} {exam} date of \
service {study} findings {f2} impression {imp} end of dictation""",
    "en-history-sentence": """CLINICAL HISTORY: {g:Mr.~Ms.} {fam} is a {age}-year-old {g:man~woman} with {ind}.
COMPARISON: {exam} {prior|priornum}.
TECHNIQUE: Standard protocol.
FINDINGS: {f3}
IMPRESSION:
1. {imp}
2. {f}""",
    "en-comparison-own": """{exam}

Comparison is made with the prior study of {prior}, accession {acc}.

{f3} Compared to {priornum|prior}, no new abnormality.

{imp}""",
    "en-phone-critical": """{f2}

CRITICAL RESULT: Findings regarding {full|fullmi} (MRN {pid}) were discussed by telephone with Dr. {docfam} at \
{time} on {study}. Read-back was performed. {imp}""",
    "en-family-update": """{g:Mr.~Mrs.} {famfull}'s {g:wife~husband} {kin} was present. {f} The {g:wife~husband} \
states that {given} has had {ind} for two weeks. {imp}""",
    "en-wrong-patient-addendum": """ADDENDUM {studynum}: The above report was originally filed under accession \
{acc}. Patient identity has been verified as {fullmid|full}{suf}, born {dob}. The findings are unchanged. {f}""",
    "en-footer-print": """{f3}

{imp}

-----------------------------------------------------------
{COMMA|FULLMID}  |  {pidexact}  |  {dobnum}  |  Page 1 of 2
Printed {studynum} {time}""",
    "en-procedure-consent": """PROCEDURE: {exam}
The risks and benefits were explained to {g:Mr~Mrs} {famfull|FAM} and written consent was obtained. A time-out was \
performed with {c:two~three} identifiers: {full}, {dob}, {pid}. Under ultrasound guidance a 5 Fr catheter was \
placed. {f}
{g:Mr~Mrs} {famfull} tolerated the procedure well and was returned to the ward.""",
    "en-initials": """Patient {inits|initsgap|initsbare}, {age}{g:M~F}, presents with {ind}.

{exam}: {f2}

Impression: {imp}""",
    "en-mammo-letter": """Dear {g:Mr~Ms} {famfull|fam}:

Thank you for choosing our breast center for your mammogram on {study}. We are pleased to inform you that the \
result is normal (BI-RADS 1). {given}, please continue with yearly screening.

Exam number {acc}""",
    "en-pipe-header": """{caret}|{pidexact}|{dobcompact}|{g:M~F}|{accexact}|{studycompact}
{exam}
{f3}
{imp}""",
    "en-mdt": """Lung MDT {study}
{c:1~2~3}. {full|initfam|faminit} ({pid}) - {ind}. {exam} reviewed by {docfam}. {f2} Plan: {imp}""",
    "en-ed-wet-read": """WET READ {time}: {FAMINIT|COMMA} {exam}. {f} D/w Dr {docfam} ED. Final report to follow.""",
    "en-outside-films": """Outside study on CD labelled "{COMMA|full|FULL}", dated {prior|priornum}, was submitted \
for comparison. {f2}

IMPRESSION: {imp}""",
    "en-followup-sentence": """{f2} I would be grateful if {given} could have a repeat {exam} in three months. \
Last seen {odate}. {g:Mr~Miss} {fam} is aware of the plan.""",
    "en-obstetric": """OBSTETRIC ULTRASOUND
Name: {full}   Hospital number: {pid}   D.O.B. {dobnum}
LMP {odate}. Scan date {study}. Single live intrauterine pregnancy. {f} The placenta is posterior and clear of the \
os. Results given to {given}. Sonographer: {docfam}""",
    "en-maiden": """Previous examinations are filed under {g:the former name~her maiden name} {maiden} ({exam}, \
{prior}). {fullmid}, now {age}, attends with {ind}. {f2} {imp}""",
    "en-range": """Inpatient stay {studyrun}. {exam} on admission: {f} {g:Mr.~Ms.} {fam} was discharged with \
follow-up imaging.
Signed, {doc} PGY-3""",
    "en-prior-range": """Serial examinations between {priornum} and {studynum}: {f2} There has been interval \
improvement since {prior}. {imp}""",
    "en-day-only": """Compared with the film of {studyday|priorday}: {f} The line placed on {studyday} is in \
satisfactory position. {imp}""",
    "en-hospice-note": """{given} {c:feels well~is comfortable~remains short of breath}. {f} Discussed with \
{g:his~her} daughter {kinf} by Dr {docfam}. {imp}""",
    "en-signoff-tag": """{f2}
IMPRESSION: {imp}
Dictated: {studynum} {time} | Transcribed: {studynum} | Acc {acc} | {FAMcomma|comma|commami}""",
    "en-fhir-ish": """Report for Patient/{pidexact} effectiveDateTime {studystamp}T{time}:00Z accession {accexact}
subject: {comma|tight}
{exam}. {f2} {imp}""",
    "en-possessive": """{exam}: {f} {g:Mr.~Mrs.} {fam}'s prior study from {prior} was reviewed. {full}'s symptoms \
have since resolved. {imp}""",
    "en-misheard": """DICTATED BUT NOT READ. {g:Mr.~Mrs.} {misheard|fam} returns today, {study}, for {exam}. {f2} \
{imp}""",
    "en-xray-short": """{full|FAMcomma|rev} {dobnum} {exam} {studynum}: {f} {imp}""",
    "en-dob-only": """{age}-year-old {g:male~female} (DOB: {dob}), {ind}. {exam} performed {study} at {time}. {f2}

Impression: {imp}""",
    "en-query": """QUERY FROM CODING: please confirm laterality for acct {acc}, pt {COMMA|comma|initsfam}, DOS \
{studynum}. {f} Thank you, {docfam}""",
    "en-peds": """Paediatric {exam}. {given} was brought by {g:his~her} mother {kinf}. Sedation was not needed. \
{f2} NHS number {pid}, date of birth {dob}. {imp}""",
    "en-biopsy-label": """Four cores were obtained and placed in formalin, labelled {COMMA|FULL|faminit} / {pid} / \
{studynum}. {f} No immediate complication. Specimen handed to {docfam}.""",
    "en-addendum-corrected": """**ADDENDUM** by {doc} at {time} {studynum}
The body of the report should read: "{f}" {g:Mr.~Ms.} {FAM|famfull} was informed. Previous CT from {odate} at an \
outside hospital is not available.""",
    "en-quote-patient": """Patient states: "My name is {full|short} and I was born on {dob}." Identity checked \
against wristband {pid}. {exam}. {f} {imp}""",
    "en-dose": """DOSE REPORT  {caret}  ID {pidexact}  {studystamp} {time}
CTDIvol 8.4 mGy, DLP 412 mGy*cm, series 2-5.
{f}""",
}
