"""Templates of the fourth set in German: Befunde, Arztbriefe, headers of a RIS, notes of wards and conferences."""

from __future__ import annotations

from tests.site_client.fourth_phi_render import Template as T

TEMPLATES = (
    T("de kopf", "de", 50, """[Patient|Name|Pat.|Patient/in]: {NH}
[Geb.|Geburtsdatum|geb. am|Geb.-Dat.]: {DOB}
[Pat.-ID|Patientennummer|Fallnummer|Fall-Nr.|PID]: {ID}
[Untersuchung|Leistung]: {exam} vom {SD}[, {hr}:{min} Uhr|]
[Anforderungsnr.|Auftragsnummer|Accession]: {ACC}
[Zuweiser|Überweiser]: {DR}

Klinische Angaben: {cc}.
Befund: {find3}
Beurteilung: {imp}"""),
    T("de brief", "de", 50, """[Ort, den |Datum: |]{SD}
[Sehr geehrter Herr Kollege|Sehr geehrte Frau Kollegin|Sehr geehrte Kolleginnen und Kollegen],

[vielen Dank für die Überweisung {s:Ihres Patienten Herrn/Ihrer Patientin Frau}|\
wir berichten über {s:Ihren Patienten Herrn/Ihre Patientin Frau}|wir berichten über {s:Herrn/Frau}] {N}, [geb. \
{DOB}|geb. am {DOB}|* {DOB}|geboren am {DOB}][, wohnhaft in hiesiger Stadt|], [{exam} vom {SD}|die Untersuchung \
erfolgte am {SDs}].

[Anamnese|Indikation]: {cc}. {find2} [{TF} stellte sich zuletzt am {PD} vor.|Bei {TF} besteht weiterhin \
Kontrollbedarf.|Wir haben {TF} und {s:die Ehefrau/den Ehemann} {REL} aufgeklärt.]

Mit freundlichen kollegialen Grüßen
{DR}"""),
    T("de vergleich", "de", 45, """{exam} [vom {SD}|{SD}|am {SD}]
[Zum Vergleich liegt die Voruntersuchung vom {PDs} vor.|Im Vergleich zur VU vom {PDs}:|Vgl. mit {PD}:|VU vom {PDs} \
und {OD}.] {find3}
Beurteilung: [Im Verlauf zum {PDs} |Gegenüber {PDs} ]unverändert. {imp}"""),
    T("de kurz", "de", 30, """{find2} {imp} [{TF} hat die Untersuchung gut toleriert.|{TF} wurde telefonisch \
informiert.|Telefonisch an {DR} am {SDs} um {hr}:{min} Uhr.|Aufklärung von {TF} durch {ST}.|{F}s Voraufnahmen \
fehlen.]"""),
    T("de fuss", "de", 28, """{find3}
Beurteilung: {imp}

[Befunder|Vidiert|Freigegeben]: {ST}, {SD} {hr}:{min}
[{NH}, *{DOB}, {ID}|{NH} ({DOB}) Seite 1/2|Pat.: {NH} - Auftrag {ACC}|Gedruckt am {OD} / {NH} / {ID}]"""),
    T("de visite", "de", 20, """[Visite|Verlauf] {SDs}: {TF}, {AGE} J., [Zi. {num}|Bett {num}], {cc}. RöTx [vom \
{PDs}|{PDs}]: {find} [Prozedere|P]: {exam}. [Tochter {MUM} informiert.|Rücksprache {DR}.|]"""),
    T("de board", "de", 20, """Tumorkonferenz [am {SD}|vom {SD}]
[Pat. |]{N}, [geb. {DOB}|{DOB}], [ID {ID}|Fallnr. {ID}|vorgestellt von {DR}]
[ED {MY}|Erstdiagnose {MY}|Zustand nach Operation]. {find2} Empfehlung: {imp}"""),
    T("de kind", "de", 18, """[{G}, {AGE} Jahre,|Der kleine {s:Junge/Patient} {G}|{G} ({DOB})] wurde wegen {cc} \
vorgestellt. [Begleitet von der Mutter {MUM}.|] {find} [Wir bitten um Wiedervorstellung von {G}.|{G} war \
kooperativ.]""", True),
    T("de stationaer", "de", 20, """[Stationärer Aufenthalt|Wir berichten über den stationären Aufenthalt] von {N} \
[vom {PD} bis {SD}|{PD} - {SD}|{RANGE}|({PDs} bis zum {SD})]. {find2} [{TF} wurde in gutem Zustand entlassen.|Fall \
{ID}.]"""),
    T("de nachtrag", "de", 14, """[Nachtrag|Ergänzung] [vom {SD}|{SD}] zu [Auftrag|Nr.] {ACC}: {imp} [Nach Eingang \
der Aufnahmen vom {PD}.|Betrifft {NH}.|Rücksprache mit {DR}.]"""),
    T("de initialen", "de", 5, """[Pat. {I}|Patient {I}], {AGE} J.: {find2} [VU {PDs}.|Auftrag {ACC}.]"""),
)
