"""Spanish reports, letters, notes and list lines of the fifth set of texts, with the sentences that fill them."""

from __future__ import annotations

FILLERS: dict[str, tuple[str, ...]] = {
    "exam": (
        "TC de tórax con contraste", "TC abdominopélvico", "RM cerebral", "Rx de tórax PA y lateral",
        "Ecografía abdominal",
        "RM de columna lumbar", "RM de rodilla izquierda", "AngioTC pulmonar", "Mamografía bilateral",
    ),
    "ind": (
        "Sospecha de TEP.", "Caída, dolor en cadera derecha.", "Control de nódulo conocido.", "Lumbalgia crónica.",
        "Dolor abdominal.", "Estadificación de cáncer de colon.", "Tos y fiebre.", "Cefalea de 3 semanas de evolución.",
    ),
    "f1": (
        "Sin signos de TEP.", "Nódulo en lóbulo superior derecho de {mm} mm (serie 4, imagen 87).",
        "Sin derrame pleural.",
        "Silueta cardíaca normal.", "Hígado homogéneo sin lesiones focales.", "Sin hemorragia intracraneal.",
        "Discopatía L4-L5.", "Sin hidronefrosis.", "No se observan fracturas.", "Pequeño quiste de Baker.",
    ),
    "f2": (
        "Sin adenopatías.", "Colecistectomía previa.", "Quiste renal izquierdo de {mm} mm.", "Ateromatosis aórtica.",
        "Diverticulosis sigmoidea.", "Sin líquido libre.", "Artrosis facetaria.",
    ),
    "impr": (
        "Sin hallazgos agudos.", "Nódulo estable.", "Sin evidencia de metástasis.", "Consolidación basal derecha.",
        "Estenosis de canal L4-L5.", "BI-RADS 2.", "Control en 3 meses.",
    ),
    "idlabel": ("NHC:", "NHC", "Nº historia:", "N.º de historia clínica", "Historia:", "HC", "ID paciente:"),
    "acclabel": ("Nº petición:", "Nº de acceso:", "Accession:", "Estudio nº"),
    "doblabel": ("F. nac.:", "Fecha de nacimiento:", "FN:", "[nacido|nacida] el", "F.N."),
    "title": ("[al Sr.|a la Sra.]", "[al señor|a la señora]"),
    "sr": ("[El Sr.|La Sra.]", "[El señor|La señora]", "[Sr.|Sra.]"),
}  # fmt: skip

TEMPLATES: dict[str, tuple[int, str]] = {
    "cabecera": (7, (
        "SERVICIO DE RADIODIAGNÓSTICO\nPaciente: {head}\n{idlabel} {id}\n{doblabel} {dob}  Sexo: [V|M]\n{acclabel} "
        "{acc}\n"
        "Fecha: {study}\nSolicita: Dr. {dr}\n\n{exam}\nMotivo: {ind}\nHallazgos: {f1} {f2}\nConclusión: {impr}"
    )),
    "carta": (6, (
        "Estimado compañero:\n\n<Remito a|Valoro a> [D.|Dña.] {full}, {doblabel} {dob}<, {idlabel} {id}|>, por: {ind}\n"
        "{exam} del {study}: {f1} {f2}\nConclusión: {impr}\n\nUn cordial saludo,\nDr. {dr}"
    )),
    "informe": (5, (
        "{exam} <realizado el|de fecha> {study}.\n[Varón|Mujer] de {age} años. {ind}\nSe compara con <TC del "
        "{prior}|estudio "
        "previo de {prior}|{prior}>.\n{f1} {f2} {f1}\nConclusión: {impr}"
    )),
    "frase": (4, (
        "{sr} {fam} acude el {study}. {ind} {exam}: {f1} <Se informa {title} {fam}.|[D.|Dña.] {giv} refiere "
        "mejoría.|Se avisa a Dr. {dr}.|Acude con "
        "su [esposa, {woman}|marido, {man}].> {impr}"
    )),
    "comite": (3, "Comité de tumores {study}: {head}, {idlabel} {id}, {doblabel} {dob}. {exam}: {f1} Plan: {impr}"),
    "evolucion": (2, "Respecto al estudio del <{prior}|{short}>, {f1} {f2} <Ingreso del {range}. |>{impr}"),
    "lista": (2, "{time} {head} {dob} {id} {exam} {acc}"),
    "child": (2, (
        "{giv}, {age} años, {doblabel} {dob}. {exam} el {study}: {f1} {giv} <colaboró bien|no colaboró>. Acude con "
        "su madre, "
        "{woman}. {impr}"
    )),
    "pie": (2, "{f1} {impr}\nFirmado: Dr. {dr}, {study} {time}\n{head} - {idlabel} {id} - Pág. 2/2"),
    "campos": (2, (
        "Apellidos: {last}\nNombre: {first}\n{idlabel} {id}   {doblabel} {dob}\n{exam} {study}\n{f1} {impr}"
    )),
    "iniciales": (1, "Paciente {ini}, [varón|mujer] de {age} años. {exam} del {study}. {f1} {impr}"),
}
