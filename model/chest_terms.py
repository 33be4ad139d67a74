"""Words by which a chest report mentions, denies or doubts the 14 observations of CheXpert.

The observations, and the order mention -> negated or uncertain -> one label, are those of Irvin et al., CheXpert,
arXiv 1901.07031, section 3 and table 1. The phrases are our own short lists, not those of its labeller; cues before and
after a mention follow the idea of NegEx (Chapman et al., Journal of Biomedical Informatics 34, 2001).
"""

from __future__ import annotations

__all__ = [
    "BREAKS", "MENTIONS", "NEGATED_AFTER", "NEGATED_BEFORE", "NO_FINDING", "NORMAL", "OBSERVATIONS", "SAYS_NORMAL",
    "SUPPORT_DEVICES", "UNCERTAIN_AFTER", "UNCERTAIN_BEFORE",
]  # fmt: skip

NO_FINDING, SUPPORT_DEVICES = "No Finding", "Support Devices"

_HEART = r"(?:heart(?: size)?|cardiac (?:silhouette|size|contours?)|cardiomediastinal silhouette)"
_MEDIASTINUM = r"(?:(?:cardio)?mediastin(?:um|al (?:silhouette|contours?)))"
_LARGE = r"(?:enlarged|prominent|wide(?:ned)?)"

#: Observation -> how it is mentioned (regular expressions on lower-case text).
MENTIONS: dict[str, tuple[str, ...]] = {
    "Enlarged Cardiomediastinum": (
        rf"{_LARGE} {_MEDIASTINUM}", rf"{_MEDIASTINUM}[^.;,]{{0,30}} {_LARGE}",
        r"mediastinal (?:widening|enlargement|mass|lymphadenopathy|adenopathy)", r"widening of the mediastinum"),
    "Cardiomegaly": (
        r"cardiomegaly", rf"enlarged {_HEART}", rf"{_HEART}[^.;,]{{0,40}} enlarged", r"large heart",
        r"(?:cardiac|heart) enlargement", r"enlargement of (?:the )?(?:heart|cardiac silhouette)"),
    "Lung Lesion": (
        r"(?:lung|pulmonary|lobe|apical|hilar) (?:mass(?:es)?|lesions?)",
        r"nodul(?:es?|ar densit(?:y|ies)|ar opacit\w+)", r"granulomas?", r"neoplas(?:m|ms|tic)", r"tumou?rs?",
        r"metasta(?:sis|ses|tic)", r"carcinoma",
        r"malignan(?:t|cy)", r"mass(?:es)?(?= in| within)", r"cavit(?:y|ary|ation)", r"calcified (?:mass|lesion)"),
    "Lung Opacity": (
        r"(?:air ?-?space|parenchymal|interstitial|lung|pulmonary|basilar|bibasilar|lobe|hazy|patchy|focal|"
        r"retrocardiac|perihilar) (?:\w+ )?(?:disease|opacit\w+|densit(?:y|ies)|markings)",
        r"opaci(?:ty|ties|fication|fications)", r"infiltrat(?:e|es|ion)", r"scar(?:s|ring)?", r"fibrosis",
        r"interstitial (?:markings|prominence|thickening|changes)", r"air ?bronchograms?"),
    "Edema": (
        r"(?:pulmonary |interstitial |alveolar )?(?:o)?edema", r"(?:pulmonary )?vascular congestion",
        r"(?:congestive )?heart failure", r"chf", r"kerley b? ?lines", r"(?:fluid|volume) overload"),
    "Consolidation": (r"consolidat(?:ion|ions|ed|ive)",),
    "Pneumonia": (r"(?:broncho)?pneumonia", r"pneumonitis", r"infectio(?:n|us)(?: process)?"),
    "Atelectasis": (r"atelecta(?:sis|ses|tic)", r"collapse(?:d)?", r"volume loss"),
    "Pneumothorax": (r"pneumothora(?:x|ces)", r"ptx"),
    "Pleural Effusion": (
        r"(?:pleural |(?<!pericardial ))effusions?", r"pleural fluid", r"hydropneumothorax",
        r"blunting of (?:the |both )?(?:\w+ ){0,2}(?:costophrenic|cp) (?:angle|angles|sulcus)",
        r"(?:costophrenic|cp) (?:angle|sulcus)[^.;,]{0,20} blunt(?:ed|ing)"),
    "Pleural Other": (r"pleural (?:thickening|plaques?|calcifications?|scarring|mass)", r"fibrothorax"),
    "Fracture": (r"(?:rib |clavicle |clavicular |vertebral |compression )?fractures?(?: deformit\w+)?",
                 r"compression deformit(?:y|ies)"),
    SUPPORT_DEVICES: (
        r"pacemaker", r"(?:central (?:venous )?|picc|jugular |subclavian |dialysis )(?:line|catheter)s?", r"picc",
        r"(?:port|mediport|port-a-cath)(?: catheter)?", r"(?:endotracheal|nasogastric|enteric|feeding|chest|ng|et)"
        r" tubes?",
        r"tracheostomy", r"sternotomy (?:wires|sutures)", r"sternal (?:wires|sutures)", r"median sternotomy",
        r"prosthe(?:sis|tic) valve", r"(?:valve|valvular) prosthesis", r"stents?", r"(?:surgical )?clips",
        r"defibrillator", r"aicd", r"icd", r"catheters?", r"hardware", r"leads"),
}

