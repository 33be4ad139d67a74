"""Made-up patients of many origins: how a modality writes their names, and how people write them in texts."""

from __future__ import annotations

import random
import re
import unicodedata
from dataclasses import dataclass

# given; middle; family; sex; surname parts that are used alone (a|b); flags (w: surname is a word, g: given name is)
ENGLISH = """
Sean;Patrick;O'Neill;m;;
Margaret;Ann;O'Connor-Walsh;f;;
John;Q;Smith;m;;
Deborah;Jean;Smith-Jones;f;;
Fiona;;McDonald;f;;
Alasdair;Iain;MacLeod;m;;
Peter;;Hand;m;;w
Laura;Beth;Long;f;;w
Rose;;Young;f;;wg
Mark;Alan;Head;m;;wg
Grace;;Foote;f;;g
May;Lin;Chest;f;;wg
Walter;B;Baker;m;;w
Thomas;;Hodgkin;m;;w
Ngozi;Chiamaka;Okafor;f;;
Chukwuemeka;;Okonkwo;m;;
Oluwaseun;Tunde;Adebayo-Williams;m;;
Ayo;;Ade;m;;
Văn Hùng;;Nguyễn;m;;
Thị Lan;;Trần;f;;
Khai;Minh;Lê;m;;
Ka Wai;;Ng;f;;
Li;;Wu;f;;
Gil-dong;;Hong;m;;
Mohammed;Ahmed;Al-Hassan;m;;
Abdul Rahman;;El Sayed;m;;
Fatima;Zahra;bin Khalid;f;Khalid;
Agnieszka;;Wiśniewska-Kowalczyk;f;;
Łukasz;Jan;Wójcik;m;;
Siobhán;;Ní Dhomhnaill;f;;
Priya;;Venkataraman;f;;
Harpreet;Kaur;Sandhu;f;;
Jesús;Manuel;Ortega Ruiz;m;Ortega;
Maria João;;Ferreira da Silva;f;da Silva|Silva;
Dimitrios;;Papadopoulos;m;;
Oleksandr;;Shevchenko;m;;
Jean-Pierre;;St. Clair;m;;
Willem;;van der Merwe;m;;
Elizabeth;Kate;D'Angelo;f;;
Joshua;Paul;Ben-David;m;;
"""
GERMAN = """
Jürgen;;Müller;m;;
Käthe;Maria;Schäfer-Grünwald;f;;
Hans-Peter;;Groß;m;;w
Ursula;;Weiß;f;;w
Bjørn;;Sørensen;m;;
Friedrich;Wilhelm;von der Heide;m;;
Anneliese;;Böhm;f;;
Karl;;Lang;m;;w
Herbert;;Kopf;m;;w
Rosa;;Klein;f;;wg
Mehmet;Ali;Yıldırım;m;;
Ayşe;;Öztürk-Demir;f;;
Svetlana;;Kuznetsova;f;;
Zbigniew;;Błaszczykowski;m;;
Dragan;;Đorđević;m;;
Eleonore;;Freifrau von Bülow;f;von Bülow|Bülow;
Rüdiger;;Jäger;m;;
Sabine;;Müller-Lüdenscheidt;f;;
Matthias;;zur Mühlen;m;;
Heike;;Strauß;f;;
Ahmad;;Al Khatib;m;;
Thi Mai;;Phạm;f;;
Gerd;;Knöchel;m;;w
Ilse;;Ahrens;f;;
"""
DUTCH = """
Jan;Willem;van den Berg;m;;
Anna;Maria;de Vries;f;;
Sjoerd;;Dijkstra;m;;
Cornelia;;van 't Hof;f;;
Johannes;Petrus;ter Horst;m;;
Wilhelmina;;Jansen-de Vries;f;de Vries|Jansen;
Fatiha;;El Amrani;f;;
Mustafa;;Yılmaz;m;;
Joost;;de Groot;m;;w
Liesbeth;;van Dijk;f;;
Rik;;in 't Veld;m;;
Saskia;;Brouwer-van der Meer;f;van der Meer|Brouwer;
Thijs;;op den Kamp;m;;
Chantal;;Sanches;f;;
Hendrik;Jan;Hoofd;m;;w
Roos;;Lange;f;;wg
Björn;;Oosterhuis;m;;
Mei Ling;;Tjon A Tsoi;f;;
"""
FRENCH = """
Jean-Luc;;Lefèvre;m;;
Marie-Thérèse;;Dubois;f;;
Hélène;;de La Tour;f;;
François;;D'Hondt;m;;
Mamadou;;N'Diaye;m;;
Aïcha;;Benali;f;;
Noël;;Petit;m;;wg
Gaëlle;;Le Goff;f;;
Văn Tuấn;;Lê;m;;w
Zoé;;Grandjean-Côté;f;;
Mohamed;;Ben Youssef;m;;
Bernard;;Lecœur;m;;
Stéphane;;Château;m;;w
Claire;;Leblanc;f;;g
Ousmane;;Traoré;m;;
Małgorzata;;Nowak;f;;
Théo;;L'Hermite;m;;
Anne;;Main;f;;w
"""
SPANISH = """
José Luis;;García Márquez;m;García;
María del Carmen;;Fernández de la Fuente;f;Fernández;
Íñigo;;Echeverría Zubizarreta;m;Echeverría;
Ana Belén;;Núñez Peña;f;Núñez;
Juan;;Cabeza de Vaca;m;;
Lucía;;Delgado Costa;f;Delgado;w
Ramón;;Y Cajal Ibáñez;m;;
Concepción;;Muñoz i Ferrer;f;Muñoz;
Youssef;;El Idrissi;m;;
Xiao Mei;;Chen;f;;
João Pedro;;dos Santos Oliveira;m;Oliveira|dos Santos;
Ioana;;Popescu;f;;
Ángel;;Bravo Rubio;m;Bravo;w
Dolores;;Ruiz-Giménez;f;;g
Martín;;Agüero;m;;
Begoña;;Ordóñez;f;;
Wilson;;Quispe Mamani;m;Quispe;
Rosario;;León Cruz;f;León;wg
"""

