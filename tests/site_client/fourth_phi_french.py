"""Templates of the fourth set in French: comptes rendus, courriers, headers of a RIS, notes of wards and meetings."""

from __future__ import annotations

from tests.site_client.fourth_phi_render import Template as T

TEMPLATES = (
    T("fr entete", "fr", 48, """[Nom|Patient|Patient(e)|NOM Prénom] : {NH}
[Né{s:/e} le|Date de naissance|DDN] : {DOB}
[IPP|N° patient|N° dossier|N° IPP] : {ID}
[Examen|Acte] : {exam} [du|le] {SD}[ à {hr}h{min}|]
[N° d'examen|Accession|N° de demande] : {ACC}
[Prescripteur|Médecin demandeur] : {DR}

[Indication|Motif] : {cc}.
Résultat : {find3}
Conclusion : {imp}"""),
    T("fr courrier", "fr", 48, """[Le |]{SD}

[Cher Confrère|Chère Consœur|Cher ami],

[J'ai examiné|Je vous remercie de m'avoir adressé|Je vois ce jour] [{TF}|votre patient{s:/e} {N}], [né{s:/e} le \
{DOB}|{AGE} ans], pour {cc}. {find2} [{TF} a été vu{s:/e} le {PD}.|{TF} reviendra dans six mois.|J'ai expliqué le \
résultat à {TF} et à {s:son épouse/son mari}, {REL}.]

[Bien confraternellement|Confraternellement]
{DR}"""),
    T("fr comparaison", "fr", 42, """{exam} [du {SD}|réalisé{s:/} le {SD}]. [Comparaison au scanner du {PDs}.|Par \
rapport à l'examen du {PDs} :|Examen comparé à celui du {PDs}.|Comparaison aux examens du {PD} et du {OD}.] {find3}
Conclusion : [stabilité depuis le {PDs}. |]{imp}"""),
    T("fr bref", "fr", 28, """{find2} {imp} [{TF} a bien supporté l'examen.|Résultat transmis au {DR} le {SDs} à \
{hr}h{min}.|{TF} a été prévenu{s:/e}.|Examen réalisé par {ST}.]"""),
    T("fr pied", "fr", 28, """{find3}
Conclusion : {imp}

[Validé|Signé électroniquement] par {ST} le {SD}[ à {hr}:{min}|]
[{NH} - IPP {ID}|{NH} né{s:/e} le {DOB} - page 1/2|Patient : {NH} - Examen {ACC}|Imprimé le {OD} - {NH} - {DOB}]"""),
    T("fr service", "fr", 20, """[Visite du|Le] {SDs} : {TF}, {AGE} ans, {cc}. Radio [du {PDs}|{PDs}] : {find} \
[Prévoir|Conduite à tenir :] {exam}. [Fille ({MUM}) prévenue.|Avis {DR}.|]"""),
    T("fr rcp", "fr", 20, """RCP [thoracique |digestive ]du {SD}
[Dossier de |]{N}[, {DOB}|, né{s:/e} le {DOB}|, IPP {ID}], présenté par {DR}. [Diagnostic en {MY}.|] {find2} \
Proposition : {imp}"""),
    T("fr enfant", "fr", 18, """{G}[, {AGE} ans,| ({DOB})] est adressé{s:/e} pour {cc}. [Accompagné{s:/e} de sa mère, \
{MUM}.|] {find} [{G} a été très coopérant{s:/e}.|Contrôle de {G} dans un an.]""", True),
    T("fr sejour", "fr", 20, """[Hospitalisation|Séjour] du [{PD} au {SD}|{PD} au {SD}|{RANGE}]. [{TF}|{N}], [IPP \
{ID}|né{s:/e} le {DOB}], {cc}. {find2} [Sortie de {TF} à domicile.|]"""),
    T("fr addendum", "fr", 14, """[Addendum|Complément] du {SD} [à l'examen|au compte rendu n°] {ACC} : {imp} [Après \
réception des images du {PD}.|Concerne {NH}.|]"""),
    T("fr initiales", "fr", 4, """[Patient {I}|Pt. {I}], {AGE} ans : {find2} [Antériorité du {PDs}.|Examen {ACC}.]"""),
)
