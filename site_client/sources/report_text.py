"""From a report as a server gives it to findings and impression: mark-up becomes text, and headings split it.

The rule of the headings (English, German, French, Spanish). A heading is the start of a line: one of the known words,
then a colon and text, or nothing more on that line. What stands under a heading of findings is findings, under one of
the impression the impression, under another known one (indication, technique, comparison) nothing. Text before the
first heading, or all of it where there is none of findings, is findings, so that no heading means one section. A
report's own impression goes before what the server names its conclusion.
"""

from __future__ import annotations

import re
import unicodedata
from html.parser import HTMLParser

__all__ = ["html_text", "sections"]

_HEADINGS = {
    "findings": (
        "finding", "findings", "report", "observations", "befund", "befunde", "resultat", "resultats", "description",
        "constatations", "hallazgo", "hallazgos", "descripcion", "resultados",
    ),
    "impression": (
        "impression", "impressions", "conclusion", "conclusions", "opinion", "interpretation", "beurteilung",
        "zusammenfassung", "diagnose", "synthese", "impression diagnostique", "impresion", "impresiones",
        "impresion diagnostica", "conclusiones",
    ),
    "": (
        "indication", "indications", "history", "clinical history", "clinical information", "reason for exam",
        "reason for examination", "technique", "comparison", "comparisons", "exam", "examination", "procedure",
        "recommendation", "recommendations", "klinische angaben", "fragestellung", "indikation", "rechtfertigende "
        "indikation", "technik", "methode", "vergleich", "voraufnahmen", "voruntersuchung", "untersuchung",
        "empfehlung", "renseignements cliniques", "comparaison", "examen", "recommandation", "recommandations",
        "indicacion", "datos clinicos", "antecedentes", "tecnica", "comparacion", "recomendacion", "recomendaciones",
    ),
}  # fmt: skip
_SECTIONS = {heading: section for section, headings in _HEADINGS.items() for heading in headings}
_START = re.compile(r"[ \t#*]*([^\W\d_][^\W\d_ ]{2,24}(?: [^\W\d_]{2,24}){0,2})[ \t*]*(:|$)[ \t*]*")
_DECLARATION = re.compile(r"<[!?][^<>]*>")
_TAG = re.compile(r"<(/?[A-Za-z][A-Za-z0-9]{0,31})\b[^<>]*>")
_STRAY = re.compile(r"<(?!/?[A-Za-z][A-Za-z0-9]{0,31}>)")
_BLOCKS = frozenset({
    "address", "article", "aside", "blockquote", "br", "dd", "div", "dl", "dt", "footer", "h1", "h2", "h3", "h4", "h5",
    "h6", "header", "hr", "li", "main", "ol", "p", "pre", "section", "table", "tbody", "td", "th", "thead", "tr", "ul",
})  # fmt: skip
_SILENT = frozenset({"head", "script", "style", "template", "title"})


def sections(text: str) -> tuple[str, str]:
    """(findings, impression), each with its blanks tidied, "" where there is none."""
    found: dict[str, list[str]] = {"findings": [], "impression": [], "": []}
    before: list[str] = []
    current = before
    for line in text.splitlines():
        start = _START.match(line)
        section = _SECTIONS.get(_plain(start[1])) if start else None
        if start and section is not None:
            current = found[section]
            line = line[start.end() :]
        current.append(line)
    findings = before + found["findings"]
    if not any(map(str.strip, findings)) and not any(map(str.strip, found["impression"])):
        findings = found[""]
    return " ".join(" ".join(findings).split()), " ".join(" ".join(found["impression"]).split())


def html_text(markup: str) -> str:
    """The text of HTML or XHTML: blocks begin a line, scripts, styles and attributes vanish."""
    first, *others = markup.split("<!--")
    kept = first + "".join(other.partition("-->")[2] for other in others)
    # The parser's time is quadratic in tags that never end, and their attributes say nothing: it is shown neither.
    reader = _Text()
    reader.feed(_STRAY.sub("&lt;", _TAG.sub(_bare, _DECLARATION.sub("", kept))))
    reader.close()
    return "".join(reader.pieces)


def _bare(tag: re.Match[str]) -> str:
    return f"<{tag[1]}>"


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[str] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._silent += tag in _SILENT
        if tag in _BLOCKS:
            self.pieces.append("\n")

    def handle_endtag(self, tag: str) -> None:
        self._silent = max(0, self._silent - (tag in _SILENT))
        if tag in _BLOCKS:
            self.pieces.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.pieces.append(data)


def _plain(heading: str) -> str:
    """Lower case without accents: IMPRESIÓN and impresion are one."""
    apart = unicodedata.normalize("NFD", heading.lower())
    return " ".join("".join(char for char in apart if not unicodedata.combining(char)).split())
