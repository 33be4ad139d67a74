"""Invented patients of the fifth set of texts: a person as people write the name, and the header that a hospital's
RIS made of it - capitals, lost diacritics, components in the wrong place, titles, suffixes, initials, birth names."""

from __future__ import annotations

import datetime
import random
import unicodedata
from dataclasses import dataclass

from site_client.phi.anchors import Anchors

_PARTICLES = "van de der den ter ten het von vom zu zum del la las los y le du des da dos di do al el und et of e op"
PARTICLES = frozenset(_PARTICLES.split())
_TITLES = "dr mr mrs ms miss prof med jr sr ii iii md ep geb ev mevr dhr mw ma"
TITLES = frozenset(_TITLES.split())

_GIVEN: dict[str, tuple[str, str]] = {
    "en": (
        "James,Robert,Michael,William,David,Richard,Joseph,Thomas,Charles,Daniel,Matthew,Anthony,Mark,Steven,Andrew,"
        "Kenneth,Kevin,Brian,George,Edward,Ronald,Timothy,Jason,Ryan,Gary,Nicholas,Eric,Stephen,Larry,Frank,Raymond,"
        "Dennis,Walter,Harold,Carlos,José,Luis,Wei,Arjun,Mohammed,Ahmed,Tyrone,DeShawn,Oluwaseun,Callum,Alistair,"
        "Graham,Nigel,Rhys,Seán,Jean-Paul,Dmitri,Minh,Hiroshi",
        "Mary,Patricia,Jennifer,Linda,Elizabeth,Barbara,Susan,Jessica,Sarah,Karen,Nancy,Margaret,Betty,Sandra,Ashley,"
        "Dorothy,Kimberly,Donna,Carol,Michelle,Amanda,Melissa,Deborah,Stephanie,Rebecca,Laura,Helen,Cynthia,Kathleen,"
        "Ruth,Virginia,Joyce,Maria,Guadalupe,Priya,Fatima,Aisha,Mei Ling,Thi Hoa,Siobhan,Niamh,Fiona,Morag,Gwen,"
        "Mary Ann,Anne-Marie,LaTonya,Yolanda,Svetlana,Grace,Hope,Rosa,Zoë,Chloe",
    ),
    "de": (
        "Hans,Peter,Wolfgang,Klaus,Jürgen,Günther,Dieter,Manfred,Uwe,Horst,Werner,Helmut,Gerhard,Karl-Heinz,"
        "Hans-Jürgen,Bernd,Rainer,Jörg,Thorsten,Stefan,Andreas,Matthias,Björn,Mehmet,Ali,Kemal,Sebastian,Florian,"
        "Jan-Philipp,Götz,Reto,Ueli,Alois",
        "Ursula,Renate,Helga,Monika,Karin,Brigitte,Ingrid,Erika,Gisela,Christa,Hannelore,Waltraud,Elfriede,Käthe,"
        "Annemarie,Anna-Lena,Bärbel,Gudrun,Sabine,Petra,Susanne,Claudia,Ayşe,Fatma,Olga,Katarzyna,Marie-Luise,Leonie,"
        "Edeltraud,Roswitha,Vreni,Zsófia",
    ),
    "nl": (
        "Jan,Piet,Kees,Henk,Gerrit,Johannes,Willem,Cornelis,Hendrik,Jacob,Adriaan,Marinus,Bart,Jeroen,Sjoerd,Maarten,"
        "Thijs,Daan,Mohamed,Youssef,Luc,Wouter,Koen,Geert,André",
        "Maria,Johanna,Cornelia,Wilhelmina,Anna,Elisabeth,Hendrika,Geertruida,Petronella,Ans,Truus,Marijke,Ineke,"
        "Anneke,Sanne,Lieke,Fleur,Roos,Fatiha,Naima,Greet,Lieve,Anne-Sophie,Renée,Hélène",
    ),
    "fr": (
        "Jean,Pierre,Michel,André,Philippe,René,Louis,Alain,Jacques,Bernard,Marcel,Daniel,Roger,Robert,Claude,"
        "Jean-Pierre,Jean-François,Stéphane,Sébastien,Frédéric,Cédric,Mamadou,Karim,Rachid,Hervé,Loïc,Gaël,Benoît",
        "Marie,Jeanne,Françoise,Monique,Catherine,Nathalie,Isabelle,Jacqueline,Anne,Sylvie,Martine,Madeleine,Nicole,"
        "Suzanne,Hélène,Thérèse,Marie-Claire,Marie-Thérèse,Aurélie,Élodie,Chloé,Fatoumata,Khadija,Noémie,Ginette,"
        "Solène,Zoé,Geneviève",
    ),
    "es": (
        "Antonio,José,Manuel,Francisco,Juan,José Luis,Juan Carlos,Jesús,Ángel,Miguel Ángel,Rafael,Luis,Pedro,Ramón,"
        "Joaquín,Andrés,Sebastián,Víctor,Iñaki,Jordi,Nicolás,Rubén,Óscar,Hernán,Eusebio,Evaristo",
        "María,Carmen,María del Carmen,Josefa,Isabel,Ana María,María Dolores,Francisca,Dolores,María Pilar,Concepción,"
        "Lucía,Mercedes,Rosario,Begoña,Inés,Sofía,Rocío,Ángeles,Montserrat,Núria,Guadalupe,Remedios,Milagros,Encarnación",
    ),
}

