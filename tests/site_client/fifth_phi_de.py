"""German reports, letters, notes and list lines of the fifth set of texts, with the sentences they are filled with."""

from __future__ import annotations

FILLERS: dict[str, tuple[str, ...]] = {
    "exam": (
        "CT Thorax mit KM", "CT Abdomen/Becken", "MRT Schädel nativ und nach KM", "Röntgen Thorax in 2 Ebenen",
        "Sonographie Abdomen", "MRT LWS", "MRT Kniegelenk links", "CCT nativ", "Mammographie bds.",
    ),
    "ind": (
        "V. a. Lungenembolie.", "Z. n. Sturz, Schmerzen rechte Hüfte.", "Bekannter Rundherd, Verlaufskontrolle.",
        "Chronische Lumbalgie.", "Unklare Oberbauchschmerzen.", "Staging bei Kolonkarzinom.", "Fieber, Husten.",
    ),
    "f1": (
        "Kein Nachweis einer Lungenembolie.", "Rundherd im rechten Oberlappen, {mm} mm (Serie 4, Bild 87).",
        "Kein Pleuraerguss, kein Pneumothorax.", "Herz normal groß.", "Leber homogen, keine fokale Läsion.",
        "Keine intrakranielle Blutung.", "Degenerative Veränderungen in Höhe LWK 4/5.", "Kein Harnstau.",
        "Kein Frakturnachweis.", "Kleine Bakerzyste.", "Altersentsprechender Befund des Hirnparenchyms.",
    ),
    "f2": (
        "Keine vergrößerten Lymphknoten.", "Z. n. Cholezystektomie.", "Nierenzyste links, {mm} mm.", "Aortensklerose.",
        "Sigmadivertikulose.", "Keine freie Flüssigkeit.", "Spondylarthrose.",
    ),
    "impr": (
        "Kein akut pathologischer Befund.", "Größenkonstanter Rundherd.", "Kein Hinweis auf Metastasen.",
        "Pneumonisches Infiltrat rechts basal.", "Spinalkanalstenose L4/5.", "BI-RADS 2.",
        "Verlaufskontrolle empfohlen.",
    ),
    "idlabel": ("Pat.-ID:", "Pat.-Nr.", "Fallnummer", "Fall-Nr.:", "Patientennummer:", "PID"),
    "acclabel": ("Auftragsnr.:", "Auftragsnummer", "Accession-Nr.", "Unters.-Nr.:", "ACC"),
    "doblabel": ("geb.", "geb. am", "geboren am", "*", "Geburtsdatum:", "Geb.-Datum:"),
    "title": ("[Herr|Frau]", "[Hr.|Fr.]", "Pat."),
    "acct": ("[Herrn|Frau]", "[Hrn.|Fr.]", "[Herrn|Frau]"),
}  # fmt: skip

TEMPLATES: dict[str, tuple[int, str]] = {
    "brief": (8, (
        "<Sehr geehrter Herr Kollege|Sehr geehrte Frau Kollegin> {dr},\n\nwir berichten über {acct} {full}{maiden}, "
        "{doblabel} {dob}, "
        "<wohnhaft in Neustadt, |>{idlabel} {id}.\n\nUntersuchung: {exam} vom {study}\nIndikation: {ind}\n\nBefund: "
        "{f1} "
        "{f2}\nBeurteilung: {impr}\n\nMit freundlichen kollegialen Grüßen\nDr. med. {dr}"
    )),
    "kopf": (6, (
        "Institut für Radiologie\nName: {head}\n{doblabel} {dob}\n{idlabel} {id}\n{acclabel} "
        "{acc}\nUntersuchungsdatum: "
        "{study}\nZuweiser: Dr. {dr}\n\n{exam}\nKlinik: {ind}\nBefund: {f1} {f2} {f1}\nBeurteilung: {impr}"
    )),
    "befund": (5, (
        "{exam} vom {study}<, {time} Uhr|>:\nAnamnese: {ind}\nVoraufnahmen: <CT vom {prior}|{prior}|keine>.\n"
        "Befund: {f1} {f2}\nBeurteilung: {impr}"
    )),
    "satz": (4, (
        "{title} {fam} stellte sich am {study} zur {exam} vor. {f1} {f2} <Der Befund wurde mit {acct} {fam} besprochen."
        "|[Die Ehefrau {woman}|Der Ehemann {man}] wurde informiert.|> {impr}"
    )),
    "verlauf": (3, (
        "Im Vergleich zur Voruntersuchung vom {prior} {f1} <Gegenüber dem {short} unverändert.|Stationär {range}.> "
        "Rücksprache mit OA Dr. {dr}. {impr}"
    )),
    "tumorboard": (3, (
        "Tumorkonferenz {study}: {head}, {doblabel} {dob}, {idlabel} {id}. {ind} {exam}: {f1} Procedere: "
        "<Vorstellung bei Dr. {dr}|Reevaluation in 3 Monaten>."
    )),
    "liste": (2, "{time} {head} *{dob} {id} {exam} <Station 4B|ambulant> {acc}"),
    "fuss": (3, "{f1} {impr}\n\nElektronisch freigegeben {study} {time}, Dr. {dr}\n{head}, {doblabel} {dob} Seite 2/2"),
    "child": (2, (
        "{giv}, {age} Jahre, {doblabel} {dob}. {giv} <ist gestürzt|war kooperativ>. {exam} am "
        "{study}: {f1}"
        " Die Mutter, Frau {woman}, war anwesend. {impr}"
    )),
    "maske": (2, (
        "Name: {last}  Vorname: {first}  Geb.: {dob}  {idlabel} {id}\n{exam} {study}\n{f1} {f2}\nBeurteilung: {impr}"
    )),
    "kuerzel": (1, "Pat. {ini}, {age} J., {exam} vom {study}. {f1} {impr}"),
}
