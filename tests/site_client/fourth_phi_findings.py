"""Ordinary radiology sentences in five languages, without any identifier: findings, impressions, examinations,
complaints, techniques and, for the clean texts, doses, strengths, stages and eponyms."""

from __future__ import annotations

EN = {
    "find": """The lungs are clear without focal consolidation.
No pleural effusion or pneumothorax.
[Small|Trace|Moderate] [left|right] pleural effusion with adjacent atelectasis.
The cardiomediastinal silhouette is [within normal limits|mildly enlarged|stable].
There is a {mm} mm nodule in the [right upper|left lower|right middle] lobe (series {ser}, image {img}).
The liver measures {cm} cm below the costal margin and is [normal in attenuation|mildly steatotic].
No biliary ductal dilatation. The gallbladder is [unremarkable|surgically absent].
Simple cyst in segment {seg}, {mm} x {mm} mm.
Spleen, pancreas and adrenal glands are unremarkable.
No hydronephrosis. Nonobstructing {mm} mm calculus in the lower pole of the [left|right] kidney.
Disc bulge at {lvl} with mild foraminal narrowing.
No acute intracranial haemorrhage, mass effect or midline shift.
Mild chronic small vessel ischaemic change.
The ventricles and sulci are [normal for age|prominent, in keeping with volume loss].
No acute fracture or dislocation. [Mild|Moderate] degenerative change of the first CMC joint.
Tip of the endotracheal tube is {cm} cm above the carina.
PICC line with tip projecting over the [SVC|cavoatrial junction].
Aortic atherosclerosis without aneurysm.
No enlarged mediastinal or hilar lymph nodes by size criteria.
Visualised bones show no aggressive lesion. Schmorl nodes at several levels.
Colonic diverticulosis without diverticulitis.
Appendix is normal, {mm} mm in diameter.""",
    "imp": """No acute cardiopulmonary abnormality.
Stable {mm} mm pulmonary nodule; follow-up CT in [6|12] months as per Fleischner criteria.
No evidence of pulmonary embolism.
Findings compatible with [mild pulmonary oedema|community-acquired pneumonia|early osteoarthritis].
Degenerative change at {lvl}, no cord compression.
No suspicious lesion. BI-RADS [1|2].
Partial response to treatment, RECIST 1.1.
No change since the prior study.""",
    "exam": """CT chest with contrast
CT abdomen and pelvis
MRI lumbar spine
Chest radiograph, PA and lateral
MRI brain without and with contrast
Ultrasound abdomen
XR left wrist
CT pulmonary angiogram
MRI right knee""",
    "cc": """shortness of breath
chest pain
low back pain radiating to the left leg
abdominal pain and weight loss
known colorectal carcinoma on chemotherapy
persistent cough for 3 weeks
a fall from standing height
headache and visual disturbance
suspected appendicitis
elevated D-dimer""",
    "tech": """Axial images were obtained after {ml} mL of iohexol 350 IV. DLP {dlp} mGy*cm.
Multiplanar T1, T2 and STIR sequences, 3 mm slices.
Single AP portable view.
Sagittal and axial T2 FSE, gadobutrol {num} mL.""",
    "more": """Prednisolone {dose} mg OD and bisoprolol 2.5 mg continue.
Power is {pow} in the left tibialis anterior, reflexes 2+.
Baker cyst of {mm} x {mm} mm. Hoffa fat pad is preserved.
Kellgren-Lawrence grade [2|3]; Bosniak [I|IIF] cyst of the kidney.
Stage: {tnm}. Gleason score [3+4=7|4+3=7].
Modic type [1|2] endplate change at {lvl}.
LVEF {num}5 %, heart rate 7{num}/min, BP 1{num}0/80.
Series {ser}, image {img}: unchanged focus of {mm} mm.
Metoprolol {dose} mg before the scan, nitroglycerin 0.4 mg SL.
Pirads 3/5 lesion in the peripheral zone, {mm} mm.
Hill-Sachs deformity and a Bankart lesion.
Creatinine 1.{num} mg/dL, eGFR above 60 mL/min/1.73 m2.
Salter-Harris II fracture of the distal radius; Garden [I|III] at the hip.
Chiari I malformation, tonsils {num} mm below the foramen magnum.
SUVmax 4.{num} in the right hilum (Deauville 3).
Meckel diverticulum not seen. Couinaud segment {seg} is spared.
Slice thickness 1.25 mm, kVp 120, pitch 0.98, FOV 35 cm.""",
}
DE = {
    "find": """Regelrechte Belüftung beider Lungen, kein Infiltrat.
Kein Pleuraerguss, kein Pneumothorax.
[Geringer|Kleiner] Pleuraerguss [links|rechts] mit Dystelektase.
Herz [normal groß|grenzwertig vergrößert], Mediastinum mittelständig.
Rundherd von {mm} mm im [rechten Oberlappen|linken Unterlappen] (Serie {ser}, Bild {img}).
Leber normal groß, homogene Dichte, keine fokale Läsion.
Zyste in Segment {seg}, {mm} x {mm} mm.
Gallenblase steinfrei, Gallenwege nicht erweitert.
Nieren beidseits ohne Harnstau, kein Konkrement.
Bandscheibenprotrusion {lvl} mit leichter Einengung des Neuroforamens.
Keine intrakranielle Blutung, keine Mittellinienverlagerung.
Altersentsprechend weite Liquorräume, mikroangiopathische Marklagerläsionen.
Keine Fraktur. Beginnende Rhizarthrose.
ZVK in Projektion auf die V. cava superior.
Keine pathologisch vergrößerten Lymphknoten.
Sigmadivertikulose ohne Entzündungszeichen.""",
    "imp": """Kein Nachweis einer Lungenembolie.
Kein Anhalt für Metastasen.
Unveränderter Rundherd, Kontrolle in [6|12] Monaten empfohlen.
Degenerative Veränderungen {lvl}, keine Myelonkompression.
Kein akut-pathologischer Befund.
Bild vereinbar mit Pneumonie im [Unterlappen|Mittellappen].""",
    "exam": """CT Thorax mit KM
MRT der LWS
Röntgen-Thorax in 2 Ebenen
Sonographie Abdomen
CT Schädel nativ
MRT Knie rechts
CT Abdomen/Becken""",
    "cc": """Dyspnoe seit 3 Tagen
Lumboischialgie links
Sturz aus dem Stand
V. a. Pneumonie
bekanntes Kolonkarzinom, Staging
unklare Gewichtsabnahme
Kopfschmerzen und Schwindel
Oberbauchschmerzen""",
    "tech": """Spirale nach {ml} ml Imeron 350 i.v., Schichtdicke 1,5 mm, DLP {dlp} mGy*cm.
Sagittale T1, T2 und STIR, axiale T2.
Aufnahme im Liegen a.p.""",
    "more": """Kraftgrad {pow} der Fußheber links, Reflexe seitengleich.
Bakerzyste {mm} x {mm} mm, Hoffa-Fettkörper unauffällig.
Metoprolol {dose} mg 1-0-1, ASS 100 mg 1-0-0.
Tumorstadium {tnm}, Gleason 3+4=7.
Modic Typ [1|2] in Höhe {lvl}, Schmorl-Knötchen.
Kreatinin 1,{num} mg/dl, GFR über 60 ml/min.
Gonarthrose Kellgren-Lawrence Grad [2|3].
Hill-Sachs-Delle und Bankart-Läsion.
Serie {ser}, Bild {img}: Herd {mm} mm, Bosniak II.
Weber-B-Fraktur, Garden III am Schenkelhals.""",
}
NL = {
    "find": """Geen infiltraat, geen pleuravocht.
Hart [niet vergroot|licht vergroot], mediastinum slank.
Nodus van {mm} mm in de [rechter bovenkwab|linker onderkwab] (serie {ser}, beeld {img}).
Lever homogeen, geen focale afwijkingen.
Cyste in segment {seg} van {mm} x {mm} mm.
Galblaas zonder stenen, galwegen niet verwijd.
Beide nieren zonder hydronefrose.
Discusprotrusie {lvl} met lichte foramenvernauwing.
Geen intracraniële bloeding, geen verplaatsing van de middenlijn.
Geen fractuur. Beginnende artrose van het CMC-1-gewricht.
Geen vergrote lymfeklieren.
Divertikels van het sigmoïd, geen tekenen van ontsteking.
Lijnpositie goed, tip in de vena cava superior.""",
    "imp": """Geen aanwijzingen voor longembolie.
Geen metastasen.
Stabiele nodus, controle over [6|12] maanden.
Degeneratieve veranderingen {lvl}, geen myelumcompressie.
Geen acute pathologie.
Beeld passend bij pneumonie.""",
    "exam": """CT thorax met contrast
MRI LWK
X-thorax
Echo abdomen
CT hersenen blanco
MRI knie rechts
X-pols links""",
    "cc": """dyspnoe sinds 3 dagen
lage rugpijn met uitstraling
val van de trap
verdenking pneumonie
bekend coloncarcinoom
gewichtsverlies e.c.i.
hoofdpijn""",
    "tech": """Opname na {ml} ml Iomeron 300, DLP {dlp} mGy*cm.
Sagittale T1 en T2, transversale T2.
Opname in AP-richting op bed.""",
    "more": """Kracht {pow} van de voetheffers links.
Bakercyste van {mm} x {mm} mm, vetlichaam van Hoffa intact.
Metoprolol {dose} mg 1dd, pantoprazol 40 mg.
Stadium {tnm}, Gleason 3+4=7.
Modic type [1|2] op niveau {lvl}, noduli van Schmorl.
Kreatinine 8{num} umol/L, eGFR boven 60.
Gonartrose Kellgren-Lawrence graad [2|3].
Serie {ser}, beeld {img}: focus van {mm} mm, Bosniak II.
Hill-Sachs-deformiteit, geen Bankartlaesie.""",
}
FR = {
    "find": """Absence de foyer parenchymateux, pas d'épanchement pleural.
Silhouette cardio-médiastinale [normale|modérément élargie].
Nodule de {mm} mm du lobe [supérieur droit|inférieur gauche] (série {ser}, image {img}).
Foie de taille normale, homogène, sans lésion focale.
Kyste simple du segment {seg} de {mm} x {mm} mm.
Vésicule alithiasique, voies biliaires fines.
Reins sans dilatation des cavités pyélocalicielles.
Discopathie {lvl} avec débord discal modéré.
Pas d'hémorragie intracrânienne, structures médianes en place.
Pas de fracture visible. Rhizarthrose débutante.
Absence d'adénopathie médiastinale.
Diverticulose sigmoïdienne non compliquée.
Cathéter central en projection de la veine cave supérieure.""",
    "imp": """Pas d'argument pour une embolie pulmonaire.
Pas de lésion secondaire.
Nodule stable, contrôle dans [6|12] mois.
Discopathie {lvl} sans conflit radiculaire.
Examen sans anomalie aiguë.
Aspect compatible avec une pneumopathie.""",
    "exam": """Scanner thoracique injecté
IRM lombaire
Radiographie du thorax
Échographie abdominale
Scanner cérébral sans injection
IRM du genou droit
TDM abdomino-pelvienne""",
    "cc": """dyspnée depuis 3 jours
lomboscialgie gauche
chute de sa hauteur
suspicion de pneumopathie
cancer colique connu
altération de l'état général
céphalées""",
    "tech": """Acquisition après injection de {ml} ml d'Iomeron 350, PDL {dlp} mGy.cm.
Séquences sagittales T1, T2 et STIR.
Cliché de face, au lit.""",
    "more": """Force musculaire cotée {pow} aux releveurs du pied gauche.
Kyste de Baker de {mm} x {mm} mm, graisse de Hoffa respectée.
Bisoprolol {dose} mg le matin, Kardégic 75 mg.
Stade {tnm}, Gleason 3+4=7.
Modic [1|2] en {lvl}, hernies de Schmorl.
Créatinine 8{num} µmol/l, DFG supérieur à 60.
Gonarthrose de stade [2|3] de Kellgren et Lawrence.
Série {ser}, image {img} : foyer de {mm} mm, Bosniak II.
Encoche de Hill-Sachs, lésion de Bankart.""",
}
ES = {
    "find": """Sin consolidaciones ni derrame pleural.
Silueta cardiomediastínica [normal|ligeramente aumentada].
Nódulo de {mm} mm en el lóbulo [superior derecho|inferior izquierdo] (serie {ser}, imagen {img}).
Hígado de tamaño normal, homogéneo, sin lesiones focales.
Quiste simple en el segmento {seg} de {mm} x {mm} mm.
Vesícula sin litiasis, vía biliar no dilatada.
Riñones sin dilatación de la vía excretora.
Protrusión discal {lvl} con leve estenosis foraminal.
Sin hemorragia intracraneal, línea media centrada.
No se observan fracturas. Rizartrosis incipiente.
Sin adenopatías mediastínicas.
Diverticulosis sigmoidea sin signos de diverticulitis.
Catéter central con extremo en la vena cava superior.""",
    "imp": """Sin signos de tromboembolismo pulmonar.
Sin evidencia de metástasis.
Nódulo estable, control en [6|12] meses.
Cambios degenerativos {lvl} sin compromiso radicular.
Estudio sin hallazgos agudos.
Hallazgos compatibles con neumonía.""",
    "exam": """TC de tórax con contraste
RM lumbar
Radiografía de tórax PA y lateral
Ecografía abdominal
TC craneal sin contraste
RM de rodilla derecha
TC abdominopélvica""",
    "cc": """disnea de 3 días de evolución
lumbociatalgia izquierda
caída casual
sospecha de neumonía
neoplasia de colon conocida
síndrome constitucional
cefalea""",
    "tech": """Adquisición tras {ml} ml de Iomeron 350, DLP {dlp} mGy.cm.
Secuencias sagitales T1, T2 y STIR.
Proyección AP portátil.""",
    "more": """Fuerza {pow} en la dorsiflexión del pie izquierdo.
Quiste de Baker de {mm} x {mm} mm, grasa de Hoffa conservada.
Bisoprolol {dose} mg cada 24 h, omeprazol 20 mg.
Estadio {tnm}, Gleason 3+4=7.
Modic tipo [1|2] en {lvl}, nódulos de Schmorl.
Creatinina 0,{num} mg/dl, FG mayor de 60.
Gonartrosis grado [2|3] de Kellgren-Lawrence.
Serie {ser}, imagen {img}: foco de {mm} mm, Bosniak II.
Lesión de Hill-Sachs, sin lesión de Bankart.""",
}
BANKS: dict[str, dict[str, tuple[str, ...]]] = {
    language: {key: tuple(text.split("\n")) for key, text in bank.items()}
    for language, bank in {"en": EN, "de": DE, "nl": NL, "fr": FR, "es": ES}.items()
}