_FAMILY: dict[str, str] = {
    "en": (
        "Smith,Johnson,Williams,Brown,Jones,Miller,Davis,Garcia,Rodriguez,Martinez,Hernandez,Lopez,Wilson,Anderson,"
        "Thomas,Taylor,Moore,Jackson,Martin,Lee,Thompson,White,Harris,Clark,Lewis,Robinson,Walker,Young,Allen,King,"
        "Wright,Scott,Nguyen,Hill,Green,Baker,Campbell,Mitchell,Carter,Phillips,Evans,Turner,Parker,Stewart,Murphy,"
        "O'Brien,O'Connor,O'Neill,McDonald,McCarthy,MacLeod,Patel,Singh,Khan,Kim,Chen,Okafor,Adeyemi,Kowalski,"
        "Smith-Jones,Hughes-Davies,Lloyd-Roberts,De Luca,Di Maggio,Van Dyke,Van der Merwe,St. John,Al-Rashid,"
        "El-Masri,Fitzgerald,Whitcombe,Ashworth,Pemberton,Yamamoto,Ivanova,García Ruiz,de la Cruz,Nuñez,Müller"
    ),
    "de": (
        "Müller,Schmidt,Schneider,Fischer,Weber,Meyer,Wagner,Becker,Schulz,Hoffmann,Schäfer,Koch,Bauer,Richter,Klein,"
        "Wolf,Schröder,Neumann,Schwarz,Zimmermann,Braun,Krüger,Hofmann,Hartmann,Lange,Werner,Krause,Lehmann,Köhler,"
        "Groß,Weiß,Strauß,Jäger,Böhm,Vögele,Yılmaz,Öztürk,Kowalczyk,Nowak,Schmidt-Bauer,Müller-Lüdtke,"
        "Meyer zu Selhausen,von der Heide,von Bülow,vom Hofe,Zu Putlitz,Leutheusser,Hürlimann,Aebischer,Grüninger"
    ),
    "nl": (
        "Jansen,de Jong,de Vries,van den Berg,van Dijk,Bakker,Janssen,Visser,Smit,Meijer,de Boer,Mulder,de Groot,Bos,"
        "Vos,Peters,Hendriks,van Leeuwen,Dekker,Brouwer,de Wit,Dijkstra,Smits,de Graaf,van der Meer,van der Linden,"
        "Kok,Jacobs,de Haan,Vermeulen,van den Heuvel,van der Veen,ter Horst,in 't Veld,van 't Hof,Özdemir,El Amrani,"
        "Peeters,Maes,Claes,Wouters,Van Damme,De Smet,Van den Broeck,Hoekstra,Terpstra,Schrijver"
    ),
    "fr": (
        "Martin,Bernard,Dubois,Thomas,Robert,Richard,Petit,Durand,Leroy,Moreau,Simon,Laurent,Lefèvre,Lefebvre,Michel,"
        "Garcia,David,Bertrand,Roux,Vincent,Fournier,Morel,Girard,André,Mercier,Dupont,Lambert,Bonnet,François,"
        "Legrand,Gauthier,Perrin,Chevalier,Clément,Béranger,Lemaître,Crépin,Noël,Le Goff,Le Gall,de La Tour,"
        "du Plessis,d'Hérouville,Benali,Diallo,Traoré,Nguyen,Da Silva,Bouchard,Tremblay,Favre,Aubry-Lecomte,Roche-Duval"
    ),
    "es": (
        "García,Rodríguez,González,Fernández,López,Martínez,Sánchez,Pérez,Gómez,Martín,Jiménez,Ruiz,Hernández,Díaz,"
        "Moreno,Muñoz,Álvarez,Romero,Alonso,Gutiérrez,Navarro,Torres,Domínguez,Vázquez,Ramos,Gil,Ramírez,Serrano,"
        "Blanco,Molina,Morales,Suárez,Ortega,Delgado,Castro,Ortiz,Rubio,Marín,Núñez,Iglesias,Medina,Garrido,Cortés,"
        "Castillo,Ibáñez,Peña,de la Fuente,del Río,Etxeberria,Puigdollers,Quispe,Huamán,Zubizarreta"
    ),
}