OBSERVATIONS = (NO_FINDING, *MENTIONS)
"""All 14, No Finding first."""

#: Observation -> words that deny it without naming it.
NORMAL: dict[str, tuple[str, ...]] = {
    "Cardiomegaly": (rf"{_HEART}[^.;]{{0,60}} (?:normal|unremarkable|within normal limits)", rf"normal {_HEART}",
                     rf"{_HEART} (?:is )?not enlarged"),
    "Enlarged Cardiomediastinum": (
        rf"{_MEDIASTINUM}[^.;]{{0,60}} (?:normal|unremarkable|within normal limits)", rf"normal {_MEDIASTINUM}"),
}

#: Without such a word, a text that mentions nothing says nothing: it is not taken for a normal report.
SAYS_NORMAL = (
    r"no", r"normal", r"unremarkable", r"clear", r"negative", r"without", r"free of", r"within normal limits",
    r"stable",
    r"unchanged", r"none",
)  # fmt: skip

#: Cues whose scope runs from them to the end of the clause.
NEGATED_BEFORE = (
    r"no", r"not", r"without", r"free of", r"clear of", r"negative for", r"absence of", r"absent", r"denies", r"never",
    r"neither", r"nor", r"resolution of", r"resolved", r"rather than", r"rules? out", r"excludes?",
)  # fmt: skip
UNCERTAIN_BEFORE = (
    r"may", r"might", r"could", r"possibl[ey]", r"possibility of", r"probabl[ey]", r"likely", r"suspected",
    r"suspicious for", r"suspicion (?:of|for)", r"concerning for", r"concern for", r"worrisome for",
    r"suggest(?:s|ed|ing|ive of)?", r"question(?:able| of)?", r"equivocal", r"versus", r"vs", r"or", r"consider",
    r"compatible with",
    r"cannot (?:be )?(?:exclude|excluded|rule out)", r"can ?not exclude", r"(?:not|difficult to) (?:entirely )?exclude",
    r"evaluat(?:e|ion) for", r"assess for", r"rule out", r"differential", r"appears? to be", r"if",
)  # fmt: skip

#: Cues whose scope runs back from them to the beginning of the clause.
NEGATED_AFTER = (
    r"(?:is|are|was|were|has been|have been|is also|are also) (?:not|no longer) "
    r"(?:seen|identified|present|visuali[sz]ed|evident|demonstrated|noted|appreciated|visible|detected)",
    r"not (?:seen|identified|present|visuali[sz]ed|evident|demonstrated|noted|appreciated|visible|detected)",
    r"(?:has|have) (?:\w+ )?(?:resolved|cleared)", r"(?:is|are|was) (?:absent|excluded|ruled out)", r"resolved",
)  # fmt: skip
UNCERTAIN_AFTER = (
    r"(?:cannot|can ?not|could not|is not|not) (?:be )?(?:entirely |completely )?(?:excluded|ruled out)",
    r"(?:is|are) (?:possible|probable|suspected|questionable|likely|considered|not excluded)", r"suspected",
    r"(?:may|might|could) be (?:present|considered)", r"not excluded", r"possible",
)  # fmt: skip

#: Where a clause ends: a cue does not reach across.
BREAKS = (
    r"[.;:!?\n]", r"\bbut\b", r"\bhowever\b", r"\balthough\b", r"\bthough\b", r"\bexcept\b", r"\baside from\b",
    r"\bapart from\b", r"\bother than\b", r"\bwhich\b",
    r"\bwith (?=\w+ (?:\w+ ){0,2}(?:opacit|effusion|atelecta|edema))", r"\bsecondary to\b", r"\bdue to\b",
    r",\s*(?=(?:there|the|a|an|this|these|it|left|right|bilateral|mild|stable|small)\b)",
)  # fmt: skip
