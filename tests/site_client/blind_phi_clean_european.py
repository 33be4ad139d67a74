"""German, Dutch, French and Spanish sentences that identify nobody."""

from __future__ import annotations

GERMAN = """
Rundherd im rechten Oberlappen, {mm} x {mm} mm (Serie 3, Bild {n3}).
Kein Pleuraerguss, kein Pneumothorax, kein Infiltrat.
Leber im Längsdurchmesser {cm} cm, Milz 10,4 x 4,1 cm.
Bandscheibenprotrusion LWK 4/5 und L5/S1, Spinalkanalweite 12 mm.
Kleine Baker-Zyste, {mm} mm.
Morbus Crohn des terminalen Ileums, Wandstärke 6 mm.
Bekannter Morbus Hodgkin, Deauville 2.
Morton-Neurom im dritten Intermetatarsalraum.
Weber-B-Fraktur des Außenknöchels, AO 44-B1.
Zystische Läsion, Bosniak IIF, {mm} mm.
Kontrastmittel: {ml} ml Imeron 350 i.v., Fluss 3,5 ml/s.
CTDIvol 7,1 mGy, DLP {n3} mGy*cm.
Dosisflächenprodukt {n3},2 cGy*cm2, Durchleuchtungszeit 1,8 min.
PI-RADS 3 in der Transitionalzone, PSA 5,9 ng/ml.
BI-RADS 4a links, ACR c, Clip-Markierung in situ.
TI-RADS 2, Struma nodosa, Volumen rechts 14 ml.
Voruntersuchungen liegen nicht vor.
Zum Vergleich CT aus dem Vorjahr.
Kontrolle in 3-6 Monaten empfohlen.
ZVK mit Spitze in Projektion auf die V. cava superior.
Magensonde und Blasenkatheter 16 Ch regelrecht.
Der Tubus liegt 4 cm oberhalb der Carina.
Kopf des Pankreas unauffällig, Gang 2 mm.
Knöchel und Fuß ohne Frakturnachweis.
Lange Bizepssehne intakt, kleiner Gelenkerguss.
Groß und klein fleckige Verdichtungen beidseits.
Weiße Substanz mit Marklagerläsionen, Fazekas 1.
Spiral-CT mit 1,25 mm Schichtdicke, Kernel B30f, 120 kV.
Sequenzen: T1 TSE, T2 TIRM, PD fs, TE 102, TR {n3}0.
Gerät Station 2, Detektor Nr. 3, Softwarestand VB20.
EF 58 %, LVEDD 49 mm, keine Wandbewegungsstörung.
IMD rechts 0,8 mm, Stenose 40 % nach NASCET.
Hüftsonographie: Alphawinkel 63 Grad, Typ Ia nach Graf beidseits.
Befund telefonisch um 16:20 Uhr an die Station übermittelt.
Der Patient war nüchtern; Kreatinin 0,9 mg/dl, TSH 1,2 mU/l.
Die Tochter der Patientin war bei der Aufklärung anwesend.
Sehr geehrte Frau Kollegin, vielen Dank für die Zuweisung.
56-jährige Patientin mit Mastodynie links.
Z. n. Appendektomie 2004 und Hüft-TEP.
Zunahme des Herdes von {mm} auf {mm} mm.
Raum 4, Kabine 2, Warteliste 17.
ICD-10 M51.2, OPS 3-222.
""".strip().splitlines()

DUTCH = """
Nodus in de rechter bovenkwab van {mm} mm (serie 4, beeld {n3}).
Geen pleuravocht, geen pneumothorax, geen consolidatie.
Lever {cm} cm, milt 11 cm, galblaas zonder stenen.
Protrusie op L4-L5 en L5-S1 met versmalling van het wortelkanaal.
Bakerse cyste van {mm} mm in de knieholte.
Ziekte van Crohn van het terminale ileum, wanddikte 5 mm.
Bekend met lymfoom van Hodgkin, Deauville 3.
Mortons neuroom tussen de derde en vierde straal.
Contrast: {ml} ml Iomeron 300, 3 ml/s via een 20G infuus.
DLP {n3} mGy.cm, CTDIvol 5,4 mGy.
BI-RADS 4a rechts op 10 uur, 3 cm van de tepel.
PI-RADS 5 in de perifere zone, PSA 11,2.
TI-RADS 4, punctie geadviseerd.
Lung-RADS 3, controle over 6 maanden.
Er is geen eerder onderzoek ter vergelijking.
Vergeleken met het onderzoek van vorig jaar is er geen verandering.
De tip van de tube ligt 3 cm boven de carina.
Neusmaagsonde en blaaskatheter 14 Ch in situ.
Het hoofd van de pancreas is normaal, de grootte van de cyste is gelijk.
Hand en pols zonder fractuur.
Lange bicepspees intact.
Wervelinzakking van Th12 met 30% hoogteverlies.
Fractuur van het os naviculare, niet verplaatst.
Aorta infrarenaal {mm} mm, eerder {mm} mm.
Ejectiefractie 54%, LVEDV {n3} ml.
Femurkop van de linkerheup is rond, alfahoek 61 graden.
De opname is in twee richtingen gemaakt om 14.35 uur.
Uitslag telefonisch doorgegeven aan de SEH om 23:10.
Patiënt was nuchter; kreatinine 78 umol/l, eGFR > 60.
De dochter van de patiënte was aanwezig.
Geachte collega, dank voor uw verwijzing.
63-jarige vrouw met pijn in de linkerborst.
Status na appendectomie in 2004.
Kamer 3, toestel 2, plaat nr. 12.
Advies: echo over drie maanden op de polikliniek.
Ten opzichte van de vorige foto is het infiltraat in de onderkwab afgenomen.
""".strip().splitlines()

