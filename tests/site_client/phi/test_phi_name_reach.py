"""How far a found name reaches, what labels and umlauts do, and what is none of it: by the categories that the first
blind measurement (docs/phi.md) found missing; the examples are this file's own."""

from __future__ import annotations

import time

import pytest

from site_client.phi.anchors import Anchors
from site_client.phi.check import Hit, find_phi, redact

# name in the header, text with <what must be covered>
WHOLE = [
    ("REED^M", "Label <REED^M> on disc"),  # initials and carets
    ("GREEN^CARLA^B", "copied <GREEN^CARLA^B>^^MRS"),
    ("CHIN^P", "PATIENT NAME: <CHIN^P>\nMRN"),
    ("Keller^Otto Uwe", "Time-out: <O.U. Keller>, right"),
    ("Keller^Otto Uwe", "cc: <Keller, O.U.> #1"),
    ("Keller^Otto Uwe", "Specimen of <Keller O.U.>, left"),
    ("Simon^Marc Henri", "identity: <M.-H. Simon>, seen"),
    ("Simon^Marc Henri", "identity: <M\nSimon>, seen"),
    ("Tran^Van Duc", "cc: <Tran, V.D.> at once"),
    ("Romero^Ana del Mar", "Junta: <A.d.M. Romero> acude"),
    ("gil^eva lou", "pt: <gil,eva l.> ward 3"),
    ("Rim^Ada", "M. and <A.\nRim>, again"),
    ("Ward^Ruth", "MDT: <Ward R>, 84 y"),
    ("Ward^Ruth", "MDT: <Ward, R>, 84 y"),
    ("Bone^Paul", "Specimen: <Bone P.>, left"),
    ("Loos^Piet^^van der", "gezien: <van der Loos>, Piet"),  # particles
    ("Smit^Piet^^van de", "Dhr. <van de Smit> bezocht"),
    ("WAARD, VAN DER^PIET", "Patient <Van der Waard> came"),
    ("HORST, VON DER^UTE", "Brief: <Horst, von der, Ute>."),
    ("Klei^Bo^^op de", "dhr. <op de Klei> is geinformeerd"),
    ("IN 'T HOUT^BO", "Patient: <In \u2019t Hout>, Bo"),
    ("IN T HOUT^BO", "mw. <in 't Hout> kwam"),
    ("Hout, van `t^Bo", "mw. <van `t Hout> kwam"),
    ("VAN 'T ZAND^BO", "mw. <VAN  T ZAND> kwam"),
    ("ST. IVES^JULES", "Name: <ST. IVES>, JULES"),
    ("Pereira da Luz^Rui", "Sr. <da Luz> relata"),
    ("SALEH^NOOR^^BIN", "images of <bin Saleh> Noor"),
    ("Bakker-van der Sloot^Ida", "Beste mw. <van der Sloot>,"),
    ("EL FASSI ABDEL KARIM", "note: <El Fassi> AbdelKarim"),
    ("EL FASSI ABDEL KARIM", "note: El Fassi <AbdelKarim>"),
    ("KOH JIA HUI", "file <KOH>_JIAHUI.pdf"),
    ("Kopp^Ina", "a letter to Pat. <Kopp> today"),  # labels before everyday words
    ("KOPF^INA", "Pat. <Kopf> wird entlassen"),
    ("Klein^Ina", "Patientin <Klein> (Zimmer 4)"),
    ("Hals^Ina", "Patientin <Hals> wurde entlassen"),
    ("Long^Ina", "Pt. <Long> to return"),
    ("Blanc^Luc", "M. <Blanc> est vu dans le service avec la famille"),
    ("Blanc^Luc", "M <Blanc> est vu dans le service avec la famille"),
    ("Bras^Luc", "M. <Bras> est vu dans le service avec la famille"),
    ("Hand^Luc", "MR. <HAND> WAS CALLED"),
    ("Hand^Luc", "MRS <HAND> WAS CALLED"),
    ("Kopf^Uwe", "Hr. <Kopf> ist bekannt"),
    ("Arm^Jan", "Dhr. P. <Arm> is bekend"),
    ("Winter^Ina", "<Winter> had a fall"),
    ("LANG^UWE", "Nr. 8 / <LANG> / 12.3.1942 / M"),
    ("Wu^An", "Mr <Wu> came"),  # two letters
    ("WU^MEI", "MR <WU> CAME"),
    ("Lê^Quan", "then <Q. Le> came"),
    ("LE^QUAN", "Mrs. <Lê> came"),
    ("NG^FAY", "then <Fay Ng> came"),
    ("Ho^Fay", "then <F Ho> came"),
    ("KRAMER^UTE", "sah <Kraemer> heute"),  # umlauts
    ("KRAMER^UTE", "sah <Krämer> heute"),
    ("Kraemer^Ute", "sah <KRAMER> heute"),
    ("SCHUTT-GRAFE^UTE", "sah <Schuett-Graefe> heute"),
    ("SCHUTTLOFFEL^UTE", "sah <Schuettloeffel> heute"),
    ("GOTZE^UTE", "sah U. <Goetze> heute"),
    ("WEISSHAUPT^UTE", "sah <Weißhaupt> heute"),
    ("Weißhaupt^Ute", "sah <WEISSHAUPT> heute"),
]
NOT_A_NAME = [
    ("Hand^Luc", "MR HAND without contrast"),
    ("Hand^Luc", "Discussed with the patient. Hand is normal."),
    ("Hand^Luc", "Hand L, wrist R"),
    ("Hand^Luc", "Patient: Hand radiograph normal"),
    ("May^Ina", "Patient May have pain; PATIENT MAY LEAVE"),
    ("March^Ina", "seen in March, 5 views"),
    ("Smit^Piet^^van de", "de rest van de long"),
    ("Veld^Bo^^in 't", "in 't algemeen"),
    ("Do^An", "L Do not repeat"),
    ("Bras^Luc", "le bras et la main dans une attelle"),
]
DATES = ["5-3-'21", "05/03/'21", "25-VI-2016", "3-I-2019", "3.XII.2019", "14/ix/2020", "17. 4.\n2022", "25.\n12. 2021",
         "23 / 02\n/ 2017", "25. 12.2021"]
