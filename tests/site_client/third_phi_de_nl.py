"""German and Dutch templates of the third set (Germany, Austria, the Netherlands, Flanders): headers, letters between
doctors, dictations and footers. The slots are those of the English templates."""

from __future__ import annotations

GERMAN = {
    "de-arztbrief": """Sehr geehrte Frau Kollegin {docfam},

wir berichten über {g:Ihren Patienten, Herrn~Ihre Patientin, Frau} {fullmid|full}, geb. {dob}, \
{c:Fallnummer~Fall-Nr.~Pat.-Nr.} {pid}, {g:der~die} sich am {study} zur {exam} vorstellte.

Befund: {f3}
Beurteilung: {imp}

Mit freundlichen kollegialen Grüßen
{doc}""",
    "de-kopf": """Patient: {comma|FAMcomma|COMMA}   *{dobnum}
PID: {pid}   Auftragsnr.: {acc}
Untersuchung vom {studynum}, {time} Uhr: {exam}

{f3}

Beurteilung:
{imp}""",
    "de-aufklaerung": """{g:Herr~Frau} {fam} wurde am {study} über Risiken der Kontrastmittelgabe aufgeklärt und \
hat eingewilligt. {f} {g:Herrn~Frau} {famfull} wurde das Ergebnis mitgeteilt. {imp}""",
    "de-vergleich": """{exam} vom {studynum}. Zum Vergleich liegt die Voruntersuchung vom {prior|priornum} vor. {f2}
Gegenüber {priorday|prior} keine wesentliche Befundänderung. {imp}""",
    "de-diktat": """diktat zu {lower} geboren {dob} {exam} befund {f2} beurteilung {imp}""",
    "de-geborene": """Voraufnahmen unter dem {g:früheren Namen~Geburtsnamen} {maiden} vom {priornum}. \
{g:Herr~Frau} {famfull} klagt über {ind}. {f2} {imp}""",
    "de-fusszeile": """{f3}
{imp}
____________________________
{comma|rev|FAMgiven}, geb. am {dobnum} - {pidexact} - Seite 2/2 - gedruckt {studynum} - i.A. {docfam}""",
    "de-telefon": """Telefonische Befundmitteilung an Dr. {docfam} ({time} Uhr, {studynum}): Bei {g:Herrn~Frau} \
{c:~~Dr. ~Prof. }{fam} {c:besteht weiterhin~klinisch} {ind}. {f} Die {g:Ehefrau~Tochter} {kinf} ist informiert.""",
    "de-tumorboard": """Tumorkonferenz vom {study}: {faminit|full|initfam}, {age} J., {ind}. {exam}: {f2} \
Empfehlung: {imp}""",
    "de-station": """Stationärer Aufenthalt {studyrun}, Fall {pid}. Aufnahme wegen {ind}. {f} \
{g:Der Patient~Die Patientin} {full|rev} wurde in gutem Allgemeinzustand entlassen. Kontrolle am {odate}.""",
    "de-genitiv": """{g:Herrn~Frau} {famfull}{gen} Beschwerden bestehen seit drei Wochen. {exam}: {f2} {imp}""",
    "de-cd": """Mitgebrachte CD, beschriftet mit "{FULL|COMMA|full}" und {priornum}, Anforderung {acc}. {f2} {imp}""",
    "de-initialen": """{g:Patient~Patientin} {inits|initsgap}, geb. {dob}: {exam}. {f} {imp}""",
}
DUTCH = {
    "nl-huisartsbrief": """Geachte collega {docfam},

Betreft: {g:de heer~mevrouw} {initsfam|fullmid|full}, geboren {dob}, patiëntnummer {pid}

Op {study} verrichtten wij bij bovengenoemde patiënt een {exam}. {f2}
Conclusie: {imp}

Met collegiale groet,
{doc}, radioloog""",
    "nl-kop": """Naam: {comma|corelast|rev}
Geb.datum: {dobnum}  {g:M~V}
Pat.nr: {pid}   Onderzoeknr: {acc}
Datum onderzoek: {studynum} {time}

{exam}
{f3}
Conclusie: {imp}""",
    "nl-zin": """{g:Dhr.~Mevr.} {famfull} ({age} jaar) wordt verwezen wegens {ind}. {f2} {g:Dhr.~Mw.} {fam} is op \
de hoogte gesteld. {imp}""",
    "nl-vergelijk": """Vergeleken met {prior|priornum}: {f2} Ten opzichte van het onderzoek van {priorday} \
onveranderd. {imp}""",
    "nl-dictaat": """dictaat voor {lower} geboren {dob} {exam} {f2} conclusie {imp}""",
    "nl-meisjesnaam": """Eerder onderzoek staat onder {g:de vroegere naam~de meisjesnaam} {maiden}. {full}, {age} \
jaar, {ind}. {f2} {imp}""",
    "nl-voettekst": """{f3}
{imp}
--
{COMMA|REV|FAMcomma} | {dobnum} | {pidexact} | afgedrukt {studynum} {time}""",
    "nl-mdo": """MDO longen {study}: {initsfam|full|laminit}, {pid}. {ind}. {exam}: {f} Voorstel: {imp} Ingebracht \
door {docfam}.""",
    "nl-telefoon": """Telefonisch doorgegeven aan {doc} om {time} uur op {studynum}. Het betreft \
{g:de heer~mevrouw} {famfull}, geboren op {dob}. {f} De {g:echtgenote~dochter} {kinf} was erbij aanwezig.""",
    "nl-opname": """Opname {studyrun}. {exam} bij binnenkomst: {f} {g:Meneer~Mevrouw} {famfull} ging in goede \
conditie naar huis. Poli {odate}.""",
    "nl-cd": """Beelden op cd met opschrift "{FULL|comma|full}", d.d. {priornum|prior}, nr. {acc}. {f2} {imp}""",
    "nl-voornaam": """{given} {c:voelt zich goed~heeft minder klachten~is nog kortademig}. {f} Controle over zes \
weken, laatste bezoek {odate}. {imp}""",
    "nl-initialen": """Patiënt {inits|initsgap}, {age} jaar, {ind}. {exam} van {studynum}: {f} {imp}""",
    "nl-biopsie": """Identiteit gecontroleerd: {full|fullmid}, {dob}, {pid}. Toestemming verkregen op {study}. \
Vier biopten genomen met een 14G naald. {f}""",
}
