"""Marked by hand: [[kind|text]] that is measured and printed, never counted.

`AMBIGUOUS`: a careful reader cannot tell, or would say that it names nobody. `RESIDUAL`: it names somebody, but in a
way that is out of scope: spelled out, nicknames, transliteration, remains of markup, names that no header holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from site_client.phi.anchors import Anchors


@dataclass(frozen=True, slots=True)
class Marked:
    text: str
    anchors: Anchors
    spans: tuple[tuple[int, int, str], ...]


# header name | birth | study | patient ID | accession || text
AMBIGUOUS_ROWS = """
CHEST^MAY|19480503|20210203|4711|9876543||Repeat in [[word of a name|May]] if symptoms persist.
CHEST^MAY|19480503|20210203|4711|9876543||[[word of a name|Chest]] radiograph is normal.
YOUNG^ROSE|19610203|20220611|771234|RAD-22-1||[[word of a name|Young]] adult; [[word of a name|rose]] thorn ulcers.
HEAD^MARK|19610203|20220611|771234|RAD-22-1||[[word of a name|Mark]] the site before CT of the [[word of a name|head]].
HAND^PETER|19610203|20220611|771234|RAD-22-1||X-ray of the left [[word of a name|hand]], two views.
LONG^LAURA|19610203|20220611|771234|RAD-22-1||[[word of a name|Long]] segment stenosis.
BAKER^WALTER|19610203|20220611|771234|RAD-22-1||Small [[eponym|Baker]] cyst.
HODGKIN^THOMAS|19610203|20220611|771234|RAD-22-1||Known [[eponym|Hodgkin]] lymphoma in remission.
MORTON^JANE|19610203|20220611|771234|RAD-22-1||Third web space [[eponym|Morton]] neuroma.
COBB^GRACE|19610203|20220611|771234|RAD-22-1||[[eponym|Cobb]] angle 24; a [[word of a name|grace]] period.
HART^WILL|19610203|20220611|771234|RAD-22-1||[[word of a name|Will]] need follow-up.
LANG^KARL|19610203|20220611|771234|RAD-22-1||[[word of a name|Lang]]e Stenose, [[word of a name|lang]]e Sehne.
KLEIN^ROSA|19610203|20220611|771234|RAD-22-1||[[word of a name|Klein]]er Polyp.
KOPF^HERBERT|19610203|20220611|771234|RAD-22-1||MRT [[word of a name|Kopf]] nativ.
PETIT^NOEL|19610203|20220611|771234|RAD-22-1||[[word of a name|Petit]] kyste, stable depuis [[word of a name|Noël]].
LE^VAN TUAN|19610203|20220611|771234|RAD-22-1||[[word of a name|Le]] foie est normal.
VRIES, DE^ANNA|19610203|20220611|771234|RAD-22-1||Beeld van [[word of a name|de]] lever is normaal.
LEON CRUZ^ROSARIO|19610203|20220611|771234|RAD-22-1||Vascularización en [[word of a name|cruz]] normal.
SMITH^JOHN|19610203|20220611|771234|RAD-22-1||Pt [[initials alone|J.S.]] tolerated the scan.
SMITH^JOHN|19610203|20220611|771234|RAD-22-1||Informed Mr. [[initials alone|S.]] in person.
SMITH^JOHN|19610203|20220611|4711|RAD-22-1||Plate [[short number|4711]] was discarded.
SMITH^JOHN|19610203|20220611|4711|RAD-22-1||Total DLP [[short number|4711]] mGy cm.
SMITH^JOHN|19610203|20220611|771234|RAD-22-1||Compared with the study of [[date without year|11.6.]]
SMITH^JOHN|19610203|20220611|771234|RAD-22-1||Scanned on [[date without year|June 11]], read the next day.
SMITH^JOHN|19610203|20220611|771234|RAD-22-1||Since [[month and year|06/2022]], CT in [[month and year|June 2022]].
SMITH^JOHN|19610203|20220611|771234|RAD-22-1||Jahrgang [[year alone|1961]]; postoperative since [[year alone|2022]].
MUELLER^JUERGEN|19610203|20220611|771234|RAD-22-1||Beurteilung: [[date without year|3.2.]] Kontrolle.
"""

RESIDUAL_ROWS = """
SMITH^WILLIAM|19610203|20220611|771234|RAD-22-1||[[nickname|Bill]] Smith was seen; friends say [[nickname|Billy]].
GARCIA^FRANCISCO|19610203|20220611|771234|RAD-22-1||Don [[nickname|Paco]] tolera bien la prueba.
AL-HASSAN^MOHAMMED|19610203|20220611|771234|RAD-22-1||[[transliteration|Muhammad]] [[transliteration|Alhasan]] attended.
SHEVCHENKO^OLEKSANDR|19610203|20220611|771234|RAD-22-1||[[transliteration|Alexander]] [[transliteration|Schewtschenko]].
WOJCIK^LUKASZ|19610203|20220611|771234|RAD-22-1||Mr [[transliteration|Voytsik]] was cooperative.
O'NEILL^SEAN|19610203|20220611|771234|RAD-22-1||Patient [[remains of markup|O&#39;Neill]], Sean.
MÜLLER^JÜRGEN|19610203|20220611|771234|RAD-22-1||Herr [[remains of markup|M&uuml;ller]] kam zur MRT.
MÜLLER^JÜRGEN|19610203|20220611|771234|RAD-22-1||Herr [[broken encoding|MÃ¼ller]] kam zur MRT.
MÜLLER^JÜRGEN|19610203|20220611|771234|RAD-22-1||Herr [[broken encoding|M?ller]] kam zur MRT.
SMITH^JOHN|19610203|20220611|771234|RAD-22-1||The name is spelled [[spelled out|S-M-I-T-H]], first name John.
KOWALCZYK^ANNA|19610203|20220611|771234|RAD-22-1||Patient, [[spelled out|K O W A L C Z Y K]], for CT.
SMITH^J|19610203|20220611|771234|RAD-22-1||[[given name not in header|Jonathan]] Smith, 61 years.
OKAFOR|19610203|20220611|771234|RAD-22-1||OKAFOR, [[given name not in header|NGOZI]] was scanned supine.
JANSEN^ELS|19610203|20220611|771234|RAD-22-1||Mevr. Jansen-[[married name not in header|Brouwer]] is ingelicht.
DUBOIS^CLAIRE|19610203|20220611|771234|RAD-22-1||Mme Dubois née [[maiden name not in header|Fontanel]].
SMITH^JOHN|19610203|20220611|771234|RAD-22-1||Born on the [[date in words|third of February nineteen sixty-one]].
SMITH^JOHN|19610203|20220611|771234|RAD-22-1||Lives at [[address|22 Harbour Lane]], phone [[phone|0171 555 0143]].
SMITH^JOHN|19610203|20220611|771234|RAD-22-1||Brought in by brother [[relative|Desmond]] and by [[relative|Lakshmi]].
SMITH^JOHN|19610203|20220611|771234|RAD-22-1||Other number on the wristband: [[number not in header|88120455]].
"""


def _marked(rows: str) -> Iterator[Marked]:
    for row in rows.strip().splitlines():
        header, text = row.split("||")
        name, birth, study, patient, accession = header.split("|")
        plain, spans = "", []
        for at, part in enumerate(re.split(r"\[\[(.+?)\]\]", text)):
            kind, _, content = part.partition("|") if at % 2 else ("", "", part)
            if kind:
                spans.append((len(plain), len(plain) + len(content), kind))
            plain += content
        yield Marked(plain, Anchors((name,), (patient, accession), (birth, study)), tuple(spans))


AMBIGUOUS = tuple(_marked(AMBIGUOUS_ROWS))
RESIDUAL = tuple(_marked(RESIDUAL_ROWS))