@dataclass(frozen=True, slots=True)
class Patient:
    """What the text is made from. `middle` and `maiden` are "" when the header has none; `given` holds initials
    ("J.P.") where the header holds nothing else."""

    language: str
    region: str
    male: bool
    child: bool
    given: str
    middle: str
    family: str
    maiden: str
    title: str
    patient_id: str
    accession: str
    birth: datetime.date
    study: datetime.date
    prior: datetime.date | None
    anchors: Anchors


def strip_marks(text: str) -> str:
    """Without diacritics: é becomes e, ü u, ß ss, ı i."""
    text = text.replace("ß", "ss").replace("ı", "i").replace("ø", "o").replace("ł", "l")
    return "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c))


def write_out(text: str) -> str:
    """German umlauts written out, everything else stripped."""
    for mark, letters in (("ä", "ae"), ("ö", "oe"), ("ü", "ue"), ("Ä", "Ae"), ("Ö", "Oe"), ("Ü", "Ue")):
        text = text.replace(mark, letters)
    return strip_marks(text)


def pick(rng: random.Random, options: dict[str, int]) -> str:
    return rng.choices(list(options), weights=list(options.values()))[0]


def given_names(language: str, male: bool) -> list[str]:
    return _GIVEN[language][0 if male else 1].split(",")


def family_names(language: str) -> list[str]:
    return _FAMILY[language].split(",")


def particle_of(family: str) -> tuple[str, str]:
    """("van den", "Berg") of "van den Berg", ("", "Jansen") of "Jansen"."""
    words = family.split()
    count = 0
    while count < len(words) - 1 and (words[count].lower() in PARTICLES | {"in", "'t"}):
        count += 1
    return " ".join(words[:count]), " ".join(words[count:])


def _header_letters(rng: random.Random, text: str, language: str) -> str:
    style = pick(rng, {"bare": 55, "kept": 33, "out": 12 if language != "de" else 60})
    if style == "bare":
        return strip_marks(text)
    return write_out(text) if style == "out" else text


def _header(rng: random.Random, language: str, given: str, middle: str, family: str, title: str) -> str:
    particle, core = particle_of(family)
    if language == "nl" and particle:
        order = pick(rng, {"front": 55, "middle": 20, "comma": 15, "behind": 10})
        front = {"front": family, "middle": core, "comma": f"{core}, {particle}", "behind": f"{core} {particle}"}[order]
        middle = particle if order == "middle" else middle
    else:
        front = family
    if "'" in front and rng.random() < 0.35 and language == "en":
        front = front.replace("'", "")
    suffix = "JR" if title == "Jr" else ""
    prefix = title if title and title != "Jr" else ""
    style = pick(rng, {"pn": 62, "pn short": 18, "joined": 8, "free": 9, "spaces": 3})
    if style == "pn":
        header = f"{front}^{given}^{middle}^{prefix}^{suffix}"
    elif style == "pn short":
        header = f"{front}^{given}^{middle}".rstrip("^")
    elif style == "joined":
        header = f"{front}^{given} {middle}".rstrip()
    elif style == "free":
        header = f"{front}, {given} {middle}".rstrip()
    else:
        header = f"{front} {given} {middle}".rstrip()
    header = header.rstrip("^") if rng.random() < 0.7 else header
    header = _header_letters(rng, header, language)
    return header.upper() if rng.random() < 0.68 else header


def _digits(rng: random.Random, count: int) -> str:
    return str(rng.randint(1, 9)) + "".join(str(rng.randint(0, 9)) for _ in range(count - 1))


