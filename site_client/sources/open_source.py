"""The sources of a site's configuration, in order: its own folder first."""

from __future__ import annotations

from pathlib import Path

from configs.site import SiteConfig
from configs.site_data import SourceConfig
from site_client.sources.interface import Source

__all__ = ["index_folder", "open_sources"]


def index_folder(config: SiteConfig) -> Path:
    """Where index, mirrors and picture cache lie."""
    return Path(config.index) if config.index else Path(config.state) / "index"


def open_sources(config: SiteConfig) -> list[Source]:
    """`config.data` as the source "data", where it is set, then `config.sources`; mirrors lie in mirror/NAME of the
    index folder.

    Nothing is asked of a server yet. Raises SourceError for a folder that does not exist and a missing library.
    """
    from site_client.sources.tables import FolderSource

    own: list[Source] = [FolderSource(Path(config.data))] if config.data else []
    mirrors = index_folder(config) / "mirror"
    return own + [_opened(source, mirrors / source.name, config.images.most_file_mib * 2**20)
                  for source in config.sources]


def _opened(config: SourceConfig, mirror: Path, most_file_bytes: int) -> Source:
    """One source; a library is loaded only for the kind that needs it."""
    if config.kind == "folder":
        from site_client.sources.tables import FolderSource

        return FolderSource(Path(config.path), config.name)
    mirror.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if config.kind == "fhir":
        from site_client.sources.fhir import FhirSource

        return FhirSource(config, mirror)
    if config.kind == "dicomweb":
        from site_client.sources.dicomweb import DicomWebSource

        return DicomWebSource(config, mirror, most_file_bytes=most_file_bytes)
    from site_client.sources.dimse import DimseSource

    return DimseSource(config, mirror, most_file_bytes=most_file_bytes)
