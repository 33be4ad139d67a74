"""French and Spanish templates of the third set (France, Quebec, French Switzerland, Spain, Mexico): headers, letters
between doctors, dictations and footers. The slots are those of the English templates."""

from __future__ import annotations

FRENCH = {
    "fr-lettre": """Cher confrère,

Merci de m'avoir adressé {g:Monsieur~Madame} {givenFAM|full|fullmid}, {g:né~née} le {dob}, dossier n° {pid}, pour \
{ind}.
{exam} réalisé{c:e~} le {study}. {f2}
Conclusion : {imp}

Bien confraternellement,
Dr {doc}""",
    "fr-entete": """Patient : {FAMgiven|FAMcomma|COMMA}
Date de naissance : {dobnum}    IPP : {pid}
N° d'examen : {acc}
Examen du {studynum} à {time}

{exam}
RÉSULTATS : {f3}
CONCLUSION : {imp}""",
    "fr-phrase": """{g:M.~Mme} {fam|FAM}, {age} ans, consulte pour {ind}. {f2} Les résultats ont été expliqués à \
{g:M.~Mme} {famfull}. {imp}""",
    "fr-comparaison": """Comparaison : examen du {prior|priornum}. {f2} Par rapport au {priorday|priornum}, pas \
d'évolution notable. {imp}""",
    "fr-dictee": """compte rendu concernant {lower} {g:né~née} le {dob} {exam} {f2} conclusion {imp}""",
    "fr-naissance": """Antérieurs archivés au nom de {g:l'ancien état civil~naissance} {maiden}. \
{g:Monsieur~Madame} {FAMgiven|full} est vu{g:~e} ce jour, {study}. {f2} {imp}""",
    "fr-pied": """{f3}
{imp}

{FAMgiven|REV|comma} - {g:Né~Née} le {dobnum} - IPP {pidexact} - Édité le {studynum} - Page 2/2 - secrétariat : \
{docfam}""",
    "fr-rcp": """RCP du {study}. {FAMgiven|faminit|givenFAM}, {age} ans, {ind}. {exam} : {f} Proposition : {imp} \
Présenté par le Dr {docfam}.""",
    "fr-appel": """Résultat communiqué par téléphone au Dr {docfam} le {studynum} à {time}. Il s'agit de \
{g:M.~Mme} {famfull}, dossier {pid}. {f} {g:Son épouse~Son époux} {kin} est {g:prévenue~prévenu}.""",
    "fr-sejour": """Hospitalisation du {studyrun}. {exam} à l'entrée : {f} {g:Le patient~La patiente} {full|rev} \
regagne son domicile. Contrôle le {odate}.""",
    "fr-cd": """CD apporté portant la mention « {FULL|FAMgiven|full} », examen du {priornum|prior}, n° {acc}. {f2} \
{imp}""",
    "fr-initiales": """Patient{g:~e} {inits|initsgap}, {age} ans. {exam} : {f} {imp}""",
    "fr-identite": """Identitovigilance : {full|FAMgiven}, {g:né~née} le {dob}, bracelet {pid}. Consentement \
recueilli le {study}. Ponction sous échographie. {f} {given} a bien toléré le geste.""",
}
SPANISH = {
    "es-carta": """Estimado compañero:

Le remito a {g:D.~Dña.} {fullmid|full}, con fecha de nacimiento {dob}, {c:NHC~N.º historia~NHC n.º} {pid}, que \
acude por {ind}.
{exam} realizada el {study}. {f2}
Conclusión: {imp}

Atentamente,
{doc}""",
    "es-cabecera": """PACIENTE: {COMMA|comma|FULL}
NHC: {pid}    F. NAC.: {dobnum}
N.º PETICIÓN: {acc}    FECHA: {studynum} {time}
{exam}
HALLAZGOS: {f3}
CONCLUSIÓN: {imp}""",
    "es-frase": """{g:El Sr.~La Sra.} {fam|famfull}, de {age} años, refiere {ind}. {f2} Se informa \
{g:al Sr.~a la Sra.} {fam} de los resultados. {imp}""",
    "es-comparacion": """Se compara con estudio previo de {prior|priornum}. {f2} Respecto al {priornum|priorday}, \
sin cambios. {imp}""",
    "es-dictado": """informe de {lower} nacid{g:o~a} el {dob} {exam} {f2} conclusión {imp}""",
    "es-pie": """{f3}
{imp}

{comma|REV|COMMA} - NHC {pidexact} - F.N. {dobnum} - Impreso el {studynum} - Pág. 2/2 - Fdo.: {docfam}""",
    "es-comite": """Comité de tumores, {study}. {short|full|faminit}, {age} años, {ind}. {exam}: {f} Se propone: \
{imp} Presenta la Dra. {docfam}.""",
    "es-llamada": """Se avisa por teléfono al Dr. {docfam} a las {time} del {studynum}. Se trata de {g:don~doña} \
{short|full}, historia {pid}. {f} {g:Su esposa~Su hija} {kinf} está informada.""",
    "es-ingreso": """Ingreso del {studyrun}. {exam} al ingreso: {f} {g:El paciente~La paciente} {short|full} es \
dad{g:o~a} de alta. Revisión el {odate}.""",
    "es-cd": """Aporta CD rotulado «{FULL|COMMA|full}», estudio de {priornum|prior}, petición {acc}. {f2} {imp}""",
    "es-iniciales": """Paciente {inits|initsgap}, {age} años. {exam}: {f} {imp}""",
    "es-nombre": """{given} {c:se encuentra bien~refiere mejoría~sigue con disnea}. {f} Última consulta: {odate}. \
{imp}""",
    "es-identidad": """Se comprueba la identidad: {full|fullmid}, nacid{g:o~a} el {dob}, pulsera {pid}. Firma el \
consentimiento el {study}. Punción guiada por ecografía. {f}""",
}
