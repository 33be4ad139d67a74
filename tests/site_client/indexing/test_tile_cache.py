"""Tiles on disk: whole, private, named by content and form, and read only in the form they were made for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.inputs import Example, StoredImage, tiles_of
from model.spec import TINY
from model.tiling import cut_tiles
from site_client.indexing.tile_cache import CachedImage, TileCache, TileForm

FORM = TileForm(TINY.image_size, TINY.max_tiles)


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (90, 150, 3), dtype=np.uint8)


def stored(cache: TileCache, pixels: np.ndarray) -> CachedImage:
    tiles = cut_tiles(pixels, image_size=FORM.image_size, max_tiles=FORM.max_tiles).numpy()
    name = TileCache.name("ab" * 32, 0, FORM)
    cache.write(name, tiles)
    return CachedImage(cache, name, FORM, len(tiles))


def test_the_model_sees_the_same_from_the_cache_as_from_memory(tmp_path, pixels):
    image = stored(TileCache(tmp_path), pixels)
    assert isinstance(image, StoredImage)
    (lazy,) = tiles_of(Example("q", "a", images=(image,)), TINY)
    (eager,) = tiles_of(Example("q", "a", images=(pixels,)), TINY)
    assert torch.equal(lazy, eager)
    assert len(lazy) == image.count


def test_names_differ_by_content_frame_and_form():
    names = {TileCache.name(digest, frame, form) for digest in ("a", "b") for frame in (0, 1)
             for form in (TileForm(28, 4), TileForm(28, 5), TileForm(56, 4))}
    assert len(names) == 12


def test_another_form_is_refused_by_one_sentence(tmp_path, pixels):
    image = stored(TileCache(tmp_path), pixels)
    with pytest.raises(ValueError, match="run `site-client index` again"):
        image.tiles(image_size=FORM.image_size * 2, max_tiles=FORM.max_tiles)


def test_a_damaged_or_missing_file_is_an_error_and_never_other_tiles(tmp_path, pixels):
    cache = TileCache(tmp_path)
    image = stored(cache, pixels)
    path = cache.path(image.name)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError):
        cache.read(image.name)
    path.write_bytes(b"\x93NUMPY")
    with pytest.raises(ValueError):
        cache.read(image.name)
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError):
        cache.read(image.name)
    path.unlink()
    with pytest.raises(OSError):
        cache.read(image.name)


def test_files_are_private_and_what_nobody_needs_goes(tmp_path, pixels):
    cache = TileCache(tmp_path)
    image = stored(cache, pixels)
    assert cache.path(image.name).stat().st_mode & 0o077 == 0
    cache.write("f" * 64, np.zeros((1, 3, 2, 2), dtype=np.uint8))
    (tmp_path / "ff" / ".x.npy.12.partial").write_bytes(b"left by a kill")
    assert cache.keep_only({image.name}) == 2
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [f"{image.name}.npy"]
