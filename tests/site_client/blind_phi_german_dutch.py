"""German and Dutch reports and letters, with {places} where a patient's own identifiers stand."""

from __future__ import annotations

GERMAN = {
    "de-briefkopf": """Betreff: {lastfirst}, geb. {dob}, Pat.-Nr. {mrn}

Sehr geehrter Herr Kollege,

vielen Dank für die freundliche Überweisung von {title}, die/der sich am {study} zum CT Abdomen vorstellte.

Befund: {body}

Mit freundlichen kollegialen Grüßen
{doctor}""",
    "de-kopfzeile": """{lastfirst} *{dobnum}  Fallnr.: {mrn}  Auftrag {acc}  MRT Knie links vom {studynum}
Klinische Angaben: Distorsion vor drei Wochen.
{body}""",
    "de-vergleich": """Röntgen-Thorax in 2 Ebenen vom {studynum}
Voraufnahmen: Zum Vergleich liegt die Untersuchung vom {prior} vor, ferner CT extern vom {olddate}.
{body}
Beurteilung: Gegenüber {prior} keine Befundänderung.""",
    "de-anamnese": """Fragestellung: {age}-jährige(r) {title} mit Z. n. Radiochemotherapie, Ausschluss Rezidiv.
{body}
Befund wurde mit {title} besprochen; die Tochter ({relative}) war anwesend.""",
    "de-diktat": """Diktat {doctor} zu {full}, geboren am {doblong}, Untersuchung am {studylong}. \
Absatz. {body} Neuer Absatz.
{last} ist aufzuklären. Ende des Diktats.""",
    "de-nachtrag": """NACHTRAG vom {studynum}:
Bei nachgereichten Voraufnahmen von {title} (Aufnahme-Nr. {mrn}) zeigt sich Größenkonstanz.
Ursprünglicher Befund zur Anforderung {acc}:
{body}""",
    "de-fusszeile": """{body}
________________________________________
{lastfirst}, {dobnum}, Seite 2 von 2 · gedruckt {stamp} · {accbare}""",
    "de-grossschrift": """BEFUND: {caps} GEB. {dob} UNTERSUCHUNG {study}
{body}
{title} WURDE STATIONÄR AUFGENOMMEN.""",
    "de-tumorboard": """Tumorkonferenz - vorgestellt: {lastfirst} ({age} J.), Pat.-ID {mrn}
Bildgebung: PET/CT {prior}, MRT {studynum}. {body}
Procedere: {title} wird durch {staff} einbestellt.""",
    "de-mammo": """Mammographie beidseits, {study}
{title} wurde über das Ergebnis informiert. Familienanamnese: Schwester ({relative}) erkrankt.
{body}
BI-RADS 2 beidseits, ACR b. Doppelbefundung {staff}.""",
    "de-patientenbrief": """{full}
Lindenweg 7

Ihre Untersuchung am {studylong}

Sehr geehrte(r) {title},

{body}
Bitte geben Sie bei Rückfragen die Nummer {mrn} an.""",
    "de-eingriff": """CT-gesteuerte PRT L5/S1 rechts am {studynum}
Team-Time-out: {full}, {dobnum}, Seite rechts. Aufklärung durch {staff}.
{body}
{last} konnte nach 30 min gehfähig entlassen werden.""",
    "de-kv-zeile": """Vers.-Nr. {mrn} / {any} / {dob} / {sexletter}
Schädel-CT nativ. {body}
Telefonisch an {doctor} um 17:45.""",
    "de-dicom-kopie": """PatientName: {pn}
PatientBirthDate: {dobraw}  StudyDate: {studyraw}  AccessionNumber: {acc}
{body}""",
    "de-paediatrie": """Sonographie der Säuglingshüfte, U3
{first} kam mit {relative} (Mutter). Geb. {dob}, 38. SSW.
{body}
Kontrolle für {first} in sechs Wochen.""",
}

DUTCH = {
    "nl-kop": """Patiënt: {lastfirst}   Geb.datum: {dob}   Pat.nr.: {mrn}
Onderzoek: CT thorax d.d. {study}   Ordernr. {acc}
Verslag: {body}
Conclusie: Geen aanwijzingen voor longembolie.""",
    "nl-brief": """Geachte collega,

Betreft: {full}, geboren op {doblong}, patiëntnummer {mrn}

Uw patiënt {title} bezocht op {study} onze afdeling voor MRI van de knie.
{body}
Met collegiale groet,
{doctor}""",
    "nl-vergelijking": """X-thorax PA en lateraal, {studynum}
Vergeleken met {prior} en elders verricht onderzoek van {olddate}.
Klinische gegevens: {age}-jarige {title}, koorts.
{body}""",
    "nl-dictaat": """dictaat van {staff} over {full} geboren {dob} nummer {mrn} nieuwe regel {body} \
{title} is geïnformeerd punt""",
    "nl-addendum": """ADDENDUM {studynum}: na overleg met {doctor} zijn de beelden van {title} herbeoordeeld.
Oorspronkelijk verslag ({acc}, {prior}):
{body}""",
    "nl-hoofdletters": """VERSLAG {caps} ({dobnum})
{body}
{title} TERUG NAAR AFDELING.""",
    "nl-mdo": """MDO mamma: {lastini}, {age} jr, {mrn}
Echo {prior}, mammografie {studynum}; BI-RADS 3. {body}
Dochter {relative} belt namens {title}.""",
    "nl-patientbrief": """{full}
Dorpsstraat 12

Beste {title},

Op {studylong} is bij u een foto gemaakt. {body}
Vermeld bij contact uw nummer {mrnbare}.""",
    "nl-voetregel": """{body}
-- {lastfirst} | {dobnum} | {mrn} | afgedrukt {stamp} | blad 1/1 --""",
    "nl-ingreep": """Echogeleide punctie {study}. Time-out: {any}, {dobnum}.
{body}
{last} had na afloop geen klachten. Partner ({relative}) rijdt.""",
}
