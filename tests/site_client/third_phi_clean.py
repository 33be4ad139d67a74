"""Sentences of five languages for texts that identify nobody: eponyms, vertebral levels, staging, doses, technical
settings, bare years and ages, and words that are names elsewhere, one per line."""

from __future__ import annotations

CLEAN = {
    "en": """Hill-Sachs deformity with a small bony Bankart lesion.
    Disc osteophyte complexes at C5/C6 and C6/C7 with mild foraminal narrowing.
    Adenocarcinoma of the sigmoid, radiological stage T3 N1 M0.
    Agatston score 212, 81st percentile for age and sex.
    Metformin 500 mg twice daily was withheld for 48 hours; eGFR 54 mL/min.
    Gadobutrol 7.5 mL was injected at 2 mL/s, lot expiry 2027.
    Bosniak IIF cyst in the upper pole of the right kidney, 32 mm.
    Schatzker type II fracture of the lateral tibial plateau.
    PI-RADS 4 lesion in the left mid peripheral zone, 11 x 9 mm, ADC 650.
    Axial T2, sagittal T1 and STIR, 3 mm slices, TR 4200, TE 92.
    The circle of Willis is complete; no aneurysm larger than 3 mm.
    Virchow-Robin spaces are prominent in the basal ganglia.
    Morison's pouch and the pouch of Douglas contain no free fluid.
    Right hepatectomy in 2016, otherwise unremarkable surgical history.
    Kellgren-Lawrence grade 3 changes of the medial compartment.
    A 68-year-old smoker with 40 pack-years; Lung-RADS 2.
    Hounsfield units of the adrenal nodule are 8 before and 62 after contrast.
    Segments S2/S3 are supplied by a replaced left hepatic artery from the left gastric.
    Sutures and clips lie in the axilla, levels I and II.
    May represent early interstitial change; close follow-up is advised.
    Gleason 3+4=7, PSA 6.8 ng/mL, prostate volume 42 cc.
    Salter-Harris type II injury of the distal radius.
    The Cobb angle from T5 to T11 is 24 degrees.
    kVp 120, mAs 85, DLP 301.4, CTDIvol 6.92.
    Ranson's criteria were not recorded; Balthazar grade C.""",
    "de": """Hill-Sachs-Delle und knöcherne Bankart-Läsion.
    Osteochondrosen HWK 5/6 und HWK 6/7 mit Einengung der Neuroforamina.
    Adenokarzinom des Sigmas, Stadium T3 N1 M0.
    Metformin 500 mg 1-0-1 pausiert, GFR 54 ml/min.
    Agatston-Score 212, 81. Perzentile.
    Bosniak-IIF-Zyste am rechten Nierenoberpol, 32 mm.
    Schatzker-II-Fraktur des lateralen Tibiaplateaus.
    PI-RADS-4-Läsion links, 11 x 9 mm.
    Axiale T2w, sagittale T1w und STIR, Schichtdicke 3 mm.
    Circulus Willisii regelrecht angelegt.
    Im Douglas-Raum und im Morison-Pouch keine freie Flüssigkeit.
    Z. n. Hemihepatektomie rechts 2016.
    Gonarthrose Grad III nach Kellgren und Lawrence.
    68-jähriger Raucher mit 40 Packungsjahren.
    Nebennierenknoten nativ 8 HE, nach Kontrastmittel 62 HE.
    Weber-B-Fraktur ohne Dislokation.
    Lisfranc-Gelenk kongruent, Böhler-Winkel 28 Grad.
    Gleason 3+4=7, PSA 6,8 ng/ml, Volumen 42 ml.
    Cobb-Winkel von BWK 5 bis BWK 11 24 Grad.
    DLP 301,4 mGy*cm, CTDIvol 6,92 mGy.
    Schwarze Blut-Sequenz ohne Nachweis eines Wandhämatoms.
    Heparin 5000 IE vor der Intervention.
    Scheuermann-Veränderungen der mittleren BWS.""",
    "nl": """Hill-Sachsdefect met benige Bankartlaesie.
    Discopathie C5-C6 en C6-C7 met foramenvernauwing.
    Adenocarcinoom van het sigmoïd, stadium T3N1M0.
    Metformine 500 mg tweemaal daags gestaakt, eGFR 54.
    Agatstonscore 212, 81e percentiel.
    Bosniak IIF-cyste rechter bovenpool, 32 mm.
    PI-RADS 4-laesie links, 11 x 9 mm, volume 42 cc.
    Axiale T2, sagittale T1 en STIR, coupedikte 3 mm.
    Cirkel van Willis compleet aangelegd.
    Geen vrij vocht in het cavum Douglasi.
    Hemihepatectomie rechts in 2016.
    Gonartrose graad 3 volgens Kellgren en Lawrence.
    Roker van 68 jaar met 40 packyears.
    Bijniernodus 8 HU blanco, 62 HU na contrast.
    Weber B-fractuur zonder dislocatie.
    Gleason 3+4=7, PSA 6,8 ng/ml.
    Cobbse hoek van Th5 tot Th11 24 graden.
    DLP 301,4 mGy*cm, CTDIvol 6,92 mGy.
    Witte stof met enkele aspecifieke laesies, Fazekas 1.
    Heparine 5000 IE voorafgaand aan de ingreep.
    De groot bemeten vena saphena magna is doorgankelijk.""",
    "fr": """Encoche de Hill-Sachs et lésion de Bankart osseuse.
    Discopathies C5-C6 et C6-C7 avec rétrécissement foraminal.
    Adénocarcinome du sigmoïde classé T3 N1 M0.
    Metformine 500 mg deux fois par jour suspendue, DFG 54 ml/min.
    Score d'Agatston à 212, 81e percentile.
    Kyste Bosniak IIF du pôle supérieur du rein droit, 32 mm.
    Lésion PI-RADS 4 gauche, 11 x 9 mm.
    Coupes axiales T2, sagittales T1 et STIR de 3 mm.
    Polygone de Willis complet.
    Pas d'épanchement du cul-de-sac de Douglas.
    Hépatectomie droite en 2016.
    Gonarthrose stade 3 de Kellgren et Lawrence.
    Fumeur de 68 ans, 40 paquets-années.
    Nodule surrénalien à 8 UH sans injection et 62 UH après.
    Fracture de Pouteau-Colles peu déplacée.
    Gleason 3+4=7, PSA 6,8 ng/ml, volume 42 ml.
    Angle de Cobb de T5 à T11 mesuré à 24 degrés.
    PDL 301,4 mGy.cm, IDSV 6,92 mGy.
    Canal lombaire étroit en L3-L4, le grand axe mesure 9 mm.
    Héparine 5000 UI avant le geste.
    Maladie de Scheuermann séquellaire.""",
    "es": """Lesión de Hill-Sachs y Bankart óseo.
    Discopatía C5-C6 y C6-C7 con estenosis foraminal.
    Adenocarcinoma de sigma, estadio T3 N1 M0.
    Metformina 500 mg cada 12 horas suspendida, FG 54 ml/min.
    Índice de Agatston de 212, percentil 81.
    Quiste Bosniak IIF en polo superior del riñón derecho, 32 mm.
    Lesión PI-RADS 4 izquierda, 11 x 9 mm.
    Cortes axiales T2, sagitales T1 y STIR de 3 mm.
    Polígono de Willis completo.
    Sin líquido libre en el fondo de saco de Douglas.
    Hepatectomía derecha en 2016.
    Gonartrosis grado 3 de Kellgren y Lawrence.
    Fumador de 68 años, 40 paquetes-año.
    Nódulo suprarrenal de 8 UH basal y 62 UH tras contraste.
    Fractura de Colles poco desplazada.
    Gleason 3+4=7, PSA 6,8 ng/ml, volumen 42 cc.
    Ángulo de Cobb de T5 a T11 de 24 grados.
    PDL 301,4 mGy.cm, CTDIvol 6,92 mGy.
    Cabeza femoral izquierda con signos de necrosis, estadio II de Ficat.
    Heparina 5000 UI antes del procedimiento.
    Enfermedad de Scheuermann.""",
}