FRENCH = """
Nodule du lobe supérieur droit de {mm} mm (série 4, image {n3}).
Pas d'épanchement pleural, pas de pneumothorax.
Le foie mesure {cm} cm, la rate 11 cm de grand axe.
Discopathie L4-L5 et L5-S1 avec protrusion médiane.
Kyste de Baker de {mm} mm.
Maladie de Crohn iléale, paroi à 6 mm.
Lymphome de Hodgkin connu, Deauville 2.
Névrome de Morton du troisième espace.
Injection de {ml} ml d'Ioméron 350 à 3 ml/s.
PDL {n3} mGy.cm, IDSV 6,1 mGy.
ACR 4a à gauche, rayon de 10 h, à 3 cm du mamelon.
PI-RADS 4 en zone périphérique, PSA à 7,2 ng/ml.
EU-TIRADS 3, surveillance échographique.
Absence d'examen antérieur disponible.
Comparaison à l'examen de l'an dernier.
Sonde nasogastrique et sonde de Foley en place, 16 Ch.
Extrémité de la sonde d'intubation à 4 cm de la carène.
Le petit kyste du pôle inférieur est inchangé.
La main et le poignet sont normaux.
Fracture de Pouteau-Colles consolidée.
Aorte abdominale à {mm} mm contre {mm} mm.
Fraction d'éjection à 57 %, VTD {n3} ml.
Le canal cholédoque mesure 5 mm, la vésicule est alithiasique.
Acquisition en coupes de 1,25 mm, 120 kV, {n3} mAs.
Séquences T1, T2 FLAIR, diffusion b 1000.
Résultat transmis par téléphone à 16 h 20 au service.
Patient à jeun, créatinine 82 umol/l.
La fille de la patiente était présente.
Chère consœur, merci de votre confiance.
Patiente de 56 ans, mastodynie gauche.
Appendicectomie en 2004, prothèse de hanche.
Salle 2, appareil 3, cassette 14.
Contrôle à 6 mois souhaitable.
L'os est de trame normale; le reste de l'examen est sans particularité.
Polype de Peutz suspecté puis écarté.
Le ventricule gauche est de taille normale, la valve est fine.
""".strip().splitlines()

SPANISH = """
Nódulo en lóbulo superior derecho de {mm} mm (serie 4, imagen {n3}).
Sin derrame pleural ni neumotórax.
Hígado de {cm} cm, bazo de 11 cm de diámetro mayor.
Protrusión discal L4-L5 y L5-S1 con estenosis foraminal.
Quiste de Baker de {mm} mm.
Enfermedad de Crohn del íleon terminal, pared de 6 mm.
Linfoma de Hodgkin conocido, Deauville 2.
Neuroma de Morton en el tercer espacio.
Contraste: {ml} ml de iohexol 300 a 3 ml/s.
PDL {n3} mGy.cm, CTDIvol 5,8 mGy.
BI-RADS 4a en mama izquierda, radio de las 10 h.
PI-RADS 3 en zona de transición, PSA 6,1 ng/ml.
TI-RADS 4, se aconseja PAAF.
No se dispone de estudios previos.
Comparado con el estudio del año pasado no hay cambios.
Sonda nasogástrica y sonda de Foley de 16 Fr.
Tubo endotraqueal a 4 cm de la carina.
La cabeza del páncreas es normal.
El ángulo de Cobb es de 18 grados.
Mano y muñeca sin fracturas.
Fractura de Colles consolidada.
Aorta abdominal de {mm} mm, previo {mm} mm.
Fracción de eyección del 57 %, VTD {n3} ml.
Adquisición con cortes de 1,25 mm, 120 kV.
Secuencias T1, T2 y STIR sagitales, difusión b 800.
Resultado comunicado por teléfono a las 16:20 a la planta.
Paciente en ayunas, creatinina 0,9 mg/dl.
La hija de la paciente estaba presente.
Estimada compañera: gracias por la derivación.
Mujer de 56 años con dolor en mama izquierda.
Apendicectomía en 2004, prótesis de cadera.
Sala 2, equipo 3, chasis 14.
Control en 6 meses.
Los ganglios de la axila son de aspecto normal.
Costa décima con callo de fractura antigua.
La fuente de la imagen es adecuada; el cruce vascular es normal.
""".strip().splitlines()
