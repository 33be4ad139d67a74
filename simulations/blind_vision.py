"""A public base that sees nothing: the same model whose vision tower has a patch embedding of zeros.

Every picture then has the same features, so that a federation on it measures what pictures contribute. The rest of the
model, the protocol and the sites' data stay as they are.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from model.backbone import hash_model, load_base, save_base
from simulations.materials import Materials

__all__ = ["blinded"]


def blinded(materials: Materials) -> Materials:
    """The same materials with a blind base, made beside the seeing one if it is not there yet."""
    folder = materials.base_model.with_name(f"{materials.base_model.name}-blind")
    if not folder.is_dir():
        base = load_base(materials.base_model)
        with torch.no_grad():
            base.model.model.vision_tower.embeddings.patch_embedding.weight.zero_()
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.partial-", dir=folder.parent))
        try:
            save_base(base.model, base.tokenizer, base.spec, partial)
            partial.chmod(0o755)
            os.replace(partial, folder)  # noqa: PTH105  (atomic)
        except OSError:
            if not folder.is_dir():  # otherwise another process has made the same meanwhile
                raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return replace(materials, base_model=folder, base_hash=hash_model(folder))
