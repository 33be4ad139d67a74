"""French and Spanish reports and letters, with {places} where a patient's own identifiers stand."""

from __future__ import annotations

FRENCH = {
    "fr-entete": """Nom, prénom : {lastfirst}
Né(e) le : {dob}      IPP : {mrn}
Examen du {study}     N° d'examen : {acc}
SCANNER THORACIQUE
Résultat : {body}
Conclusion : pas d'anomalie évolutive.""",
    "fr-lettre": """Cher confrère,

Je vous remercie de m'avoir adressé {title}, né(e) le {doblong}, pour une IRM lombaire réalisée le {study}.
{body}
Bien confraternellement,
{doctor}""",
    "fr-indication": """Indication : {title}, {age} ans, dyspnée d'effort. \
Comparaison au scanner du {prior} et à la radiographie du {olddate}.
Technique : acquisition hélicoïdale sans injection.
{body}""",
    "fr-dictee": """compte rendu concernant {full} date de naissance {dob} examen du {studylong} à la ligne {body} \
merci de prévenir {title} fin de dictée""",
    "fr-addendum": """ADDENDUM du {studynum} : relecture à la demande de {doctor}. \
Le dossier {acc} de {title} a été repris.
{body}""",
    "fr-pied": """{body}
{lastfirst} - {dobnum} - IPP {mrn} - Page 2/2 - édité le {stamp}""",
    "fr-majuscules": """COMPTE RENDU {caps} NE(E) LE {dob} EXAMEN DU {studynum}
{body}
{title} EST REPARTI(E) EN SERVICE.""",
    "fr-rcp": """RCP thoracique : {lastfirst}, {age} ans, dossier n° {mrn}
TEP du {prior}, scanner du {studynum}. {body}
Avis : chirurgie. {staff} reverra {title} avec sa fille {relative}.""",
    "fr-patient": """{full}
3, rue des Tilleuls

{title},
Votre examen du {studylong} ne montre rien d'inquiétant. {body}
Référence à rappeler : {acc}""",
    "fr-geste": """Biopsie sous échographie le {study}. Identité vérifiée : {any}, {dobnum}.
{body}
Geste bien toléré par {title}. Fils ({relative}) prévenu.""",
}

SPANISH = {
    "es-cabecera": """Paciente: {lastfirst}   F. nac.: {dob}   NHC: {mrn}
Fecha de estudio: {study}   Nº de petición: {acc}
TC DE TÓRAX
Hallazgos: {body}
Conclusión: sin hallazgos de significación patológica.""",
    "es-carta": """Estimado compañero:

Le agradecemos la derivación de {full}, nacido/a el {doblong}, para resonancia lumbar realizada el {study}.
{body}
Atentamente,
{doctor}""",
    "es-comparacion": """Radiografía de tórax PA y lateral ({studynum}). \
Se compara con estudio del {prior} y TC externa del {olddate}.
{title}, de {age} años, acude por fiebre.
{body}""",
    "es-dictado": """informe de {full} historia {mrn} fecha de nacimiento {dob} punto y aparte {body} \
avisar a {title} fin del dictado""",
    "es-adenda": """ADENDA ({studynum}): tras comentar el caso con {doctor} \
se revisan las imágenes de {title}, petición {acc}.
{body}""",
    "es-pie": """{body}
{lastfirst} / {dobnum} / {mrn} / Página 1 de 1 / Impreso {stamp}""",
    "es-mayusculas": """INFORME: {caps} F.N. {dob} EXPLORACION {study}
{body}
{title} INGRESA EN PLANTA.""",
    "es-comite": """Comité de tumores: {inilast} ({age} a), NHC {mrn}.
PET-TC {prior}; RM {studynum}. {body}
Pendiente de hablar con {title} y su hija {relative}. Ponente: {staff}.""",
    "es-paciente": """{full}
C/ Mayor 21

Apreciado/a {title}:
El {studylong} le realizamos una ecografía. {body}
Su número de paciente es {mrnbare}.""",
    "es-intervencion": """Drenaje percutáneo, {study}. Verificación: {any}, {dobnum}, consentimiento firmado.
{body}
{last} pasa a sala de recuperación. Acompaña su esposa, {relative}.""",
}
