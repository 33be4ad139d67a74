"""Templates of the fourth set in English, American and British: RIS headers, dictation, letters, notes, footers."""

from __future__ import annotations

from tests.site_client.fourth_phi_render import Template as T

TEMPLATES = (
    T("us ris header", "us", 80, """[PATIENT NAME|Patient Name|Patient|NAME]: {NH}
[MRN|Medical Record Number|MRN #|MR#]: {ID}
[DOB|Date of Birth|D.O.B.|Birth date]: {DOB}[    Sex: {s:M/F}|]
[ACCESSION|Accession #|Accession Number|Acc]: {ACC}
[EXAM DATE|Date of Exam|Date of Service|DOS]: {SD}[ {hr}:{min}|]
[REFERRING PHYSICIAN|Ordering Provider|Attending]: {DR}

EXAM: {exam}
[CLINICAL HISTORY|INDICATION]: {AGE}-year-old {s:male/female} with {cc}.
COMPARISON: [None|{exam} {PD}|{PD}].
FINDINGS: {find3}
IMPRESSION: {imp}"""),
    T("us comparison", "us", 75, """[EXAM|STUDY]: {exam}[, {SD}|]
[TECHNIQUE: {tech}
|]COMPARISON: [{exam} from {PDs}|{exam} dated {PD}|Prior of {PD}|{PD} {exam}|{PD} and {OD}]
FINDINGS: [Compared to {PDs}, there|There] is no significant change. {find2}
IMPRESSION:
1. {imp}
2. [Unchanged since {PDs}.|{imp}]"""),
    T("us dictation", "us", 60, """[Patient is a|This is a] {AGE}-year-old {s:male/female} [named {N} |]with {cc}. \
{find2} [{TF} was last imaged on {PDs}.|Exam performed {SDs}.|{exam} from {PDs} reviewed.|{TF} tolerated the \
procedure well.]"""),
    T("us critical call", "us", 45, """{find2} {imp}
[Critical result was|Findings were] [discussed with|called to|communicated to] {DR} [by telephone |][at {hr}:{min} on \
{SDs}|on {SD} at {hr}{min} hours].[ Read-back of {NH}, MRN {ID} confirmed.|]"""),
    T("us letter", "us", 55, """{SD}

RE: {N}[
DOB: {DOB}|, DOB {DOB}|]
[MRN|Our file|Chart #]: {ID}

Dear {DR},

Thank you for referring [{TF}|{N}] for {exam}[ on {SDs}|]. {find2} [{TF}'s previous examination of {PD} was \
available.|{TF} will return in six months.|I explained this to {TF} and to {s:his/her} {s:wife/husband}, {REL}.]

{imp}

Sincerely,
{ST}, MD"""),
    T("us footer", "us", 40, """{find3}
IMPRESSION: {imp}

[Electronically signed by|Dictated by|Signed]: {ST}, MD [{SD}|on {SD}] {hr}:{min}
[{NH} ¦ MRN {ID} ¦ {ACC}|{NH}  {ID}  Page 1 of 2|Patient: {NH}   Acc: {ACC}|Report for {NH} (DOB {DOB})]"""),
    T("us procedure", "us", 40, """PROCEDURE: [US-guided biopsy|Fluoroscopic lumbar puncture|PICC placement]
[Informed consent was obtained from|Risks were explained to] [{TF}|{N}|the patient's {s:wife/husband}, {REL}].
[TIME OUT|Timeout]: [patient identified as {NH}, DOB {DOB}|two identifiers ({N}, {DOB}) verified|MRN {ID} verified].
{find} {TF} [left the department in stable condition|tolerated this well]."""),
    T("us er note", "us", 35, """[ED NOTE|Triage] {SD} {hr}:{min}
{NH} [({ID})|MRN{ID}|# {ID}] {AGE} y/o {s:M/F} c/o {cc}. [Pt's [mother|sister] {MUM} at bedside.|Lives alone.] [{G} \
states pain began yesterday.|Mr{s:/s} {F} denies trauma.] Plan: {exam}, discussed w/ {DR}."""),
    T("us paediatric", "us", 35, """[INDICATION|HISTORY]: {G} is a {AGE}-year-old {s:boy/girl} with {cc}[, brought by \
{s:his/her} mother {MUM}|].
{find2} [{G} was sedated with midazolam.|{G} moved during the sequence.]
[Discussed with {DR} on {SDs}.|DOB {DOB}. MRN {ID}.|Follow-up of {G} in clinic.]""", True),
    T("us addendum", "us", 35, """ADDENDUM [{SD}|#1 {SD} {hr}:{min}]: [After review with {DR}, |]{imp}
[Original report on {NH} (acc. {ACC}) stands otherwise.|The original report listed the wrong side. Patient {NH}, \
accession {ACC}.|Priors of {PD} became available.]"""),
    T("us priors list", "us", 25, """PRIORS:
{PD}  {exam}
{OD}  {exam}
TODAY: {SD} {exam} [{ACC}|acc# {ACC}]
{find2}"""),
    T("us worklist", "us", 20, """{NH}\t{ID}\t{DOB}\t{exam}\t{ACC}\t{STAMP}
[Protocol|Note]: {tech}"""),
    T("us follow-up", "us", 25, """[Oncology follow-up|Tumor board] - {N}
[{TF} completed therapy in {MY}.|Diagnosed {MY}.] {find2} RECIST: {imp} [{F} to be discussed on {OD}.|Next staging \
after {SDs} per {DR}.|Next scan of {TF} due in 3 months.]"""),
    T("uk request", "uk", 70, """[Surname, Forename|Patient|Name]: {NH}
[Hospital No|Hosp. no.|Unit number|NHS No]: {ID}
[DOB|Date of birth|D.O.B]: {DOB}[ ({AGE}y)|]
[Exam|Examination]: {exam}[, {SD}|]
[Accession|Acc no|Event no]: {ACC}
Clinical details: {cc}. [?cause|Known to {DR}.|GP {DR}.]

Report: {find3}"""),
    T("uk gp letter", "uk", 65, """[Date: |]{SD}
Dear {DR}

Re: {N}[, d.o.b. {DOB}|  DOB: {DOB}|
{DOB}|][, Hosp No {ID}|  ({ID})|]

[Thank you for asking us to see {TF}, |I reviewed {TF}, |We scanned {TF}, ]{s:a retired engineer/a retired teacher} \
with {cc}. [{s:He/She} attended on {SDs}.|Last seen on {PD}.|{s:His/Her} {s:wife/husband} {REL} came as well.] \
{find2} [I have reassured {TF}.|{TF} is aware of the result.|]

[Yours sincerely|Kind regards]
{ST}, Consultant Radiologist"""),
    T("uk comparison", "uk", 60, """{exam}[ {SD}| on {SD}|]: [Comparison is made with|Compared with] the [study of \
{PDs}|previous dated {PD}|film of {PDs} and {OD}]. {find3}
[Conclusion|Opinion]: {imp}"""),
    T("uk short", "uk", 45, """[{SD}: |]{exam}. {find2} [{TF}'s symptoms are not explained.|No change from \
{PDs}.|Reported by {ST}, {SD} {hr}:{min}.]"""),
    T("uk mdt", "uk", 35, """[MDT|Lung MDT] [{SD}|meeting of {SD}]
[{N}|{NH}][ ({ID})|, {ID}], {AGE}y. [Presented by {DR}. |]{find2}
Outcome: {imp} [{TF} to be seen in clinic {OD}.|Key worker: {ST}.|Letter to {TF}.]"""),
    T("uk ward note", "uk", 30, """[{SDs}|{SD}] {hr}:{min} [WR|Ward round] {DR}
[{F}, {AGE}y {s:M/F}|{TF}, bed {num}|Pt {I}]. {cc}. CXR [{PDs}|yesterday]: {find} Plan: {exam}. [Daughter {MUM} \
updated.|]"""),
    T("uk paediatric", "uk", 25, """{G}[ ({DOB})|, aged {AGE},] was [referred with|admitted with] {cc}. [Mum ({MUM}) \
present.|] {find2} [We shall see {G} again.|{G}'s next scan is in a year.|Copy to {DR}.]""", True),
    T("uk footer", "uk", 30, """{find3} {imp}
[Verified|Authorised] by {ST} GMC on {SD}
[{NH}  {DOB}  {ID}|{NH} / {ACC}|Printed {OD} for {NH}, hospital number {ID}]"""),
    T("uk discharge", "uk", 30, """DISCHARGE SUMMARY
{NH}   [DOB|Born] {DOB}   [No.|Unit No] {ID}
Admitted {PD}, [discharged|home] {SD}. [{TF}|{N}] presented with {cc}. {exam} ({SDs}): {find} [Named nurse {ST}.|NOK: \
{REL}.]"""),
    T("uk range", "uk", 20, """[Images between {PD} and {SD} were reviewed|Series from {PDs} to {SDs}|Inpatient {PD} \
- {SD}|Inpatient {RANGE}|Admission {RANGE}]: {find2} {imp} [{N} was not recalled.|{TF} may be discharged.|]"""),
    T("uk query", "uk", 20, """PACS query: [images of {N} filed under accession {ACC}|accession {ACC}, {NH}], \
[{SD}|done {SD}]. [Merge with {ID} please.|Correct number is {ID}.|Wrong DOB, should be {DOB}.] Thanks, {ST}"""),
    T("us initials", "us", 14, """[Patient {I}|Pt. {I}|{I}], {AGE} {s:M/F}, {cc}. {find2} [Discussed {SDs}.|Acc \
{ACC}.|] {imp}"""),
    T("uk initials", "uk", 10, """[Patient|Pt] ({I}) consented. {find2} [Seen {SDs} by {DR}.|Unit no {ID}.]"""),
    T("us nickname", "us", 10, """{N} [(goes by {NICK})|("{NICK}")] is a {AGE}-year-old with {cc}. {find2} [Spoke \
with {s:his/her} {s:wife/husband} {REL}.|]"""),
)
