"""The index of the site that a site file describes: its sources, its rules, its model's form of tiles."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from configs.schema import SiteConfig
from model.checkpoint import read_spec
from model.spec import MEDGPT_OSS_20B
from site_client.indexing.build import IndexSettings, build_index
from site_client.indexing.tile_cache import TileForm
from site_client.keystore import load_or_create_secret
from site_client.opt_out import opted_out
from site_client.records import SiteIndex
from site_client.sources.interface import Synced
from site_client.sources.open_source import index_folder, open_sources
from site_client.sources.tables import FolderSource

__all__ = ["read_site", "sync_site"]

Progress = Callable[[str, int, int], None]


def read_site(config: SiteConfig, *, progress: Progress | None = None, retry: bool = False) -> SiteIndex:
    """Bring the index up to date from what is on this machine; no server is asked.

    retry: also read files again whose refusal may be gone by now, such as those that ran out of time.

    Raises:
        ValueError: a folder, table or column is missing, or the opt-out list is damaged.
    """
    state = Path(config.state)
    settings = IndexSettings(
        folder=index_folder(config), key=load_or_create_secret(state / "pseudonym.key"), issuer=config.issuer,
        images=config.images, phi=config.phi, form=_form(config), opted_out=opted_out(state, config.issuer),
        most_samples=config.max_samples_per_patient, of_reports=config.report_samples)
    sources = open_sources(config)
    if all(isinstance(source, FolderSource) and not source.has_tables for source in sources):
        raise ValueError("there is neither questions.csv nor another table of questions or reports; put one into the "
                         "data folder, or name a server in `sources` and run `site-client index`")
    return build_index(sources, settings, progress=progress, retry=retry)


def sync_site(config: SiteConfig, progress: Progress | None = None) -> dict[str, Synced]:
    """Mirror what is new on every server; {source's name: what came}.

    Raises:
        SourceError: a server cannot be reached or refuses; what came before stays.
    """
    done: dict[str, Synced] = {}
    for source in open_sources(config):
        show = None if progress is None else _named(progress, source.name)
        done[source.name] = source.sync(show)
    return done


def _named(progress: Progress, name: str) -> Callable[[int, int], None]:
    return lambda done, total: progress(f"mirror of {name}", done, total)


def _form(config: SiteConfig) -> TileForm:
    """Of the site's base model; MedGPT-oss' own where that is not there yet."""
    try:
        spec = read_spec(Path(config.base_model))
    except (ValueError, OSError):
        spec = MEDGPT_OSS_20B
    return TileForm(spec.image_size, spec.max_tiles)