def _patient_id(rng: random.Random, region: str) -> str:
    plain = {"us": 8, "uk": 10, "de": 7, "nl": 7, "fr": 10, "es": 7}[region]
    style = pick(rng, {"plain": 56, "zeros": 22, "letter": 12, "prefix": 6, "hyphen": 4})
    if style == "zeros":
        return "0" * rng.randint(1, 3) + _digits(rng, 7)
    if style == "letter":
        return rng.choice("AEHKMPRZ") + _digits(rng, 7)
    if style == "prefix":
        return {"us": "MRN", "uk": "RXH", "de": "PAT", "nl": "P", "fr": "IPP", "es": "NHC"}[region] + _digits(rng, 7)
    return f"{_digits(rng, 3)}-{_digits(rng, 4)}" if style == "hyphen" else _digits(rng, plain)


def _accession(rng: random.Random, study: datetime.date) -> str:
    style = pick(rng, {"plain": 40, "year": 20, "modality": 18, "letter": 14, "date": 8})
    if style == "year":
        return f"{study:%Y}-{_digits(rng, 6)}"
    if style == "modality":
        return f"{rng.choice(('CT', 'MR', 'CR', 'US', 'RX'))}{study:%y}-{_digits(rng, 6)}"
    if style == "letter":
        return f"{rng.choice('ACRX')}00{_digits(rng, 6)}"
    return f"{study:%Y%m%d}{_digits(rng, 4)}" if style == "date" else _digits(rng, 8)


def _dates(rng: random.Random, child: bool) -> tuple[datetime.date, datetime.date, datetime.date | None]:
    study = datetime.date(2016, 1, 1) + datetime.timedelta(days=rng.randrange(3600))
    years = rng.uniform(1.2, 14) if child else min(97.0, max(18.0, rng.gauss(63, 17)))
    birth = study - datetime.timedelta(days=int(years * 365.25) + rng.randrange(300))
    prior = study - datetime.timedelta(days=rng.randint(20, 1500)) if rng.random() < 0.4 else None
    return birth, study, prior if prior and prior > birth else None


def _given_and_middle(rng: random.Random, language: str, male: bool, child: bool) -> tuple[str, str]:
    given = rng.choice(given_names(language, male))
    if language == "nl" and not child and rng.random() < 0.35:
        return ".".join(rng.sample("ABCEGHJKLMPSTW", rng.randint(1, 3))) + ".", ""
    if rng.random() > {"en": 0.55, "de": 0.12, "nl": 0.15, "fr": 0.12, "es": 0.0}[language]:
        return given, ""
    if language == "en" and rng.random() < 0.6:
        return given, rng.choice("ABCDEFGHJKLMNPRSTW")
    return given, rng.choice([n for n in given_names(language, male) if n != given])


def make_patient(rng: random.Random, language: str, child: bool = False, region: str = "") -> Patient:
    male = rng.random() < 0.48
    if not region:
        region = rng.choice(("us", "us", "uk")) if language == "en" else language
    given, middle = _given_and_middle(rng, language, male, child)
    stock = family_names(language)
    family, maiden = rng.choice(stock), ""
    other = rng.choice([n for n in stock if n != family and "-" not in n and "'" not in n])
    if language == "es" and rng.random() < 0.88:
        family = f"{family} {other}"
    elif language == "nl" and not male and not child and rng.random() < 0.35 and "-" not in family:
        family = f"{family}-{other}"
    elif not male and not child and rng.random() < {"en": 0.06, "de": 0.2, "fr": 0.4}.get(language, 0.0):
        maiden = other
    title = ""
    if not child and rng.random() < 0.06:
        title = {"en": "Jr" if male else "MRS", "de": "Dr."}.get(language, "")
    birth, study, prior = _dates(rng, child)
    header = _header(rng, language, given, middle, family, title)
    names = [header]
    if maiden:
        names.append(f"{_header_letters(rng, maiden, language)}^{strip_marks(given)}".upper())
    patient_id, accession = _patient_id(rng, region), _accession(rng, study)
    dates = tuple(f"{day:%Y%m%d}" for day in (birth, study, prior) if day)
    anchors = Anchors(names=tuple(names), identifiers=(patient_id, accession), dates=dates)
    return Patient(
        language, region, male, child, given, middle, family, maiden, title, patient_id, accession, birth, study,
        prior, anchors,
    )  # fmt: skip