_SPECIAL = str.maketrans({"ß": "ss", "ł": "l", "Ł": "L", "ø": "o", "Ø": "O", "đ": "d", "Đ": "D", "ı": "i", "œ": "oe"})
_GERMAN = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue", "ø": "oe"})


@dataclass(frozen=True, slots=True)
class Person:
    given: str
    middle: str
    family: str
    sex: str
    alone: tuple[str, ...]
    word_family: bool
    word_given: bool


def read(rows: str) -> tuple[Person, ...]:
    people = []
    for row in rows.strip().splitlines():
        given, middle, family, sex, alone, flags = row.split(";")
        shorts = tuple(part for part in alone.split("|") if part)
        people.append(Person(given, middle, family, sex, shorts, "w" in flags, "g" in flags))
    return tuple(people)


PEOPLE = {"en": read(ENGLISH), "de": read(GERMAN), "nl": read(DUTCH), "fr": read(FRENCH), "es": read(SPANISH)}


def ascii_name(name: str, german: bool = False) -> str:
    """`Müller` -> `Mueller` (german) or `Muller`, as an interface engine without Unicode writes it."""
    name = name.translate(_GERMAN) if german else name
    letters = unicodedata.normalize("NFKD", name.translate(_SPECIAL))
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


def is_german(name: str) -> bool:
    return bool(re.search("[äöüÄÖÜ]", name)) and not re.search("[ığşçĞŞÇéèêíóúñ]|güe|GÜE", name)


