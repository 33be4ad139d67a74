"""Dutch and Flemish reports, letters, notes and list lines of the fifth set of texts, with the sentences they are
filled with."""

from __future__ import annotations

FILLERS: dict[str, tuple[str, ...]] = {
    "exam": (
        "CT-thorax met contrast", "CT abdomen", "MRI hersenen", "X-thorax", "Echo abdomen", "MRI LWK", "MRI knie links",
        "CT-cerebrum blanco", "Mammografie beiderzijds", "X-bekken en heup rechts",
    ),
    "ind": (
        "Verdenking longembolie.", "Gevallen, pijn rechterheup.", "Controle bekende longnodus.", "Buikpijn e.c.i.",
        "Chronische lage rugpijn.", "Stadiëring coloncarcinoom.", "Hoesten en koorts.", "Hoofdpijn sinds 3 weken.",
    ),
    "f1": (
        "Geen longembolie.", "Nodus in de rechterbovenkwab van {mm} mm (serie 4, beeld 87).", "Geen pleuravocht.",
        "Hart niet vergroot.", "Lever zonder focale afwijkingen.", "Geen intracraniële bloeding.", "Geen hydronefrose.",
        "Degeneratieve veranderingen L4-L5.", "Geen fractuur.", "Kleine Bakerse cyste.", "Scherpe sinus.",
    ),
    "f2": (
        "Geen pathologisch vergrote klieren.", "Status na cholecystectomie.", "Niercyste links van {mm} mm.",
        "Vaatkalk.", "Diverticulose van het sigmoïd.", "Geen vrij vocht.", "Artrose van de facetgewrichten.",
    ),
    "impr": (
        "Geen acute pathologie.", "Stabiele nodus.", "Geen aanwijzingen voor metastasen.", "Pneumonisch infiltraat.",
        "Kanaalstenose L4-L5.", "BI-RADS 2.", "Controle over 3 maanden geadviseerd.",
    ),
    "idlabel": ("Patiëntnummer:", "Patiëntnr.", "pat.nr.", "PID:", "Dossiernummer", "ZIS-nummer:"),
    "acclabel": ("Onderzoeksnummer:", "Accessienummer", "Acc.nr.", "Ordernr.:"),
    "doblabel": ("geb.", "geb. datum:", "geboren", "geboren op", "Geboortedatum:", "°"),
    "title": ("[dhr.|mevr.]", "[Dhr.|Mw.]", "[De heer|Mevrouw]", "[meneer|mevrouw]"),
}  # fmt: skip

TEMPLATES: dict[str, tuple[int, str]] = {
    "brief": (7, (
        "Geachte collega {dr},\n\nBetreft: {title} {full}, {doblabel} {dob}, {idlabel} {id}\n\nBovengenoemde patiënt "
        "zag ik "
        "op {study} op de polikliniek. {ind} {exam}: {f1} {f2}\nConclusie: {impr}\n\nMet vriendelijke groet,\n{dr}, "
        "radioloog"
    )),
    "kop": (6, (
        "Afdeling Radiologie\nNaam: {head}\n{doblabel} {dob}  [M|V]\n{idlabel} {id}\n{acclabel} {acc}\nDatum "
        "onderzoek: "
        "{study}\nAanvrager: {dr}\n\n{exam}\nKlinische gegevens: {ind}\nVerslag: {f1} {f2}\nConclusie: {impr}"
    )),
    "verslag": (5, (
        "{exam} d.d. {study}<, {time} uur|>.\nKlinische gegevens: {ind}\nVergelijking: <CT d.d. "
        "{prior}|{prior}|geen>.\n"
        "{f1} {f2} {f1}\nConclusie: {impr}"
    )),
    "zin": (4, (
        "{title} {fam} werd op {study} gezien i.v.m. klachten. {ind} {exam}: {f1} <De uitslag is met {title} {fam} "
        "besproken."
        "|Telefonisch doorgegeven aan dr. {dr}.|[Echtgenote {woman}|Echtgenoot {man}] was aanwezig.> {impr}"
    )),
    "mdo": (3, "MDO {study}: {head}, {doblabel} {dob}, {idlabel} {id}. {exam} van {prior}: {f1} Beleid: {impr}"),
    "vergelijk": (2, "Vergeleken met het onderzoek van <{prior}|{short}> {f1} {f2} <Opname {range}. |>{impr}"),
    "lijst": (2, "{time} {head} {dob} {id} {exam} {acc} <poli|klinisch>"),
    "child": (2, (
        "{giv} is {age} jaar, {doblabel} {dob}, en <is van de trampoline gevallen|heeft al 2 weken pijn>. {exam} op "
        "{study}: "
        "{f1} {giv} was rustig. Moeder ({woman}) aanwezig. {impr}"
    )),
    "velden": (1, (
        "Achternaam: {last}\nVoornaam/voorletters: {first}\nGeboortedatum: {dob}\n{idlabel} {id}\n{exam} "
        "{study}\n{f1} {impr}"
    )),
    "voet": (2, "{f1} {impr}\nGeautoriseerd op {study} om {time} door {dr}\n{head} {doblabel} {dob} pagina 2 van 2"),
}
