"""English letters, board minutes and notes, with {places} where a patient's own identifiers stand."""

from __future__ import annotations

TEMPLATES = {
    "en-letter-re": """Dear {doctor},

RE: {full}   DOB: {dob}   Hospital No: {mrn}

Thank you for referring {title} for MRI of the lumbar spine, which was done on {study}.
{body}
{title} would like to discuss the option of an injection.

Yours sincerely,
{staff}
Consultant Radiologist""",
    "en-letter-to-patient": """{studylong}

{full}
14 Station Road

Dear {title},

Your scan of {studynum} has now been reported. {body}
Please bring this letter and quote your reference {acc}.""",
    "en-clinic-letter": """Diagnosis: known renal cyst, Bosniak II
I reviewed {title} in clinic together with {his} wife {relative}. {last} feels well.
The ultrasound of {prior} and today's scan ({study}) were compared.
{body}
Patient details: {any}, {dob}, {mrn}""",
    "en-mdt": """LUNG MDT OUTCOME
{lastfirst} ({age}{sexletter}) {mrn} d.o.b. {dobnum}
Presented by {staff}. PET-CT {study}: {body}
Outcome: surgical review. {inilast} to be told by CNS {relative}.""",
    "en-nhs-discharge": """Discharge notification
Patient: {full}    NHS/hosp no. {mrn}
Admitted with chest pain. CTPA on {study} (ref {acc}).
{body}
{title} was discharged home to the care of {his} son, {relative}.""",
    "en-outside-review": """SECOND OPINION of outside study labelled "{pn}", dated {studynum}.
The request form reads {lastfirst}, born {dobnum}. {body}
No prior under {last} in our archive.""",
    "en-portal-message": """Hi {first}, your CT from {studynum} looks good! {body}
Best, {relative}, RN
Sent to {full} (MRN {mrn}) via portal.""",
    "en-call-log": """Critical result call
{studynum} 18:22 - {staff} read back: "{any}, {dobnum}, PE in the right lower lobe".
Ref {acc}. {body}""",
    "en-insurance": """To whom it may concern,
This is to confirm that {full} (born on {doblong}, policy holder) underwent an MRI on {studylong}.
Our reference: {acc}. {body}
{title} has asked us to send the invoice to {his} employer.""",
    "en-dictation-spoken": """Okay next patient is {full}, M R N {mrn}, that's the {age}-year-old from ward 4.
Comparison is {prior}. {body}
Can you send a copy to {title} please.""",
}
