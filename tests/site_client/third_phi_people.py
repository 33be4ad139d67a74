"""Made-up patients for the third set of report texts: people of five languages with the names, numbers and dates that
their hospital's header holds, in the mixed spellings of real headers (capitals, `^` components, accents kept, dropped
or written out, titles and suffixes, maiden names as other names). Nobody here exists; every draw comes from the random
generator that the caller seeds."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, replace
from datetime import date, timedelta
from random import Random

FEMALE = {
    "en": "Mary Patricia Linda Barbara Susan Dorothy Karen Nancy Helen Sandra Grace Joyce Rose Ruth Hazel Siobhan "
    "Aisha Priya Mei-Ling Latoya Guadalupe Fatima Olivia Chloe Margaret Catherine Anne Faith June Kimberly Denise",
    "de": "Ursula Gisela Ingrid Helga Renate Karin Monika Brigitte Christa Käthe Bärbel Sabine Heike Anja Ute "
    "Hannelore Anneliese Gerda Ayşe Elif Ewa Jana Zoë Franziska Lieselotte Rosemarie Mareike Dörte Eva-Maria",
    "nl": "Johanna Maria Cornelia Wilhelmina Hendrika Elisabeth Anna Saskia Marijke Femke Fleur "
    "Sanne Lotte Ilse Greetje "
    "Fatima Naïma Zoë Renée Roos Truus Joke Anneke Liesbeth Hilde Griet Marieke Wil Beatrijs",
    "fr": "Marie Jeanne Monique Françoise Hélène Sylvie Geneviève Thérèse Aïcha Fatou Chloé Manon Anaïs Marie-Claude "
    "Anne-Sophie Josiane Ghislaine Odette Solange Cécile Zoé Mireille Noémie Marguerite Claire Rose Yvette",
    "es": "María Carmen Josefa Dolores Pilar Concepción Encarnación Rosario Begoña Itziar "
    "Montserrat Nuria Inés Lucía "
    "Sofía Guadalupe Ximena Ángeles Mercedes Remedios Esperanza Nieves Consuelo Asunción Rocío Belén",
}
MALE = {
    "en": "James Robert Michael William David Joseph Thomas Charles Daniel Mark Paul Steven Kenneth "
    "George Edward Brian "
    "Seán Mohammed Rajesh Wei Darnell Tyrone José Luis Jean-Paul Ian Graham Frank Grant Dean Will Rusty Guy Jack",
    "de": "Hans Günter Jürgen Horst Wolfgang Klaus Dieter Manfred Jörg Björn Götz Hans-Peter "
    "Karl-Heinz Uwe Ralf Mehmet "
    "Mustafa Piotr Lukas Finn Sören Kai Ernst Friedrich Otto Wilhelm Theo Matthias Heinz-Jürgen André",
    "nl": "Johannes Jan Cornelis Hendrik Willem Pieter Gerrit Dirk Kees Sjoerd Wouter Bas Joost Ruud Mohamed Youssef "
    "Daniël Matthijs Jan-Willem Theo Ton Wim Guy Luc René Maarten Rik Bart Jeroen Koenraad",
    "fr": "Jean Pierre Michel André Philippe René Louis Alain Jacques Bernard Gérard François Rémi Loïc Jean-Luc "
    "Jean-Baptiste Mohamed Karim Mamadou Théo Hugo Côme Étienne Maël Guy Marcel Benoît Yves Noël Fabien",
    "es": "José Antonio Manuel Francisco Juan Pedro Jesús Ángel Miguel Rafael Ramón Íñigo Xavier "
    "Jordi Joaquín Andrés "
    "Julián Félix Tomás Víctor Agustín Iker Salvador Domingo Fermín Nicolás Ignacio Álvaro",
}
FAMILY = {
    "en": "Smith|Johnson|Williams|Brown|O'Connor|O'Brien|McDonald|MacLeod|Fitzgerald|St. John|"
    "Taylor-Jones|Patel|Nguyen|"
    "Lee|Kim|Garcia|de la Cruz|Rodriguez|Washington|White|Young|Long|Baker|Cooper|Hill|Rivers|Stone|"
    "Price|Bright|Okafor|"
    "Abdullah|Van Buren|Von Erich|D'Angelo|Kowalczyk|Singh|Hernandez-Ruiz|Wright|Lang|Foot|Head|"
    "Small|Pascoe|Trelawny|"
    "Featherstonehaugh|Ng|Wu|Al-Masri|Nakamura|Whitfield|Ashworth|Drummond|Le Blanc|Hargreaves|Park|Mayfield",
    "de": "Müller|Schmidt|Schröder|Weiß|Groß|Klein|Lang|Kurz|Jäger|Köhler|Krüger|Böhm|von der Heide|von Stetten|"
    "zu Hohenfels|Müller-Lüttmann|Schulze-Beckmann|Meyer|Maier|Vogel|Fuß|Yılmaz|Öztürk|Çelik|Kowalski|Nowak|"
    "Hübschmann|Überschär|Strauß|Voß|Bäcker|Käfer|Großmann|Zöllner|vom Bruch|Hartmann|Rößler|Wäschle|Kaltenbrunn|"
    "Nguyen|Bauer|Winter|Sommer|Ritter|Dräger|Pfützner|Huber|Gschwendtner",
    "nl": "de Jong|Jansen|de Vries|van den Berg|van Dijk|Bakker|Visser|Smit|de Boer|van der Meer|"
    "van 't Hoff|ten Brinke|"
    "Hoekstra|Dijkstra|Vermeulen|De Smet|Van den Bossche|Vandenbroucke|Peeters|Claes|Yılmaz|El Amrani|Ben Haddou|"
    "Jansen-de Vries|van Dam-Kuipers|de Groot-van Leeuwen|Klein|de Lange|de Wit|Op den Camp|Ijsbrandy|"
    "Brouwer|van Oorschot|Zijlstra|Terpstra|Noordhoek|in 't Veld|Groen|Wiersma|Kloosterman",
    "fr": "Dupont|Martin|Bernard|Petit|Lefèvre|Lefebvre|Le Goff|Le Bihan|de La Tour|d'Aubigny|Béranger|Côté|Tremblay|"
    "Leblanc|Legrand|Moreau|Gauthier|Chevallier|Fournier|Benali|Ben Youssef|Diallo|N'Diaye|Traoré|Nguyen|"
    "Dupuis-Marchand|Garnier-Roche|Crête|Guérin|Hérault|Mérieux|Poirier|Boulanger|L'Hermitte|"
    "Lacroix|Dubois|Du Bellay|"
    "Delacourt|Rousseau|Thévenet|Vasseur|Géraud",
    "es": "García|Fernández|González|Rodríguez|López|Martínez|Sánchez|Pérez|Gómez|Muñoz|Núñez|Ibáñez|Peña|Delgado|"
    "Rubio|Blanco|Costa|Cabeza|de la Fuente|del Río|de los Santos|San Martín|Etxeberria|Goikoetxea|"
    "Puig|Ferrer|Vázquez|"
    "Iglesias|Castro|Ortiz|Marín|Sanz|Quiñones|Zúñiga|Echevarría|Montero|Calvo|Bravo|Benítez|Aragón|"
    "Izquierdo|Villalobos",
}
STAFF = {
    "en": "Hollister Prendergast Vandermolen Achebe Rosenthal Kirkpatrick Iyer Sutcliffe Dombrowski "
    "Castellano Penhaligon",
    "de": "Wiedekind Oberländer Trautwein Sedlmayr Brinkhaus Pohlmann Radtke Lindenau Eichstätt Kuhlmann Degenhardt",
    "nl": "Hazelhof Roelofsen Verhaegen Schuurmans Lambrecht Oosterling Bekhuis Wagemakers Tielemans Duinkerken",
    "fr": "Charpentier-Vial Montclar Delaunay Kerviel Rochebrune Tessier Vauquelin Bonnefoy "
    "Saint-Omer Malraux Escoffier",
    "es": "Arrizabalaga Belmonte Carrascosa Ledesma Olivares Pacheco Quesada Santamarta Urrutia Valverde Zamorano",
}
KIN_FEMALE = {
    "en": "Gwendolyn Winifred Shelley",
    "de": "Annegret Swantje Wiebke",
    "nl": "Tjitske Hanneke Aukje",
    "fr": "Clotilde Lucette Armelle",
    "es": "Leocadia Fuensanta Visitación",
}
KIN_MALE = {
    "en": "Trevor Clifford Craig",
    "de": "Detlef Torsten Rüdiger",
    "nl": "Reinder Sybren Eelco",
    "fr": "Bertrand Thibault Gontran",
    "es": "Gumersindo Evaristo Eladio",
}
COUNTRIES = {
    "en": ("US", "GB"),
    "de": ("DE", "DE", "AT"),
    "nl": ("NL", "NL", "BE"),
    "fr": ("FR", "FR", "CA", "CH"),
    "es": ("ES", "ES", "MX"),
}
_LETTERS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue", "ı": "i"})
_PLAIN = str.maketrans({"ß": "ss", "ı": "i", "ø": "o", "Ø": "O", "ł": "l"})


@dataclass(frozen=True, slots=True)
class Person:
    """One made-up patient; `family` is the whole family name as its bearer writes it, `maiden` an earlier one."""

    language: str
    country: str
    male: bool
    given: str
    middle: str
    family: str
    maiden: str
    suffix: str
    born: date
    study: date
    prior: date
    pid: str
    accession: str


def plain(text: str) -> str:
    """The text without accents, as systems that know only ASCII keep it."""
    return "".join(c for c in unicodedata.normalize("NFD", text.translate(_PLAIN)) if not unicodedata.combining(c))


def written_out(text: str) -> str:
    """Umlauts as ae, oe, ue; other accents dropped."""
    return plain(text.translate(_LETTERS))


def _digits(rng: Random, count: int) -> str:
    return str(rng.randint(1, 9)) + "".join(str(rng.randint(0, 9)) for _ in range(count - 1))


def _patient_id(rng: Random) -> str:
    shape = rng.randrange(9)
    if shape < 2:
        return _digits(rng, rng.randint(7, 8))
    if shape < 4:
        return "0" * rng.randint(1, 4) + _digits(rng, rng.randint(6, 7))
    if shape == 4:
        return rng.choice("HMPRUX") + _digits(rng, 7)
    if shape == 5:
        return _digits(rng, 10)
    if shape == 6:
        return f"{_digits(rng, 7)}-{rng.randint(0, 9)}"
    if shape == 7:
        return rng.choice(("MRN", "PID", "KIS", "UZ")) + "00" + _digits(rng, 6)
    return _digits(rng, 6)


def _accession(rng: Random, study: date) -> str:
    shape = rng.randrange(7)
    number = _digits(rng, 6)
    return (
        f"{study:%Y}{number}",
        f"{rng.choice(('CT', 'MR', 'RX', 'XR', 'US'))}{study:%y}0{number}",
        f"A00{number}{number[:1]}",
        f"{study:%y}-{number}",
        f"RAD-{study:%Y}-{number}",
        _digits(rng, 8),
        f"{rng.choice('AEHR')}{number}{number[-1]}",
    )[shape]


def make_person(language: str, rng: Random) -> Person:
    """A patient whose names, numbers and dates the generator draws."""
    male = rng.random() < 0.5
    givens = (MALE if male else FEMALE)[language].split()
    given, middle = rng.sample(givens, 2)
    families = FAMILY[language].split("|")
    family, other = rng.sample(families, 2)
    if language == "es" and rng.random() < 0.85:
        family, other = f"{family} {other}", rng.choice(families)
        if not male and rng.random() < 0.25:
            given = "María " + rng.choice(("del Carmen", "de los Ángeles", "Teresa", "José", "del Mar"))
    study = date(2014, 1, 1) + timedelta(days=rng.randrange(4300))
    born = date(1926, 1, 1) + timedelta(days=rng.randrange(31000))
    return Person(
        language=language, country=rng.choice(COUNTRIES[language]), male=male, given=given,
        middle=middle if rng.random() < (0.75 if language == "en" else 0.4) else "",
        family=family, maiden=other, born=born, study=study,
        suffix=rng.choice(("Jr.", "Sr.", "III")) if male and language == "en" and rng.random() < 0.08 else "",
        prior=study - timedelta(days=rng.randint(9, 1400)), pid=_patient_id(rng), accession=_accession(rng, study),
    )  # fmt: skip


def split_particle(family: str) -> tuple[str, str]:
    """The leading particles of a family name ("van den") and the rest."""
    words = family.split()
    count = 0
    particles = {"van", "den", "der", "de", "la", "von", "zu", "vom", "ten", "'t", "in", "op", "del", "los", "du"}
    while count < len(words) - 1 and words[count].lower() in particles:
        count += 1
    return " ".join(words[:count]), " ".join(words[count:])


def header_name(person: Person, rng: Random, initials: bool) -> str:
    """The person name as a header would hold it; `initials` allows Dutch headers without a given name."""
    family, given, middle, suffix = person.family, person.given, person.middle, person.suffix.strip(".")
    particle, core = split_particle(family)
    if initials and person.language == "nl" and rng.random() < 0.3:
        given, middle = "".join(f"{w[0]}." for w in (given, middle) if w), ""
    if middle and rng.random() < 0.35:
        middle = middle[0] + rng.choice(("", "."))
    shape = rng.randrange(12)
    title = {"en": ("MR", "MS"), "de": ("HERR", "FRAU"), "nl": ("DHR", "MW"), "fr": ("M", "MME"),
             "es": ("SR", "SRA")}[person.language][not person.male]  # fmt: skip
    if shape < 5:
        name = f"{family}^{given}^{middle}^^{suffix}".rstrip("^")
    elif shape == 5:
        name = f"{family}^{given}^{middle}^{rng.choice((title, title, 'DR'))}^{suffix}"
    elif shape == 6:
        name = f"{family}^{given} {middle}".strip()
    elif shape == 7:
        name = f"{family}, {given} {middle}".strip()
    elif shape == 8 and particle:
        name = rng.choice(
            (f"{core}^{given}^{middle}^{particle}", f"{core} {particle}^{given}", f"{core}, {particle}^{given}")
        )
    elif shape == 9:
        name = f"{family}^{given}^^^"
    elif shape == 10:
        name = f"{family} {given}" if rng.random() < 0.4 else f"{family}^{given}^{middle}".rstrip("^")
    else:
        name = f"{family}^{given}^{middle}".rstrip("^")
    if rng.random() < 0.15:
        name = name.replace("-", " ")
    if rng.random() < 0.7:
        name = name.upper()
    spelling = rng.random()
    if spelling < 0.4:
        return name
    return fix_case(written_out(name), name) if person.language == "de" and spelling < 0.8 else plain(name)


def fix_case(text: str, model: str) -> str:
    """Writes `text` in capitals where `model` is."""
    return text.upper() if model.isupper() else text


def other_header_name(person: Person, rng: Random) -> str:
    """The maiden name, as an entry of other patient names."""
    return header_name(replace(person, family=person.maiden, suffix=""), rng, initials=False)