NO_DATES = ["grade 3-IV", "1. 2.\n3. 4", "C5-VI-20", "3-i-5", "Ratio 1.5.\n2", "5-VI-2016a"]
EVERYBODY = [
    "Sehr geehrte Frau Kollegin, danke.", "Lieber Herr Kollege", "Geachte Mw. Collega,", "MR. Circle of Willis patent",
    "MR. PI-RADS 4 lesion", "lado dr. Comparado con la previa", "lob. Sr. Resultado negativo", "Fr. Costa izquierda",
    "pulmon Dr. Nodulo de 3 mm"]


@pytest.mark.parametrize(("name", "marked"), WHOLE)
def test_the_whole_name_is_covered(name, marked):
    before, needle, after = marked.replace("<", "\0").replace(">", "\0").split("\0")
    text = f"{before}{needle}{after}"
    hits = find_phi(text, Anchors((name,)))
    assert all(any(hit.start <= at < hit.end for hit in hits) for at in range(len(before), len(before + needle))
               if text[at].isalnum()), [text[hit.start : hit.end] for hit in hits]
    assert find_phi(redact(text, hits), Anchors((name,))) == []


@pytest.mark.parametrize(("name", "text"), NOT_A_NAME)
def test_what_only_looks_like_it_is_not_the_name(name, text):
    assert find_phi(text, Anchors((name,))) == []


def test_at_most_three_initials_and_only_the_patients_own_are_taken_along():
    text = "A. B. C. D. Keller, Q. Then X. Keller"
    hits = find_phi(text, Anchors(("Keller^Anna Bea Cleo Dora",)))
    assert [text[hit.start : hit.end] for hit in hits] == ["B. C. D. Keller", "Keller"]


@pytest.mark.parametrize("date", DATES)
def test_a_date_is_found_whole(date):
    assert find_phi(f"seen ({date}).", Anchors()) == [Hit(6, 6 + len(date), "date")]


@pytest.mark.parametrize("text", NO_DATES)
def test_what_only_looks_like_a_date_is_none(text):
    assert find_phi(f"seen ({text}).", Anchors()) == []


@pytest.mark.parametrize("text", ["ref 2020-0041777.", "20200041777", "RAD-2020-0041777", "ref 2020-41777"])
def test_an_accession_number_is_found_without_its_letters(text):
    (hit,) = find_phi(text, Anchors((), ("RAD-2020-0041777",)))
    assert all(hit.start <= at < hit.end for at, char in enumerate(text) if char.isdigit())


@pytest.mark.parametrize("text", ["on the wristband was 1987", "hosp no. 1987", "Hosp. no: 1987"])
def test_a_number_like_a_year_counts_after_the_word_that_says_so(text):
    (hit,) = find_phi(text, Anchors((), ("1987",)))
    assert text[hit.start : hit.end] == "1987"
    assert find_phi("seen in 1987", Anchors((), ("1987",))) == []


@pytest.mark.parametrize("text", EVERYBODY)
def test_words_after_what_looks_like_a_title_are_nobody(text):
    assert find_phi(text, Anchors()) == []


def test_a_telephone_extension_stays_a_hit():
    assert [hit.kind for hit in find_phi("Telephone extension 4410", Anchors())] == ["phone"]


@pytest.mark.parametrize("seed", ["A.", "A. ", "^A", "van ", "van-", "'t ", "K. van den ", "5.\n", "5-i-", "Loos, "])
def test_long_rows_of_initials_and_particles_take_linear_time(seed):
    who = Anchors(("Loos^Anna Karin^^van den", "in 't Loos^A"), (), ("20200301",))
    start = time.process_time()
    find_phi(("Loos " + seed * 20_000)[:20_000], who)
    assert time.process_time() - start < 5
