"""Invented patients of six regions and their headers, for the fourth set of texts: a person's name is kept as people
spell it, with the accents, particles and second surnames; the header holds it as admission desks and modalities do:
capitals or not, accents kept, stripped or written out, components in their place or crammed into one."""

from __future__ import annotations

import random
import unicodedata
from dataclasses import dataclass
from datetime import date, timedelta

GIVEN: dict[str, tuple[str, str]] = {  # per region: men's names, women's names; "_" stands for a space inside a name
    "us": (
        "James John Robert Michael William David Richard Joseph Thomas Christopher Daniel Matthew Anthony Mark Steven "
        "Andrew Kenneth Joshua Kevin Brian Tyrone Jamal Luis Hector Walter Earl Mason Ethan Noah",
        "Mary Patricia Jennifer Linda Elizabeth Barbara Susan Jessica Karen Nancy Lisa Betty Sandra Ashley Donna "
        "Michelle Carol Amanda Melissa Deborah Mary_Ann Latoya Rosa Guadalupe Ava Harper Mia Emma Grace",
    ),
    "uk": (
        "Oliver George Harry Jack Alan Graham Keith Nigel Stephen Ian Gareth Rhys Callum Hamish Declan Sean Mohammed "
        "Imran Harpreet Derek Roy Colin Trevor Alfie Archie",
        "Olivia Margaret Jean Doreen Sheila Maureen Hazel Gillian Fiona Siobhan Aoife Catriona Bronwen Amelia Isla "
        "Ayesha Priya Fatima Joyce Brenda Pauline Anne-Marie Poppy Daisy",
    ),
    "de": (
        "Hans Peter Wolfgang Klaus Jürgen Günter Dieter Manfred Uwe Bernd Hans-Joachim Karl-Heinz Stefan Andreas "
        "Thomas Jörg Björn Sören Matthias Lukas Finn Emil Günther Rüdiger Helmut Franz_Josef Götz",
        "Ursula Helga Renate Monika Ingrid Gisela Brigitte Karin Sabine Petra Claudia Anneliese Hannelore Käthe "
        "Bärbel Änne Anna-Lena Katharina Lina Mia Leonie Waltraud Eva-Maria Ute Jana",
    ),
    "nl": (
        "Jan Pieter Hendrik Willem Cornelis Johannes Gerrit Klaas Henk Kees Bart Sjoerd Jeroen Maarten Ruben Daan Sem "
        "Thijs Joost Wouter Jan-Willem René Gijs Bram Mohamed",
        "Maria Johanna Anna Wilhelmina Cornelia Hendrika Ria Truus Ingrid Marloes Femke Sanne Lotte Fleur Anouk "
        "Marijke Anneke Annemarie Noëlle Chloë Tess Saar Fenna Fatima Geertruida",
    ),
    "fr": (
        "Jean Pierre Michel André Philippe Jean-Pierre Jean-François Bernard Gérard René Stéphane Frédéric Rémi "
        "François Jérôme Hervé Loïc Théo Léo Noé Mathieu Mohamed Karim Benoît Yves",
        "Marie Jeanne Monique Françoise Hélène Anne-Sophie Marie-Thérèse Geneviève Cécile Aurélie Chloé Zoé Inès "
        "Léa Sylvie Brigitte Nathalie Yvette Odile Thérèse Fatima Samira Élodie Éliane Maëlys",
    ),
    "es": (
        "Antonio José Manuel Francisco Juan José_Luis Juan_Carlos Francisco_Javier Jesús Ángel Rubén Iván Óscar Íñigo "
        "Joaquín Andrés Raúl Sebastián Martín Hugo Mateo Álvaro Jordi Xavier Miguel_Ángel",
        "María_Carmen María_José Ana_María Josefa Isabel Dolores Pilar Concepción Mercedes Rosario Lucía Sofía Inés "
        "Nuria Begoña Verónica Mónica Rocío María_Ángeles Ana_Belén Teresa Montserrat Ainhoa Julia Encarnación",
    ),
}

