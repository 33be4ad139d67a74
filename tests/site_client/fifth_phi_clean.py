"""Ordinary radiology sentences in five languages that name nobody: measurements, doses, strength, fractions, image and
series numbers, eponyms, levels, stages, scores, months with a year. {mm} {n} {k} {img} {tot} {y} are numbers."""

from __future__ import annotations

import random

SENTENCES: dict[str, tuple[str, ...]] = {
    "en": (
        "The right upper lobe nodule measures {mm} x {n} mm (series {n}, image {img}/{tot}).",
        "Key image {img}/{tot} shows a {mm} mm hypodensity in segment VII.", "Motor strength is {k}/5 in the left arm.",
        "Strength 5/5 throughout, reflexes 2+ and symmetric.",
        "There is loss of 2/3 of the vertebral body height at L1.",
        "Anterior wedging of T12 with 1/3 height loss.",
        "Disc osteophyte complex at C5/C6 and C6/7 with mild stenosis.",
        "Broad-based bulge at L4-5 abutting the traversing L5 root.", "Grade 2/4 hydronephrosis on the left.",
        "Stage pT2 N1 M0 by the 8th edition.", "Gleason 3+4=7 in 6/12 cores.",
        "PI-RADS 4/5 lesion, left peripheral zone.",
        "Baker's cyst measuring {mm} mm.", "Schmorl's nodes at multiple levels.", "No Hill-Sachs or Bankart lesion.",
        "Dose: acetaminophen 500 mg q6h, enoxaparin 40 mg daily.", "100 mL iohexol 350 mg/mL at 3.5 mL/s via 18G.",
        "Heart rate 72/min, BP 128/76, SpO2 97% on 2 L.", "CTDIvol {n}.4 mGy, DLP {img} mGy*cm.", "Pain 7/10 at rest.",
        "Last mammogram in March {y} was negative.", "Status post CABG in {y}.",
        "Follow-up in 6-12 months is recommended.",
        "Crohn's disease involving the terminal ileum.", "Hounsfield units of {n} to {mm} in the left adrenal nodule.",
        "Findings suspicious for Hodgkin lymphoma; Deauville 4.", "Circle of Willis is patent.",
        "Foley catheter in place.",
        "ASPECTS 9/10.", "GCS 14/15 on arrival.", "Salter-Harris II fracture of the distal radius.",
        "No Kerley B lines.",
        "Kellgren-Lawrence grade 3 osteoarthritis.", "Pancreatic duct of Wirsung {n} mm.", "Couinaud segments 5/6.",
        "The spleen measures 11.{n} x 4.{n} x 9.{n} cm.", "No filling defect in the main, lobar or segmental arteries.",
        "Comparison is made to the radiograph of the previous day.", "Ejection fraction 55-60%.",
        "Chiari I, tonsils 7 mm.",
        "The patient is a smoker, {mm} pack-years.", "Creatinine 1.{n} mg/dL, eGFR {mm} mL/min.",
        "Agatston score {img}.",
        "T1/T2 hypointense focus, b=1000, slice {img} of {tot}.",
        "Image quality is limited by motion on series {n}/{mm}.",
        "Nodes: 0/14 positive.", "Ribs 4-7 fractured on the left.", "Meniscus tear, posterior horn, zone 2/3.",
        "The patient will call the referring office for results.",
    ),
    "de": (
        "Rundherd im rechten Unterlappen, {mm} x {n} mm (Serie {n}, Bild {img}/{tot}).",
        "Kraftgrad {k}/5 Fußheber links.",
        "Höhenminderung von LWK 1 um 2/3.", "Osteochondrose C5/C6 und C6/7.",
        "Protrusion L4/5 mit Kontakt zur Wurzel L5.",
        "Keine Hill-Sachs-Läsion.", "Bakerzyste von {mm} mm.", "Schmorl-Knoten BWK 11/12.", "Enoxaparin 40 mg 1-0-0.",
        "Ibuprofen 600 mg 1-1-1, Pantoprazol 20 mg 0-0-1.", "Tumorstadium pT3 N1 (2/14) M0.",
        "Gleason 3+4, 4/12 Stanzen.",
        "80 ml Iomeprol 400, Flow 3,5 ml/s.", "RR 130/80 mmHg, Puls 72/min.", "DLP {img} mGy*cm.", "Schmerz NRS 6/10.",
        "Z. n. Hüft-TEP rechts {y}.", "Letzte Kontrolle im März {y} unauffällig.", "Kontrolle in 3-6 Monaten.",
        "Morbus Crohn mit Befall des terminalen Ileums.", "Kein Hinweis auf Morbus Hodgkin.", "Fazekas 2/3.",
        "Milz 11,{n} x 4,{n} cm.", "Fraktur der Rippen 4-7 links.", "Arthrose nach Kellgren und Lawrence Grad {k}.",
        "Kreatinin 1,{n} mg/dl, GFR {mm} ml/min.", "Blasenkatheter nach Foley regelrecht.", "GCS 14/15.",
        "Kleines Hämatom am Becken.", "Groß imponierender Befund, weiß abgrenzbar, kurz gestielt.",
    ),
    "nl": (
        "Nodus rechts van {mm} x {n} mm (serie {n}, beeld {img}/{tot}).", "Kracht {k}/5 linkerbeen.",
        "Hoogteverlies van 2/3 van wervel L1.", "Discopathie C5/C6 en C6/7.", "Bulging L4-5 met contact met wortel L5.",
        "Geen Hill-Sachs-laesie.", "Bakerse cyste van {mm} mm.", "Noduli van Schmorl Th11/12.",
        "Paracetamol 4 dd 1000 mg.",
        "Fraxiparine 0,3 ml 1 dd.", "Stadium pT2 N1 (1/12) M0.", "Gleason 3+4=7 in 4/10 biopten.",
        "Flow 3,5 ml/s, 80 ml.",
        "RR 130/80, pols 72/min.", "DLP {img} mGy*cm.", "Pijnscore 6/10.", "Status na THP rechts in {y}.",
        "Laatste controle in maart {y}.", "Controle over 6-12 maanden.", "Ziekte van Crohn van het terminale ileum.",
        "Cirkel van Willis is open.", "Fazekas 2/3, MTA 1/4.", "Milt 11,{n} x 4,{n} cm.", "Fractuur rib 4-7 links.",
        "Kellgren-Lawrence graad {k}.", "Kreatinine 9{n}, eGFR {mm}.", "EMV 4/5/6.",
        "Recent vergelijk niet beschikbaar.",
        "Groot hematoom, wit op T1, met enkele kleine bellen lucht.", "Kleine witte stip op beeld {img}.",
    ),
    "fr": (
        "Nodule droit de {mm} x {n} mm (série {n}, image {img}/{tot}).", "Force motrice cotée à {k}/5 à gauche.",
        "Tassement des 2/3 du corps vertébral de L1.", "Discopathie C5/C6 et C6/7.",
        "Saillie discale L4-5 au contact de L5.",
        "Pas d'encoche de Hill-Sachs.", "Kyste de Baker de {mm} mm.", "Hernies de Schmorl étagées.",
        "Paracétamol 1 g x 3/j.",
        "Énoxaparine 4000 UI/j.", "Stade pT2 N1 (2/14) M0.", "Gleason 3+4 sur 4/12 biopsies.", "80 mL à 3,5 mL/s.",
        "TA 130/80, pouls 72/min.", "PDL {img} mGy.cm.", "Douleur EVA 6/10.", "Prothèse de hanche droite en {y}.",
        "Dernier contrôle en mars {y}.", "Contrôle à 6-12 mois.", "Maladie de Crohn iléale terminale.",
        "Polygone de Willis perméable.", "Fazekas 2/3.", "Rate de 11,{n} x 4,{n} cm.",
        "Fractures des arcs 4-7 gauches.",
        "Petit épanchement, bonne vacuité du cul-de-sac de Douglas.", "Créatinine 9{n} µmol/L, DFG {mm}.",
        "Glasgow 14/15.",
        "Canal de Wirsung fin, {n} mm.", "Le petit bassin est libre, foie blanc brillant.", "Atteinte du 1/3 moyen.",
    ),
    "es": (
        "Nódulo derecho de {mm} x {n} mm (serie {n}, imagen {img}/{tot}).",
        "Fuerza {k}/5 en miembro inferior izquierdo.",
        "Pérdida de 2/3 de altura del cuerpo vertebral L1.", "Discopatía C5/C6 y C6/7.",
        "Protrusión L4-5 que contacta L5.",
        "Sin lesión de Hill-Sachs.", "Quiste de Baker de {mm} mm.", "Nódulos de Schmorl.", "Paracetamol 1 g cada 8 h.",
        "Enoxaparina 40 mg/24 h.", "Estadio pT2 N1 (2/14) M0.", "Gleason 3+4 en 4/12 cilindros.", "80 ml a 3,5 ml/s.",
        "TA 130/80, FC 72/min.", "DLP {img} mGy*cm.", "Dolor EVA 6/10.", "Prótesis de cadera derecha en {y}.",
        "Último control en marzo de {y}.", "Control en 6-12 meses.", "Enfermedad de Crohn ileal.",
        "Polígono de Willis permeable.", "Fazekas 2/3.", "Bazo de 11,{n} x 4,{n} cm.",
        "Fracturas costales 4-7 izquierdas.",
        "Nódulo blanco en secuencias T2, sin restricción.", "Creatinina 1,{n} mg/dl, FG {mm}.", "Glasgow 14/15.",
        "Conducto de Wirsung de {n} mm.", "Dolores al movimiento, discos normales.", "Tercio medio, 1/3 afectado.",
    ),
}  # fmt: skip


def clean_text(rng: random.Random, language: str) -> str:
    """Two to five sentences, numbered, on lines or in one paragraph."""
    chosen = rng.sample(SENTENCES[language], rng.randint(2, 5))
    filled = []
    for sentence in chosen:
        total = rng.randint(24, 420)
        filled.append(
            sentence.format(
                mm=rng.randint(10, 48), n=rng.randint(2, 9), k=rng.randint(2, 4), img=rng.randint(5, total), tot=total,
                y=rng.randint(2004, 2023),
            )
        )
    layout = rng.random()
    if layout < 0.2:
        return "\n".join(f"{number}. {sentence}" for number, sentence in enumerate(filled, 1))
    text = ("\n" if layout < 0.35 else " ").join(filled)
    return text.upper() if rng.random() < 0.06 else text
