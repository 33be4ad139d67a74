"""Brings a site's index up to date and turns it into one record for each patient.

Five steps, each of which goes on where it was left: the walk over the files, the join, the search of the texts, the
pictures, the records. Nothing here asks a server: `site-client index` mirrors remote sources first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from configs.site_data import ImagesConfig, PhiConfig
from model.inputs import Example
from site_client.imaging.burned_in import cannot_read_text, finds_text
from site_client.imaging.decoders import SYNTAXES, plugin_for
from site_client.imaging.sandbox import Sandbox
from site_client.indexing.index_store import IndexStore
from site_client.indexing.index_summary import SUMMARY, summary_of
from site_client.indexing.matching import OF_REPORTS, Candidate, Matcher
from site_client.indexing.pictures import CachedPictures, Pictures, PicturesInMemory
from site_client.indexing.scan import scan_folders
from site_client.indexing.texts import TextGate
from site_client.indexing.tile_cache import TileCache, TileForm
from site_client.phi.review import write_review
from site_client.records import (
    SOURCES,
    PatientRecord,
    Refusal,
    RefusedItemError,
    SiteIndex,
    keyed_digest,
    pseudonym,
)
from site_client.sources.interface import Question, Source

__all__ = ["IndexSettings", "Parser", "build_index"]

Progress = Callable[[str, int, int], None]
"""(what is being done, done, all that are known of)."""
TRANSIENT = ("decoder-crashed", "decoder-memory", "decoder-timeout", "file-changed", "file-not-readable")
"""Reasons that may be gone the next time although the file is the same."""


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """What an index depends on beside the data.

    Args:
        folder: of the index and the picture cache (0700).
        key: the site's pseudonym key, 16 bytes or more; issuer: the authority that assigned the patient IDs.
        form: of the cached tiles; None keeps whole pictures in memory instead, for small public data.
        opted_out: pseudonyms of patients of whom nothing is used; None where there is no list.
        most_samples: of one patient and source; those with the least keyed digest stay.
        of_reports: each report whose study has images here is a sample.
    """

    folder: Path
    key: bytes = field(repr=False)
    issuer: str = ""
    images: ImagesConfig = field(default_factory=ImagesConfig)
    phi: PhiConfig = field(default_factory=PhiConfig)
    form: TileForm | None = None
    opted_out: frozenset[str] | None = None
    most_samples: int = 512
    of_reports: bool = True


def build_index(
    sources: Sequence[Source], settings: IndexSettings, *, progress: Progress | None = None, retry: bool = False,
    parser: Parser | None = None,
) -> SiteIndex:
    """Read what is new or changed, and join everything.

    retry: also read files again whose refusal may be gone by now (`TRANSIENT`). parser: keeps a sandbox of its own;
    without one it is started for this call, and only if a file has to be parsed.

    Raises:
        ValueError: a missing folder, table or column, a key that is too short, an opt-out list that was there before.
    """
    if settings.images.burned_in == "ocr" and (reason := cannot_read_text()):  # not only once a picture is suspect
        raise ValueError(reason)
    pseudonym(settings.key, settings.issuer, "")  # an unusable key should be told before an hour of reading
    folders = dict(_folders(sources))
    with ExitStack() as stack:
        store = IndexStore(settings.folder, settings.key, f"1|{settings.issuer}|{settings.images.most_file_mib}")
        stack.callback(store.close)
        if settings.opted_out is None and store.fact("opted-out"):
            raise ValueError("the opt-out list is gone, and patients were on it; restore it from the newest backup")
        opted_out = settings.opted_out or frozenset()
        parser = parser or _Sandbox(settings.images, stack)
        _forget_stale(store, settings, retry=retry)
        scan_folders(store, parser.get, list(folders.items()), key=settings.key, issuer=settings.issuer,
                     opted_out=opted_out, progress=_phase(progress, "headers"))
        store.opt_out(sorted(opted_out))
        texts = TextGate(store, settings.phi, settings.key)
        matcher = Matcher(store, texts, settings.images, key=settings.key, issuer=settings.issuer,
                          opted_out=opted_out)
        candidates = _candidates(sources, matcher, settings, _phase(progress, "texts"))
        pictures = _pictures(store, folders, settings, parser.get)
        pictures.prepare((picture for one in candidates for picture in one.pictures), _phase(progress, "pictures"))
        index = _records(candidates, matcher, pictures, store, settings, texts)
        write_review(settings.folder, texts.found)
        store.note(SUMMARY, summary_of(index))
        if settings.form is not None:
            TileCache(settings.folder / "tiles").keep_only(store.picture_names())
        return index


class Parser(Protocol):
    """Where a sandbox comes from."""

    def get(self) -> Sandbox: ...


class _Sandbox:
    """Started when the first file has to be parsed."""

    def __init__(self, images: ImagesConfig, stack: ExitStack) -> None:
        self._images, self._stack = images, stack
        self._sandbox: Sandbox | None = None

    def get(self) -> Sandbox:
        if self._sandbox is None:
            self._sandbox = self._stack.enter_context(Sandbox(self._images))
        return self._sandbox


def _folders(sources: Sequence[Source]) -> Iterator[tuple[str, Path]]:
    """Each source's folders, the first under the source's own name."""
    for source in sources:
        for number, folder in enumerate(source.folders()):
            yield source.name if not number else f"{source.name}/{number}", folder


def _forget_stale(store: IndexStore, settings: IndexSettings, *, retry: bool) -> None:
    """Files are read again where what refused them may not do so any more."""
    images = settings.images
    changed = {
        "decoders": (_decoders(), ("decoder-missing",)),
        "burned-in": (f"{images.burned_in}|{','.join(sorted(images.burned_in_accept))}", ("burned-in-text",)),
        "opted-out": (",".join(sorted(settings.opted_out or ())), ("opted-out",)),
    }
    reasons = list(TRANSIENT) if retry else []
    with store.writing():  # as a whole: a rule that is noted and not applied would never be
        for name, (value, codes) in changed.items():
            if store.fact(name) != value:
                reasons += codes
                store.note(name, value)
                if name == "burned-in":
                    store.forget_suspects()
        if reasons:
            store.forget_reasons(reasons)


def _decoders() -> str:
    """What decides which syntaxes can be read here."""
    return ",".join(f"{syntax} {plugin_for(syntax)} {plugin_for(syntax, 16)}" for syntax in sorted(SYNTAXES))


def _candidates(
    sources: Sequence[Source], matcher: Matcher, settings: IndexSettings, progress: Callable[[int, int], None] | None
) -> list[Candidate]:
    questions: list[tuple[str, Question]] = []
    for source in sources:
        matcher.add_reports(source.reports())
        for question in source.questions():
            if isinstance(question, Refusal):
                matcher.refused.append(question)
            else:
                questions.append((source.name, question))
    needed = any(question.kind in OF_REPORTS for _, question in questions)
    # Whether there is a table, not whose rows are in it: one patient's report must not decide about everybody.
    if needed and not any(getattr(source, "has_reports", True) for source in sources):
        raise ValueError("reports.csv is missing, and no other source has reports; put it into the data folder")
    # By question ID, so that the order of rows in the tables cannot change which sample a draw picks.
    questions.sort(key=lambda pair: (pair[1].patient_id, pair[1].question_id, pair[0]))
    found: list[Candidate] = []
    for number, candidate in enumerate(matcher.candidates(questions, of_reports=settings.of_reports), start=1):
        found.append(candidate)
        if progress is not None and number % 64 == 0:
            progress(number, max(number, len(questions)))
    return found


def _pictures(
    store: IndexStore, folders: dict[str, Path], settings: IndexSettings, renderer: Callable[[], Sandbox]
) -> Pictures:
    parts = (store, folders, settings.images, renderer, finds_text)
    if settings.form is None:
        return PicturesInMemory(*parts)
    return CachedPictures(*parts, cache=TileCache(settings.folder / "tiles"), form=settings.form)


def _records(
    candidates: Sequence[Candidate], matcher: Matcher, pictures: Pictures, store: IndexStore, settings: IndexSettings,
    texts: TextGate,
) -> SiteIndex:
    refused = list(matcher.refused)
    found: dict[str, dict[str, list[Example]]] = defaultdict(lambda: {source: [] for source in SOURCES})
    seen: set[tuple[str, str]] = set()
    for one in candidates:
        try:
            if (one.patient, one.question_id) in seen:
                raise RefusedItemError("identifier-repeated")
            example = _example(one, pictures, settings.key)
        except RefusedItemError as refusal:
            refused.append(Refusal(one.item, refusal.code))
            continue
        seen.add((one.patient, one.question_id))
        found[one.patient][one.source].append(example)
    patients = []
    for patient in sorted(found):
        kept = {source: _bounded(examples, settings.most_samples) for source, examples in found[patient].items()}
        dropped = sum(map(len, found[patient].values())) - sum(map(len, kept.values()))
        refused += [Refusal("a sample beyond the bound of its patient", "patient-bound")] * dropped
        patients.append(PatientRecord(patient, {source: examples for source, examples in kept.items() if examples}))
    files = [Refusal(_item(source, path), reason) for source, path, reason in store.refused()]
    conflicts = [Refusal(_item(source, path), "identity-conflict") for source, path in store.conflicts()]
    return SiteIndex(tuple(patients), (*files, *refused), (*matcher.suspect(), *conflicts),
                     files=_file_counts(store.counts), phi_hits=dict(sorted(texts.kinds.items())),
                     patients_behind=_behind(store, texts))


def _example(one: Candidate, pictures: Pictures, key: bytes) -> Example:
    images = [image for file, frame in one.pictures if (image := pictures.image(file, frame)) is not None]
    if len(images) < (len(one.pictures) if one.all_needed else min(1, len(one.pictures))):
        raise RefusedItemError("image-unknown")
    return Example(question=one.text, answer=one.answer, choices=one.choices, images=tuple(images),
                   key=keyed_digest(key, "question", one.patient, one.question_id))


def _bounded(examples: Sequence[Example], most: int) -> tuple[Example, ...]:
    """Which ones stay is a function of this patient's samples alone, and nobody without the key can steer it."""
    if len(examples) <= most:
        return tuple(examples)
    kept = set(sorted(example.key for example in examples)[:most])
    return tuple(example for example in examples if example.key in kept)


def _behind(store: IndexStore, texts: TextGate) -> dict[str, dict[str, int]]:
    hits = {kind: len(patients) for kind, patients in sorted(texts.patients.items())}
    return _file_counts(store.patients) | ({"phi_hits": hits} if hits else {})


def _file_counts(count: Callable[[str], dict[str, int]]) -> dict[str, dict[str, int]]:
    counts = {name: count(column) for name, column in (("modalities", "modality"), ("syntaxes", "syntax"))}
    return {name: found for name, found in counts.items() if found}


def _item(source: str, path: str) -> str:
    return f"dicom/{path}" if source == "data" else f"{source}/{path}"


def _phase(progress: Progress | None, what: str) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, total: progress(what, done, total)
