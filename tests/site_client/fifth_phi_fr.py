"""French reports, letters, notes and list lines of the fifth set of texts, with the sentences they are filled with."""

from __future__ import annotations

FILLERS: dict[str, tuple[str, ...]] = {
    "exam": (
        "TDM thoracique injecté", "Scanner abdomino-pelvien", "IRM cérébrale", "Radiographie thoracique de face",
        "Échographie abdominale", "IRM du rachis lombaire", "IRM du genou gauche", "Angioscanner pulmonaire",
        "Mammographie bilatérale",
    ),
    "ind": (
        "Suspicion d'embolie pulmonaire.", "Chute, douleur de la hanche droite.", "Surveillance d'un nodule connu.",
        "Lombalgies chroniques.", "Douleurs abdominales.", "Bilan d'extension d'un cancer colique.", "Toux fébrile.",
        "Céphalées depuis 3 semaines.",
    ),
    "f1": (
        "Absence d'embolie pulmonaire.", "Nodule lobaire supérieur droit de {mm} mm (série 4, image 87).",
        "Pas d'épanchement pleural.", "Silhouette cardiaque normale.", "Foie homogène sans lésion focale.",
        "Absence d'hémorragie intracrânienne.", "Discopathie L4-L5.", "Pas de dilatation des cavités pyélocalicielles.",
        "Absence de fracture.", "Petit kyste de Baker.",
    ),
    "f2": (
        "Pas d'adénopathie.", "Antécédent de cholécystectomie.", "Kyste rénal gauche de {mm} mm.", "Athérome calcifié.",
        "Diverticulose sigmoïdienne.", "Pas d'épanchement intrapéritonéal.", "Arthrose interapophysaire.",
    ),
    "impr": (
        "Examen sans anomalie aiguë.", "Stabilité du nodule.", "Pas de lésion secondaire.", "Foyer de pneumopathie.",
        "Canal lombaire étroit en L4-L5.", "ACR 2.", "Contrôle à 3 mois.",
    ),
    "idlabel": ("IPP :", "IPP", "N° patient :", "N° de dossier", "NIP :", "Dossier n°"),
    "acclabel": ("N° d'examen :", "N° accession :", "Accession", "Examen n°"),
    "doblabel": ("[né|née] le", "[Né|Née] le", "Date de naissance :", "DDN :", "DDN", "Né(e) le"),
    "title": ("[M.|Mme]", "[Monsieur|Madame]", "[Mr|Mme]", "[M.|Mme]"),
}  # fmt: skip

TEMPLATES: dict[str, tuple[int, str]] = {
    "lettre": (7, (
        "Cher confrère,\n\n<J'ai vu|Merci de m'avoir adressé> {title} {full}{maiden}, {doblabel} {dob}<, {idlabel} "
        "{id}|>, "
        "pour : {ind}\n{exam} du {study} : {f1} {f2}\nConclusion : {impr}\n\nBien confraternellement,\nDr {dr}"
    )),
    "entete": (6, (
        "SERVICE D'IMAGERIE MÉDICALE\nPatient : {head}{maiden}\n{doblabel} {dob}   Sexe : [M|F]\n{idlabel} "
        "{id}\n{acclabel} "
        "{acc}\nExamen du {study}\nPrescripteur : Dr {dr}\n\n{exam}\nIndication : {ind}\nRésultats : {f1} {f2}\n"
        "Conclusion : {impr}"
    )),
    "compte-rendu": (5, (
        "{exam} du {study}<, {time}|>\nIndication : [patient|patiente] de {age} ans. {ind}\nComparaison : <scanner "
        "du {prior}|"
        "{prior}|aucune>.\n{f1} {f2} {f1}\nConclusion : {impr}"
    )),
    "phrase": (4, (
        "{title} {fam} <a été [reçu|reçue]|s'est [présenté|présentée]> le {study}. {ind} {exam} : {f1} <Résultat "
        "expliqué à "
        "{title} {fam}.|[Son épouse {woman}|Son mari {man}] est au courant.|Appel au Dr {dr}.> {impr}"
    )),
    "rcp": (3, (
        "RCP du {study} : {title} {full}, {doblabel} {dob}, {idlabel} {id}. {exam} : {f1} Décision : {impr} Dr {dr}"
    )),
    "evolution": (2, "Par rapport à l'examen du <{prior}|{short}>, {f1} {f2} <Hospitalisation du {range}. |>{impr}"),
    "liste": (2, "{time} {head} {dob} {id} {exam} {acc}"),
    "child": (2, (
        "{giv}, {age} ans, {doblabel} {dob}. {exam} du {study}. {f1} {giv} a <bien toléré l'examen|beaucoup bougé>. "
        "Sa mère, "
        "Mme {woman}, était présente. {impr}"
    )),
    "champs": (2, (
        "NOM : {last}   Prénom : {first}{maiden}   {doblabel} {dob}\n{idlabel} {id}\n{exam} {study}\n{f1} {impr}"
    )),
    "pied": (2, (
        "{f1} {impr}\nValidé le {study} à {time} par Dr {dr}\n{head} - {doblabel} {dob} - {idlabel} {id} - Page 2/2"
    )),
}