FAMILY: dict[str, str] = {  # "~" parts a particle from the name proper
    "us": "Smith Johnson Williams Brown Jones Garcia Miller Davis Rodriguez Martinez Hernandez Wilson Anderson Thomas "
    "Taylor Moore Jackson Martin Lee Thompson White Harris Clark Lewis Robinson Walker Young Allen King Wright Hill "
    "Green Adams Baker Nelson Campbell Mitchell Carter O'Brien McDonald Washington Kowalski Schneider DeLuca "
    "Van_Buren Nguyen Long Small Bates St._Clair Olszewski Fitzgerald Delgado Whitaker",
    "uk": "Smith Jones Taylor Brown Williams Wilson Davies Evans Thomas Roberts Walker Wright Robinson Thompson Hughes "
    "Edwards Green Hall Wood Clarke Patel Khan Singh Ahmed Hussain Begum O'Connor O'Neill MacDonald McLeod Campbell "
    "Murray Llewellyn Featherstone Cholmondeley Shah Kaur Okafor Adeyemi Pritchard Entwistle Ramsbottom Fox Sharp",
    "de": "Müller Schmidt Schneider Fischer Weber Meyer Wagner Becker Schulz Hoffmann Schäfer Koch Bauer Richter Klein "
    "Wolf Schröder Neumann Schwarz Zimmermann Braun Krüger Hofmann Hartmann Lange Krause Lehmann Köhler Weiß Groß "
    "von~Bülow von_der~Heydt zu~Wied Böhme Jäger Yılmaz Öztürk Kaya Kowalczyk Nowak Grünwald Strauß Hölzl Preußner "
    "Obermaier Kellermann Wüstenhagen Thiele",
    "nl": "de~Jong Jansen de~Vries van_den~Berg van~Dijk Bakker Janssen Visser Smit Meijer de~Boer Mulder de~Groot Bos "
    "Vos Peters Hendriks van~Leeuwen Dekker Brouwer de~Wit Dijkstra Smits de~Graaf van_der~Meer van_der~Linden Kok "
    "Jacobs Vermeulen van_den~Heuvel van_der~Veen ter~Horst ten~Brink van_'t~Hof op_den~Kamp El_Amrani Yilmaz "
    "Hoekstra Kuipers Postma IJzerman Koç Süleyman Groeneveld Ruijgrok van_de~Ven",
    "fr": "Martin Bernard Dubois Thomas Robert Richard Petit Durand Leroy Moreau Simon Laurent Lefèvre Michel Garcia "
    "Roux Fournier Girard Bonnet Lambert Fontaine Rousseau Muller Faure Mercier Blanc Guérin Boyer Chevalier François "
    "Legrand Gauthier Périn Le~Goff de~Villiers de_La~Tour d'~Aubigny Bénard Benali Traoré Nguyen Collet Hervé "
    "Lemaître Crépin Desprès Château Gaillard Kervella",
    "es": "García González Rodríguez Fernández López Martínez Sánchez Pérez Gómez Martín Jiménez Ruiz Hernández Díaz "
    "Moreno Muñoz Álvarez Romero Alonso Gutiérrez Navarro Torres Domínguez Vázquez Ramos Gil Ramírez Serrano Blanco "
    "Molina Suárez Ortega Delgado Castro Ortiz Rubio Marín Sanz Núñez Iglesias Ibáñez Peña Cabrera de_la~Fuente "
    "del~Río de~Miguel Etxebarria Puig Ferrer",
}

FAR = (  # people who came from elsewhere: given name for a man, for a woman, family name
    ("Nguyễn", "Văn Minh", "Thị Lan"), ("Al-Hassan", "Omar", "Layla"), ("Wiśniewski", "Łukasz", "Agnieszka"),
    ("Şahin", "Mehmet", "Ayşe"), ("Popović", "Dragan", "Jelena"), ("Chen", "Wei", "Xiaoling"),
    ("Silva Santos", "João", "Conceição"), ("Sørensen", "Jørgen", "Kirsten"), ("Dvořák", "Jiří", "Božena"),
    ("Abdullahi", "Yusuf", "Hodan"), ("Ivanov", "Sergei", "Olga"), ("El Khoury", "Elias", "Nadine"),
    ("Krishnamurthy", "Venkatesh", "Lakshmi"), ("Kim", "Min-jun", "Soo-jin"), ("Horváth", "László", "Erzsébet"),
)  # fmt: skip