def spelled(name: str, rng: random.Random) -> str:
    """One of the ways in which a writer spells the same name: ASCII, other apostrophe, hyphen, capital particles."""
    if rng.random() < 0.25:
        name = ascii_name(name, german=is_german(name) and rng.random() < 0.8)
    if "'" in name:
        name = name.replace("'", rng.choice(["'", "'", "\u2019", "\u2019", "", "`"]))
    if "-" in name and rng.random() < 0.3:
        name = name.replace("-", rng.choice([" ", "\u2010", "\u2011"]))
    if re.match(r"(Al|El|Ben|Abdul)[ -]", name) and rng.random() < 0.4:
        name = re.sub(r"^(\w+)[ -]", rng.choice([r"\1-", r"\1 ", r"\1"]), name)
    if name[0].islower() and rng.random() < 0.3:
        words = name.split(" ") if rng.random() < 0.5 else [name]
        name = " ".join(word[0].upper() + word[1:] for word in words)
    if name.startswith("St. "):
        name = name.replace("St. ", rng.choice(["St. ", "St ", "St."]))
    return name


@dataclass(frozen=True, slots=True)
class HeaderName:
    """`pn`: the value in the header. `middle`, `given`: what it holds of them ('' | 'x' initial | 'xx' whole)."""

    pn: str
    middle: str
    given: str


def _header_middle(person: Person, rng: random.Random) -> tuple[str, str]:
    style = rng.random()
    if not person.middle or style < 0.3:
        return "", ""
    return (person.middle[0], "x") if style < 0.65 or len(person.middle) == 1 else (person.middle, "xx")


def _header_family(person: Person, rng: random.Random) -> tuple[str, str]:
    """Family name and the prefix component; Dutch and German sites move the particle now and then."""
    particle = re.match(r"((?:[a-z']+ )+)(?=\w)", person.family)
    style = rng.random()
    if particle and style < 0.15:
        return person.family[particle.end():], particle[1].strip()
    if particle and style < 0.25:
        return f"{person.family[particle.end():]}, {particle[1].strip()}", ""
    family = person.family
    if "'" in family and style > 0.6:
        family = family.replace("'", rng.choice(["", " "]))
    if "-" in family and style > 0.75:
        family = family.replace("-", rng.choice([" ", " - "]))
    return family, ""


def header_name(person: Person, rng: random.Random) -> HeaderName:
    family, prefix = _header_family(person, rng)
    middle, kind = _header_middle(person, rng)
    style = rng.choices(
        ["plain", "carets", "title", "one", "comma", "inside", "initial", "none"], [48, 14, 10, 5, 5, 8, 5, 5])[0]
    title = prefix or (rng.choice(["MR", "DR", "PROF. DR."] if person.sex == "m" else ["MRS", "MS", "DR"])
                       if style == "title" else "")
    if style in ("one", "comma"):
        parts = [f"{prefix} {family}".strip() + (", " if style == "comma" else " ") + person.given]
        kind = ""
    elif style == "inside":
        parts = [family, f"{person.given} {middle}".strip(), "", title]
    elif style == "initial":
        parts, kind = [family, person.given[0], "", title], ""
    elif style == "none":
        parts, kind = [family, "", "", title], ""
    else:
        parts = [family, person.given, middle, title]
    pn = "^".join(parts)
    pn = pn.rstrip("^") if style != "carets" else pn.rstrip("^") + "^^^"
    unicode_site = rng.random() < 0.25
    if not unicode_site:
        pn = ascii_name(pn, german=is_german(person.family + person.given) and rng.random() < 0.75)
    if rng.random() < (0.3 if unicode_site else 0.85):
        pn = pn.replace("ß", "SS").upper()
    return HeaderName(pn, kind, {"initial": "x", "none": ""}.get(style, "xx"))


Piece = tuple[str, str]  # text, kind ('' where it names nobody)


def initials(given: str) -> str:
    """`José Luis` -> `J.L.`"""
    return "".join(word[0] + "." for word in re.split("[ -]", given))


def family_piece(person: Person, rng: random.Random, alone: bool = False) -> Piece:
    name = rng.choice(person.alone) if alone and person.alone and rng.random() < 0.6 else person.family
    return spelled(name, rng), "name"


def given_pieces(person: Person, header: HeaderName, rng: random.Random) -> list[Piece]:
    """The given name, often with the middle name or its initial, as far as the header holds them."""
    pieces: list[Piece] = [(spelled(person.given, rng), "name")]
    if header.middle and rng.random() < 0.5:
        if header.middle == "xx" and rng.random() < 0.5:
            pieces += [(" ", ""), (spelled(person.middle, rng), "name")]
        else:
            pieces += [(" ", ""), (person.middle[0] + rng.choice([".", ".", ""]), "initial")]
    return pieces


