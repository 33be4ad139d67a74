"""Templates of the fourth set in Dutch: verslagen, brieven, headers of an EPD, notes of wards and conferences."""

from __future__ import annotations

from tests.site_client.fourth_phi_render import Template as T

TEMPLATES = (
    T("nl kop", "nl", 48, """[Naam|Patiënt|Pat.]: {NH}[ ({s:M/V})|]
[Geb.datum|Geboortedatum|Geb. dat.|geb.]: {DOB}
[Patiëntnummer|Patnr|Pat.nr.|ZIS-nr|MDN]: {ID}
[Onderzoek|Verrichting]: {exam}[ d.d.|] {SD}[ {hr}:{min}|]
[Onderzoeksnummer|Accessienummer|Ordernr]: {ACC}
Aanvrager: {DR}

Klinische gegevens: {cc}.
Verslag: {find3}
Conclusie: {imp}"""),
    T("nl brief", "nl", 46, """[Datum: |]{SD}
Betreft: {N}, [geb. {DOB}|geboren {DOB}|geb.dat. {DOB}][, patiëntnr. {ID}|]

Geachte [collega|{DR}],

[Op {SDs} zagen wij|Bovengenoemde patiënt bezocht ons. Op {SD} zagen wij] {TF} in verband met {cc}. {find2} [{TF} is \
gerustgesteld.|Wij spraken {TF} en {s:zijn echtgenote/haar echtgenoot} {REL}.|Het vorige onderzoek van {TF} was op \
{PD}.]

Met [vriendelijke|collegiale] groet,
{ST}, radioloog"""),
    T("nl vergelijking", "nl", 40, """{exam} [{SD}|d.d. {SD}]. [In vergelijking met {PDs}|Vergeleken met het \
onderzoek van {PDs}|T.o.v. {PDs}|T.o.v. {PD} en {OD}]: {find3}
Conclusie: {imp} [Stabiel sinds {PDs}.|]"""),
    T("nl kort", "nl", 30, """{find2} {imp} [{TF} heeft het onderzoek goed doorstaan.|Telefonisch doorgegeven aan \
{DR} op {SDs} om {hr}.{min} uur.|{TF} is geïnformeerd.|Besproken met {ST}.]"""),
    T("nl voet", "nl", 28, """{find3}
Conclusie: {imp}

[Geautoriseerd door|Verslag door] {ST} [op {SD}|{SD} {hr}:{min}]
[{NH} / {ID}|{NH}, {DOB}, blad 1 van 2|Patiënt {NH}, order {ACC}|Geprint {OD} - {NH} - {DOB}]"""),
    T("nl zaal", "nl", 20, """[Visite|Decursus] {SDs}: {TF}, {AGE} jr, {cc}. X-thorax [{PDs}|van {PDs}]: {find} \
[Beleid|B/]: {exam}. [Dochter {MUM} gebeld.|Overleg {DR}.|]"""),
    T("nl mdo", "nl", 20, """MDO [longoncologie |mamma ]{SD}
{N} [({ID})|({DOB})|, {DOB}], ingebracht door {DR}. [Sinds {MY} bekend.|] {find2} Advies: {imp} [{TF} terug op \
{OD}.|]"""),
    T("nl kind", "nl", 18, """{G}[ ({DOB})|, {AGE} jaar,] werd gezien wegens {cc}. [Moeder ({MUM}) was aanwezig.|] \
{find} [{G} werkte goed mee.|Controle van {G} over een jaar.]""", True),
    T("nl opname", "nl", 20, """Opname [van {PD} tot {SD}|{PD} t/m {SD}|{RANGE}]. [Patiënt {N}|{N}|{NH}], [nr. \
{ID}|geb. {DOB}]. {find2} [{TF} gaat met ontslag.|]"""),
    T("nl addendum", "nl", 16, """[Addendum|Aanvulling] {SD} [bij|op] [onderzoek|accessie] {ACC}: {imp} [Beelden van \
{PD} nagekomen.|Het betreft {NH}.|]"""),
    T("nl initialen", "nl", 4, """[Pt. {I}|Patiënt {I}], {AGE} jr: {find2} [Vorige {PDs}.|Order {ACC}.]"""),
)
