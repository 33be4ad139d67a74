"""The pictures of the samples: decoded in the sandbox once, kept as tiles (`CachedPictures`), or whole in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from configs.site_data import ImagesConfig
from model.inputs import Image
from model.tiling import cut_tiles
from site_client.indexing.index_store import IndexedFile, IndexStore, modified_ns
from site_client.indexing.tile_cache import CachedImage, TileCache, TileForm
from site_client.records import RefusedItemError

__all__ = ["CachedPictures", "Picture", "Pictures", "PicturesInMemory", "Rendered", "Renderer"]

Picture = tuple[IndexedFile, int]
"""One frame of one file."""
Progress = Callable[[int, int], None]
_Wanted = tuple[IndexedFile, list[int]]
_WHOLE = "pixels"  # form of a picture that is kept in memory


class Rendered(Protocol):
    """Frames of one file as shown, uint8 (H, W, 3) each, and the SHA-256 (hex) of the bytes they were made from."""

    @property
    def pixels(self) -> Sequence[NDArray[np.uint8]]: ...

    @property
    def digest(self) -> str: ...


class Renderer(Protocol):
    """What decodes: `site_client.imaging.sandbox.Sandbox`; called from several threads."""

    def render(self, path: Path, frames: Sequence[int]) -> Rendered:
        """Raises RefusedItemError with the reason."""


class Pictures(ABC):
    """Makes the pictures that are asked for and says where they are.

    Args:
        folders: where each source's files lie.
        renderer: asked for only when there is something to decode.
        finds_text: of a picture that is suspect of text in its pixels, under `burned_in: ocr`.
    """

    form = _WHOLE

    def __init__(
        self, store: IndexStore, folders: Mapping[str, Path], images: ImagesConfig, renderer: Callable[[], Renderer],
        finds_text: Callable[[NDArray[np.uint8]], bool],
    ) -> None:
        self._store, self._folders, self._images = store, folders, images
        self._renderer, self._finds_text = renderer, finds_text

    def prepare(self, wanted: Iterable[Picture], progress: Progress | None = None) -> None:
        """Make what is missing of `wanted`; each failure is kept with its reason."""
        missing: dict[IndexedFile, list[int]] = {}
        for file, frame in wanted:
            frames = missing.setdefault(file, [])
            if frame not in frames and not self._is_known(file, frame):
                frames.append(frame)
        todo = [(file, sorted(frames)) for file, frames in missing.items() if frames]
        done = 0
        with ThreadPoolExecutor(self._images.workers) as pool:
            # A file's pictures may take a GiB, so only those that are being made are held.
            for some in _batches(todo, self._images.workers):
                made = list(pool.map(lambda one: self._make(*one), some))
                with self._store.writing():
                    for (file, frames), outcome in zip(some, made, strict=True):
                        self._keep(file, frames, outcome)
                done += len(some)
                if progress is not None:
                    progress(done, len(todo))

    @abstractmethod
    def image(self, file: IndexedFile, frame: int) -> Image | None:
        """The picture, None when it cannot be had; `prepare` comes first."""

    @abstractmethod
    def _is_known(self, file: IndexedFile, frame: int) -> bool: ...

    @abstractmethod
    def _keep_frame(self, file: IndexedFile, frame: int, digest: str, pixels: NDArray[np.uint8]) -> None: ...

    def _make(self, file: IndexedFile, frames: Sequence[int]) -> Rendered | str:
        """The frames, or the reason why there are none. Runs beside others: it touches no database."""
        accepted = not file.suspect or file.modality in self._images.burned_in_accept
        if not accepted and self._images.burned_in == "refuse":
            return "burned-in-text"
        path = self._folders[file.source] / file.path
        try:
            rendered = self._renderer().render(path, frames)
            if _changed(path, file):
                return "file-changed"
            if not accepted and self._images.burned_in == "ocr" and any(map(self._finds_text, rendered.pixels)):
                return "burned-in-text"
        except RefusedItemError as refusal:
            return refusal.code
        return rendered

    def _keep(self, file: IndexedFile, frames: Sequence[int], outcome: Rendered | str) -> None:
        for number, frame in enumerate(frames):
            if isinstance(outcome, str):
                self._store.put_picture(file.id, frame, str(self.form), "", 0, outcome)
            else:
                self._keep_frame(file, frame, outcome.digest, outcome.pixels[number])


class CachedPictures(Pictures):
    """Tiles on the disk, in the form of one model."""

    def __init__(
        self, store: IndexStore, folders: Mapping[str, Path], images: ImagesConfig, renderer: Callable[[], Renderer],
        finds_text: Callable[[NDArray[np.uint8]], bool], *, cache: TileCache, form: TileForm,
    ) -> None:
        super().__init__(store, folders, images, renderer, finds_text)
        self._cache, self.tile_form = cache, form
        self.form = str(form)

    def _is_known(self, file: IndexedFile, frame: int) -> bool:
        found = self._store.picture(file.id, frame, self.form)
        return found is not None and (bool(found[2]) or self._cache.has(found[0], found[1], self.tile_form))

    def _keep_frame(self, file: IndexedFile, frame: int, digest: str, pixels: NDArray[np.uint8]) -> None:
        form = self.tile_form
        tiles = cut_tiles(pixels, image_size=form.image_size, max_tiles=form.max_tiles).numpy()
        # With the patient: the digest is what the decoding process says, and it must not reach another's picture.
        name = TileCache.name(f"{file.patient}|{digest}", frame, form)
        self._cache.write(name, tiles)
        self._store.put_picture(file.id, frame, self.form, name, len(tiles))

    def image(self, file: IndexedFile, frame: int) -> Image | None:
        """From the cache."""
        name, tiles, reason = self._store.picture(file.id, frame, self.form) or ("", 0, "missing")
        return None if reason else CachedImage(self._cache, name, self.tile_form, tiles)


class PicturesInMemory(Pictures):
    """Whole pictures, for data that are small and public."""

    def __init__(
        self, store: IndexStore, folders: Mapping[str, Path], images: ImagesConfig, renderer: Callable[[], Renderer],
        finds_text: Callable[[NDArray[np.uint8]], bool],
    ) -> None:
        super().__init__(store, folders, images, renderer, finds_text)
        self._held: dict[tuple[int, int], NDArray[np.uint8]] = {}

    def _is_known(self, file: IndexedFile, frame: int) -> bool:
        return (file.id, frame) in self._held

    def _keep_frame(self, file: IndexedFile, frame: int, digest: str, pixels: NDArray[np.uint8]) -> None:
        self._held[file.id, frame] = pixels

    def image(self, file: IndexedFile, frame: int) -> Image | None:
        """From memory."""
        return self._held.get((file.id, frame))


def _changed(path: Path, file: IndexedFile) -> bool:
    """Whether the file is another one than when its header was read: the picture could be another patient's."""
    try:
        status = path.lstat()
    except OSError:
        return True
    return (modified_ns(status), status.st_size) != (file.mtime_ns, file.size)


def _batches(items: Sequence[_Wanted], size: int) -> Iterator[list[_Wanted]]:
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some