def initial_piece(person: Person, header: HeaderName, rng: random.Random) -> Piece:
    text = initials(person.given if header.given == "xx" else person.given[0])
    return rng.choice([text, text, text.replace(".", "")]) if len(text) == 2 else text, "initial"


def capital(pieces: list[Piece]) -> list[Piece]:
    return [(text.upper(), kind) for text, kind in pieces]


TITLES = {
    "en": (("Mr.", "Mr", "Mr.", "mr."), ("Mrs.", "Ms.", "Mrs", "Miss", "ms.")),
    "de": (("Herr", "Herrn", "Hr.", "Pat."), ("Frau", "Fr.", "Frau", "Patientin")),
    "nl": (("dhr.", "de heer", "Dhr."), ("mevr.", "mevrouw", "mw.", "Mw.")),
    "fr": (("M.", "Monsieur", "Mr", "M"), ("Mme", "Madame", "Mme.", "Mlle")),
    "es": (("Sr.", "señor", "Sr", "Don"), ("Sra.", "señora", "Sra", "Doña")),
}


def titled(person: Person, language: str, rng: random.Random) -> list[Piece]:
    title = rng.choice(TITLES[language][person.sex == "f"])
    return [(title + " ", ""), family_piece(person, rng, alone=True)]


def written(form: str, person: Person, header: HeaderName, language: str, rng: random.Random) -> list[Piece]:
    """The name as `form` writes it; a form that needs a given name unknown to the header falls back to a title."""
    if form == "any":
        form = rng.choice(["full", "lastfirst", "caps", "inilast", "pn", "lastfirst", "capsfull"])
    if form == "first" and (person.word_given or header.given != "xx"):
        form = "title"
    if form == "last" and person.word_family:
        form = "title"
    if header.given != "xx" and form in ("full", "lastfirst", "caps", "capsfull", "file", "email"):
        form = "pn" if form in ("caps", "lastfirst") else "title"
    if not header.given and form in ("inilast", "lastini"):
        form = "title"
    family = family_piece(person, rng)
    if form == "full":
        return [*given_pieces(person, header, rng), (" ", ""), family]
    if form in ("lastfirst", "caps"):
        comma = (rng.choice([", ", ", ", ",", " "]), "")
        pieces = [family, comma, *given_pieces(person, header, rng)]
        return capital(pieces) if form == "caps" else pieces
    if form == "capsfull":
        return capital([*given_pieces(person, header, rng), (" ", ""), family])
    if form == "inilast":
        return [initial_piece(person, header, rng), (" ", ""), family]
    if form == "lastini":
        return [family, (rng.choice([", ", " "]), ""), initial_piece(person, header, rng)]
    if form == "pn":
        return copied(header.pn)
    if form == "first":
        return [(spelled(person.given, rng), "name")]
    if form in ("file", "email"):
        joint = ("_" if form == "file" else ".", "")
        plain = [re.sub(r"\W", "", ascii_name(part)) for part in (person.family, person.given)]
        if form == "email":
            plain = [part.lower() for part in reversed(plain)]
        return [(plain[0], "name"), joint, (plain[1], "name")]
    return [family_piece(person, rng, alone=True)] if form == "last" else titled(person, language, rng)


def copied(pn: str) -> list[Piece]:
    """The header's value copied into the text; its title is nobody's name, its lone letters are initials."""
    pieces: list[Piece] = []
    for part in re.split(r"(\^+|, ?)", pn.rstrip("^")):
        title = part.upper() in ("MR", "MRS", "MS", "DR", "PROF. DR.")
        prefix = part.casefold() in ("van", "de", "von der", "zur", "van den", "van der", "in 't", "ter", "op den",
                                     "bin", "van 't", "da", "dos")
        kind = "" if title or prefix or not part or part[0] in "^," else "initial" if len(part) == 1 else "name"
        pieces.append((part, kind))
    return pieces