MIDDLE = {
    "us": "Alan Lee Ray Eugene Wayne Edward|Ann Marie Lynn Jean Louise Rose",
    "uk": "Arthur James Edward Francis|Mary Elizabeth Rose Jane",
    "de": "Wilhelm Friedrich Otto Georg|Elisabeth Margarete Luise Maria",
    "nl": "Adrianus Theodorus Antonius Gerardus|Catharina Petronella Adriana Elisabeth",
    "fr": "Émile Louis Marcel Henri|Louise Jacqueline Andrée Simone",
}

STRIP_ONLY = str.maketrans({"ß": "ss", "ł": "l", "Ł": "L", "ı": "i", "ø": "o", "Ø": "O", "đ": "d"})
WRITTEN_OUT = str.maketrans(
    {"ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue", "ß": "ss", "ø": "oe", "Ø": "Oe", "å": "aa"}
)


def strip(text: str) -> str:
    """Without accents."""
    folded = unicodedata.normalize("NFKD", text.translate(STRIP_ONLY))
    return "".join(char for char in folded if not unicodedata.combining(char))


def write_out(text: str) -> str:
    """Umlauts as two letters, other accents dropped."""
    return strip(text.translate(WRITTEN_OUT))


@dataclass(frozen=True, slots=True)
class Person:
    """Someone as people spell them. `middle_known` is what the header has of the middle name: "", "initial", "full"."""

    region: str
    male: bool
    given: str
    middle: str
    middle_known: str
    particle: str
    surnames: tuple[str, ...]
    joint: str
    maiden: str
    suffix: str
    title: str
    headers: tuple[str, ...]
    initials_only: bool
    birth: date
    study: date
    prior: date
    prior_known: bool

    @property
    def core(self) -> str:
        return self.joint.join(self.surnames)

    @property
    def family(self) -> str:
        glue = "" if self.particle.endswith("'") else " "
        return f"{self.particle}{glue}{self.core}" if self.particle else self.core


def pick_given(rng: random.Random, region: str, male: bool) -> str:
    return rng.choice(GIVEN[region][0 if male else 1].split()).replace("_", " ")


def pick_family(rng: random.Random, region: str) -> tuple[str, str]:
    """Particle and name proper."""
    particle, _, core = rng.choice(FAMILY[region].split()).replace("_", " ").rpartition("~")
    return particle, core


def pick_whole_family(rng: random.Random, region: str) -> str:
    """A family name with its particle, as a second surname or a name of birth."""
    particle, core = pick_family(rng, region)
    glue = " " if particle and not particle.endswith("'") else ""
    return f"{particle}{glue}{core}"


def _surnames(rng: random.Random, region: str, male: bool, core: str) -> tuple[tuple[str, ...], str]:
    second = pick_whole_family(rng, region)
    if core in second:
        return (core,), " "
    if region == "es":
        return ((core, second) if rng.random() < 0.93 else (core,)), " "
    share = {"us": 0.04, "uk": 0.06, "de": 0.07, "nl": 0.16, "fr": 0.07}[region] * (0.5 if male else 1.5)
    return ((core, second), "-") if rng.random() < share else ((core,), " ")


def _folded(rng: random.Random, region: str, text: str) -> str:
    keep, out = {"de": (0.4, 0.45), "es": (0.35, 0.0), "fr": (0.2, 0.0), "nl": (0.35, 0.05)}.get(region, (0.25, 0.0))
    draw = rng.random()
    if draw < keep:
        return text
    return write_out(text) if draw < keep + out else strip(text)


def _family_component(rng: random.Random, particle: str, core: str) -> tuple[str, str]:
    """The family component and the prefix component."""
    if not particle:
        return core, ""
    glue = "" if particle.endswith("'") else " "
    draw = rng.random()
    if particle[0].islower() and glue and draw < 0.2:
        return core, particle
    if particle[0].islower() and glue and draw < 0.3:
        return f"{core} {particle}", ""
    return f"{particle}{glue}{core}", ""


