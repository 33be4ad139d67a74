"""Templates of the fourth set in Spanish: informes, cartas, headers of a RIS, notes of wards and committees."""

from __future__ import annotations

from tests.site_client.fourth_phi_render import Template as T

TEMPLATES = (
    T("es cabecera", "es", 50, """[Paciente|Nombre|Apellidos y nombre|PACIENTE]: {NH}
[Fecha de nacimiento|F. nac.|F. Nacimiento|Fecha nac.]: {DOB}[   Sexo: {s:H/M}|]
[NHC|Nº Historia|N.º de historia|Historia clínica]: {ID}
[Fecha|Fecha de estudio|Fecha exploración]: {SD}[ {hr}:{min}|]
[Nº de petición|Accession|Nº estudio]: {ACC}
[Médico solicitante|Solicitado por]: {DR}

{exam}. Motivo: {cc}.
[Hallazgos|Informe]: {find3}
[Conclusión|Impresión diagnóstica]: {imp}"""),
    T("es carta", "es", 46, """{SD}

[Estimado compañero|Estimada compañera|Apreciado {DR}]:

[He visto en consulta a|Le remito a|Agradezco que me remita a] [{TF}|{N}], [nacid{s:o/a} el {DOB}|de {AGE} años|con \
NHC {ID}], por {cc}. {find2} [{TF} fue vist{s:o/a} el {PD}.|He informado a {TF} y a su {s:esposa/marido}, {REL}.|{TF} \
volverá en seis meses.]

[Un saludo|Atentamente],
{DR}"""),
    T("es comparacion", "es", 42, """{exam} [del {SD}|de fecha {SD}|{SD}]. [Se compara con estudio previo del \
{PDs}.|Comparado con {PDs}:|Respecto a TC de {PD}:|Se dispone de estudios de {PD} y {OD}.] {find3}
Conclusión: [sin cambios desde el {PDs}. |]{imp}"""),
    T("es breve", "es", 28, """{find2} {imp} [{TF} toleró bien la prueba.|Se avisa al {DR} el {SDs} a las \
{hr}:{min}.|Se informa a {TF}.|Realizado por {ST}.]"""),
    T("es pie", "es", 28, """{find3}
Conclusión: {imp}

[Firmado|Validado] por {ST} [el {SD}|{SD} {hr}:{min}]
[{NH} - NHC {ID}|{NH} ({DOB}) Pág. 1/2|Paciente: {NH} Petición: {ACC}|Impreso el {OD} - {NH} - {ID}]"""),
    T("es planta", "es", 20, """[Evolución|Pase de visita] {SDs}: {TF}, {AGE} años, {cc}. Rx [de {PDs}|del {PDs}]: \
{find} Plan: {exam}. [Hija ({MUM}) informada.|Comentado con {DR}.|]"""),
    T("es comite", "es", 20, """Comité de tumores [{SD}|del {SD}]
[{N}|{NH}][, NHC {ID}|, {DOB}|, nacid{s:o/a} el {DOB}]. Presenta {DR}. [Diagnóstico en {MY}.|] {find2} Decisión: \
{imp}"""),
    T("es nino", "es", 18, """[{G}, de {AGE} años,|{G} ({DOB})] acude por {cc}. [Acude con su madre, {MUM}.|] {find} \
[{G} colabora bien.|Control de {G} en un año.]""", True),
    T("es ingreso", "es", 20, """[Ingresad{s:o/a} del|Ingreso del] [{PD} al {SD}|{PD} al {SD}|{RANGE}]. [{N}|{NH}], \
[NHC {ID}|nacid{s:o/a} el {DOB}], {cc}. {find2} [Alta de {TF} a domicilio.|]"""),
    T("es adenda", "es", 14, """[Adenda|Nota] [del {SD}|{SD}] al [informe|estudio] {ACC}: {imp} [Tras recibir las \
imágenes del {PD}.|Corresponde a {NH}.|]"""),
    T("es iniciales", "es", 4, """[Paciente {I}|Pte. {I}], {AGE} años: {find2} [Previo {PDs}.|Petición {ACC}.]"""),
)
