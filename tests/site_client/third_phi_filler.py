"""Ordinary radiology sentences of five languages that stand around the identifiers of the third set: examinations,
indications, findings and impressions, one per line. Some hold words that are also family names (white matter, long
head, Baker's cyst), as real reports do."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Filler:
    """One language's phrases."""

    exams: tuple[str, ...]
    indications: tuple[str, ...]
    findings: tuple[str, ...]
    impressions: tuple[str, ...]


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.strip().splitlines())


FILLER = {
    "en": Filler(
        _lines("""CT chest with contrast
        MRI lumbar spine without contrast
        chest radiograph, two views
        CT abdomen and pelvis
        MRI brain
        ultrasound of the right upper quadrant
        X-ray left knee, AP and lateral
        CT pulmonary angiogram
        MR cervical spine
        DEXA bone density"""),
        _lines("""shortness of breath
        left flank pain
        a fall from standing height
        known breast cancer, on surveillance
        persistent cough and weight loss
        right knee pain
        headache and visual disturbance
        low back pain radiating to the left leg
        suspected diverticulitis
        fever after surgery"""),
        _lines("""The lungs are clear with no focal consolidation.
        There is a 6 mm nodule in the right upper lobe (series 4, image 52), unchanged.
        No pleural effusion or pneumothorax.
        The heart size is within normal limits.
        Mild degenerative change at L4/L5 and L5/S1.
        A small Baker's cyst measures 2.1 x 0.8 cm.
        White matter hyperintensities in keeping with small vessel disease.
        The long head of the biceps tendon is intact.
        Gallbladder wall thickness is 3 mm; no stones.
        The common bile duct measures 5 mm.
        There is a simple cyst in segment 7 of the liver.
        No hydronephrosis. The urinary bladder is partly filled.
        Stable postsurgical changes in the left breast.
        There is a small hiatal hernia.
        No acute intracranial haemorrhage or mass effect.
        The endotracheal tube tip projects 4 cm above the carina.
        No filling defect is seen to the level of the segmental arteries.
        The appendix is normal.
        There is loss of disc height at C5/C6.
        100 mL of iohexol 300 was given intravenously without reaction.
        Minor bibasal atelectasis.
        The thyroid is unremarkable.
        There is a 14 mm lymph node in station 4R.
        Fractures of the left fourth to sixth ribs show early healing.
        The aorta is of normal calibre with mild calcified plaque."""),
        _lines("""No acute cardiopulmonary abnormality.
        Stable nodule, follow-up CT in 12 months per Fleischner criteria.
        No evidence of pulmonary embolism.
        Mild osteoarthritis.
        Uncomplicated sigmoid diverticulitis.
        No fracture.
        Partial response according to RECIST 1.1.
        Findings are indeterminate; MRI may help.
        BI-RADS 2, benign.
        Disc protrusion at L5/S1 with contact to the left S1 root."""),
    ),
    "de": Filler(
        _lines("""CT-Thorax mit Kontrastmittel
        MRT der LWS
        Röntgenaufnahme des Thorax in zwei Ebenen
        CT-Abdomen
        Sonographie des Abdomens
        MRT des Schädels
        Mammographie beidseits
        Angiographie der Becken-Bein-Gefäße
        Röntgen des linken Knies"""),
        _lines("""Belastungsdyspnoe
        Flankenschmerz links
        Zustand nach Sturz
        bekanntes Mammakarzinom
        anhaltender Husten
        Kopfschmerzen und Schwindel
        Lumbago mit Ausstrahlung ins linke Bein
        V. a. Divertikulitis
        Fieber unklarer Genese"""),
        _lines("""Kein Nachweis pneumonischer Infiltrate.
        Im rechten Oberlappen 6 mm großer Rundherd, unverändert (Serie 4, Bild 52).
        Kein Pleuraerguss, kein Pneumothorax.
        Herzgröße im Normbereich.
        Mäßige Osteochondrose LWK 4/5 und LWK 5/SWK 1.
        Kleine Baker-Zyste von 2,1 x 0,8 cm.
        Schmaler Gelenkspalt medial, kurze Osteophyten.
        Die lange Bizepssehne ist intakt.
        Gallenblase steinfrei, Wanddicke 3 mm.
        Ductus choledochus 5 mm weit.
        Leberzyste im Segment VII, 1,4 cm.
        Kein Harnstau beidseits.
        Regelrechte postoperative Verhältnisse.
        Kleine axiale Hiatushernie.
        Keine Blutung, keine Raumforderung.
        Die Spitze des ZVK projiziert sich auf die V. cava superior.
        100 ml Imeron 350 wurden ohne Komplikation verabreicht.
        Streifige Dystelektasen basal beidseits.
        Schilddrüse unauffällig.
        Höhenminderung des Bandscheibenfachs HWK 5/6.
        Ältere Rippenfrakturen links, konsolidiert."""),
        _lines("""Kein Anhalt für eine Lungenembolie.
        Keine Metastasen.
        Unveränderter Befund, Kontrolle in 12 Monaten.
        Mäßige Gonarthrose.
        Unkomplizierte Sigmadivertikulitis.
        Keine Fraktur.
        Stable Disease nach RECIST 1.1.
        BI-RADS 2 beidseits.
        Bandscheibenvorfall L5/S1 mit Kontakt zur Wurzel S1 links."""),
    ),
    "nl": Filler(
        _lines("""CT-thorax met contrast
        MRI van de lumbale wervelkolom
        X-thorax in twee richtingen
        CT-abdomen
        echo van de bovenbuik
        MRI-hersenen
        mammografie beiderzijds
        röntgenfoto van de linkerknie"""),
        _lines("""kortademigheid bij inspanning
        flankpijn links
        val van de trap
        bekend mammacarcinoom
        aanhoudende hoest
        hoofdpijn en duizeligheid
        rugpijn met uitstraling in het linkerbeen
        verdenking op diverticulitis"""),
        _lines("""Geen infiltraten of consolidaties.
        Nodus van 6 mm in de rechterbovenkwab, onveranderd (serie 4, beeld 52).
        Geen pleuravocht, geen pneumothorax.
        Normale hartgrootte.
        Matige degeneratie op niveau L4-L5 en L5-S1.
        Kleine Bakerse cyste van 2,1 x 0,8 cm.
        De lange bicepspees is intact.
        Galblaas zonder stenen, wanddikte 3 mm.
        De ductus choledochus is 5 mm wijd.
        Klein cysteus aspect in leversegment 7.
        Geen hydronefrose.
        Status na mammasparende operatie links.
        Kleine hiatus hernia.
        Geen bloeding, geen ruimte-innemend proces.
        De tip van de lijn projecteert op de vena cava superior.
        Er werd 100 ml Ultravist 300 toegediend zonder reactie.
        Plaatatelectase basaal beiderzijds.
        De schildklier is normaal van aspect.
        Versmalde tussenwervelruimte C5-C6.
        Oude ribfracturen links."""),
        _lines("""Geen aanwijzingen voor longembolie.
        Geen metastasen.
        Onveranderd beeld, controle over 12 maanden.
        Matige gonartrose.
        Ongecompliceerde diverticulitis van het sigmoïd.
        Geen fractuur.
        Stabiele ziekte volgens RECIST 1.1.
        BI-RADS 2 beiderzijds."""),
    ),
    "fr": Filler(
        _lines("""Scanner thoracique avec injection
        IRM lombaire
        Radiographie du thorax de face
        Scanner abdomino-pelvien
        Échographie abdominale
        IRM cérébrale
        Mammographie bilatérale
        Radiographie du genou gauche"""),
        _lines("""une dyspnée d'effort
        des douleurs du flanc gauche
        une chute de sa hauteur
        un cancer du sein connu
        une toux persistante
        des céphalées
        une lombosciatique gauche
        une suspicion de diverticulite"""),
        _lines("""Absence de foyer de condensation parenchymateuse.
        Nodule de 6 mm du lobe supérieur droit, stable (série 4, image 52).
        Pas d'épanchement pleural ni de pneumothorax.
        Silhouette cardiaque de taille normale.
        Discopathie modérée L4-L5 et L5-S1.
        Petit kyste de Baker de 2,1 x 0,8 cm.
        Le petit bassin est libre.
        Substance blanche sans anomalie de signal.
        Vésicule alithiasique, paroi de 3 mm.
        Voie biliaire principale mesurée à 5 mm.
        Kyste simple du segment VII du foie.
        Pas de dilatation des cavités rénales.
        Remaniements post-opératoires du sein gauche.
        Petite hernie hiatale.
        Pas d'hémorragie ni d'effet de masse.
        L'extrémité du cathéter se projette sur la veine cave supérieure.
        Injection de 100 ml de Iomeron 350, bien tolérée.
        Atélectasies en bandes des deux bases.
        Thyroïde sans particularité.
        Pincement discal C5-C6."""),
        _lines("""Pas d'argument pour une embolie pulmonaire.
        Pas de lésion secondaire.
        Aspect stable, contrôle dans 12 mois.
        Gonarthrose modérée.
        Diverticulite sigmoïdienne non compliquée.
        Pas de fracture.
        Maladie stable selon RECIST 1.1.
        ACR 2 bilatéral."""),
    ),
    "es": Filler(
        _lines("""TC de tórax con contraste
        RM de columna lumbar
        Radiografía de tórax PA y lateral
        TC de abdomen y pelvis
        Ecografía abdominal
        RM cerebral
        Mamografía bilateral
        Radiografía de rodilla izquierda"""),
        _lines("""disnea de esfuerzo
        dolor en fosa renal izquierda
        caída casual
        cáncer de mama conocido
        tos persistente
        cefalea
        lumbociática izquierda
        sospecha de diverticulitis"""),
        _lines("""No se observan consolidaciones ni infiltrados.
        Nódulo de 6 mm en lóbulo superior derecho, estable (serie 4, imagen 52).
        Sin derrame pleural ni neumotórax.
        Silueta cardiaca de tamaño normal.
        Discopatía moderada L4-L5 y L5-S1.
        Pequeño quiste de Baker de 2,1 x 0,8 cm.
        Sustancia blanca sin alteraciones.
        La cabeza humeral está centrada.
        Vesícula alitiásica, pared de 3 mm.
        Colédoco de 5 mm.
        Quiste simple en segmento VII hepático.
        Sin dilatación de la vía urinaria.
        Cambios posquirúrgicos en mama izquierda.
        Pequeña hernia de hiato.
        Sin hemorragia ni efecto de masa.
        El extremo del catéter se proyecta en la vena cava superior.
        Se administran 100 ml de Omnipaque 300 sin incidencias.
        Atelectasias laminares bibasales.
        Tiroides sin hallazgos.
        Pinzamiento discal C5-C6.
        Fractura del sexto arco costal izquierdo, antigua."""),
        _lines("""Sin signos de tromboembolismo pulmonar.
        Sin lesiones metastásicas.
        Sin cambios, control en 12 meses.
        Gonartrosis moderada.
        Diverticulitis aguda no complicada.
        No se aprecia fractura.
        Enfermedad estable según RECIST 1.1.
        BI-RADS 2 bilateral."""),
    ),
}