def header_of(rng: random.Random, region: str, given: str, middle: str, particle: str, core: str, title: str,
              suffix: str) -> str:  # fmt: skip
    """One PN as a header holds it."""
    family, prefix = _family_component(rng, particle, core)
    title = prefix or title
    draw = rng.random()
    if draw < 0.05:
        name = f"{family}, {given}{' ' + middle if middle else ''}{' ' + suffix if suffix else ''}"
    elif draw < 0.07:
        name = f"{family} {given}{' ' + middle if middle else ''}"
    elif draw < 0.17 and middle:
        name = "^".join([family, f"{given} {middle}", "", title, suffix])
    else:
        name = "^".join([family, given, middle, title, suffix])
    name = name if rng.random() < 0.15 else name.rstrip("^")
    if rng.random() < 0.1:
        name = name.replace("'", "").replace(".", "")
    if "-" in name and rng.random() < 0.15:
        name = name.replace("-", " ")
    name = _folded(rng, region, name)
    return name.upper() if rng.random() < 0.74 else name


def _dates(rng: random.Random, child: bool) -> tuple[date, date, date]:
    study = date(2011, 1, 3) + timedelta(days=rng.randrange(5400))
    years = rng.randrange(0, 15) if child else min(96, max(17, int(rng.gauss(60, 18))))
    birth = study - timedelta(days=years * 365 + rng.randrange(20, 360))
    gap = rng.choice((rng.randrange(1, 9), rng.randrange(20, 200), rng.randrange(200, 1500)))
    prior = max(study - timedelta(days=gap), birth + timedelta(days=1))
    return birth, study, prior


def draw_person(rng: random.Random, region: str, child: bool = False) -> Person:
    """A new patient with the names of a header."""
    male = rng.random() < 0.49
    given = pick_given(rng, region, male)
    particle, core = pick_family(rng, region)
    surnames, joint = _surnames(rng, region, male, core)
    if rng.random() < 0.06:
        core, him, her = rng.choice(FAR)
        particle, surnames, joint, given = "", (core,), " ", him if male else her
    middle = rng.choice(MIDDLE[region].split("|")[0 if male else 1].split()) if region != "es" else ""
    weights = {"us": (45, 35, 20), "uk": (70, 12, 18)}.get(region, (82, 6, 12))
    known = rng.choices(("", "initial", "full"), weights)[0] if middle else ""
    title = rng.choice(("DR", "Dr.", "MR" if male else "MRS")) if rng.random() < 0.07 else ""
    suffix = rng.choice(("JR", "SR", "III", "Jr.")) if region == "us" and male and rng.random() < 0.06 else ""
    initials_only = region == "nl" and not child and given.isalpha() and rng.random() < 0.3
    header_middle = {"": "", "initial": middle[:1], "full": middle}[known]
    header_given = f"{given[0]}." if initials_only else given
    whole = joint.join(surnames)
    headers = [header_of(rng, region, header_given, header_middle, particle, whole, title, suffix)]
    maiden = ""
    if not male and not child and region != "es" and len(surnames) == 1 and rng.random() < 0.15:
        maiden = pick_whole_family(rng, region)
        if core in maiden or (region == "fr" and rng.random() < 0.3 and "^" not in headers[0]):
            maiden = ""
        elif region == "fr" and rng.random() < 0.4 and headers[0].count("^"):
            head, _, rest = headers[0].partition("^")
            headers[0] = f"{head} {rng.choice(('NEE', 'née'))} {strip(maiden).upper()}^{rest}"
        else:
            headers.append(header_of(rng, region, header_given, "", "", maiden, "", ""))
    birth, study, prior = _dates(rng, child)
    return Person(region, male, given, middle, known, particle, surnames, joint, maiden, suffix, title, tuple(headers),
                  initials_only, birth, study, prior, rng.random() < 0.65)  # fmt: skip
