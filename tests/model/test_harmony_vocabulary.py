"""o200k_harmony made offline: the same ids as tiktoken's for every kind of text, and files that are not the ranks."""

from __future__ import annotations

import gzip
import hashlib
import random
import subprocess
import sys
import tracemalloc
from importlib import metadata
from pathlib import Path

import pytest
import tiktoken
from tokenizers import Tokenizer

from model.backbone import check_tokenizer
from model.harmony_vocabulary import (
    INTERNVL_TOKENS,
    VOCABULARY_SIZE,
    build_tokenizer,
    find_ranks,
    read_ranks,
    special_tokens,
)
from model.spec import MEDGPT_OSS_20B, MEDGPT_OSS_20B_PACKED
from model.tokenizer import SPECIAL_TOKENS, load_tokenizer, save_tokenizer, special_id, text_ids

ROOT = Path(__file__).resolve().parents[2]
FIRST_SPECIAL = 199_998

CLINICAL = [
    "FINDINGS: The cardiac silhouette is mildly enlarged; CTR 0.56. No focal consolidation.",
    "IMPRESSION:\n1. Stable 1.3 cm nodule, RUL.\n2. No pleural effusion or pneumothorax.\n",
    "Hx: 67 y/o M s/p CABG x3, EF 35-40%, Cr 1.8→2.4 mg/dL, on metoprolol 25 mg p.o. b.i.d.",
    "Gram-positive cocci in clusters; MIC ≤0.5 µg/mL; T 38.9°C, SpO₂ 88%, pH 7.31, HCO₃⁻ 18 mmol/L",
    "Herzgröße im Normbereich. Kein Pleuraerguß. Z. n. Sternotomie.",
    "Silhouette cardiomédiastinale élargie; pas d'épanchement, pas de pneumothorax.",
    "两肺野清晰，心影大小正常，双侧肋膈角锐利。",
    "左下肺野に浸潤影を認める。",
    "폐 실질에 이상 소견 없음.",
    "الصدر طبيعي، لا يوجد انصباب.",
]
PIECES = [
    " ", "  ", "\n", "\r\n", "\t", "\u00a0", "\u3000", "a", "ab", "A", "Abc", "é", "e\u0301", "ſ", "'s", "'S", "'ll",
    "'ſ", "1", "12", "1234", "٣", "½", "中", "文", "か", "한", "ก", "क्ष", "😀", "👩\u200d⚕️", "-", "==", "/", "//", "_",
    "…", "!?", "<|end|>", "<|start|>", "<img>", "{", "}", "()", "\u0000", "\u200b", "\ufeff", "\U0010ffff",
]  # fmt: skip
CODE = [
    "def f(x: int) -> int:\n    return x ** 2  # squared\n",
    "for (int i = 0; i < n; ++i) {\r\n\ta[i] = b[i];\r\n}\r\n",
    '{"a": [1, 2.5e-3, null], "b": "\\u00e9"}',
    "SELECT * FROM t WHERE id='1' -- x\n",
    "https://example.org/a/b?c=d#e//",
    "    \n\n\t\t  x\n \n",
    "a" * 300,
    "ab" * 200,
    "=" * 77,
    " " * 200,
    "\n" * 100 + "x",
    "0" * 50,
    "x" + " " * 63 + "\n" * 9,
]


def texts() -> list[str]:
    """Several hundred strings: written ones, random pieces, random code points, repeated pieces. Always the same."""
    rng = random.Random(20260301)
    points = [point for point in range(0x110000) if not 0xD800 <= point < 0xE000]
    mixed = ["".join(rng.choices(PIECES, k=rng.randint(1, 60))) for _ in range(200)]
    wild = ["".join(map(chr, rng.choices(points, k=rng.randint(1, 40)))) for _ in range(150)]
    plane = ["".join(chr(rng.randrange(0x2FFF)) for _ in range(rng.randint(1, 60))) for _ in range(150)]
    repeated = ["".join(rng.choice(PIECES) * rng.randint(1, 9) for _ in range(8)) for _ in range(100)]
    letters = ["".join(rng.choices(rng.sample("abcdefghijklmnopqrstuvwxyz", 3), k=40)) for _ in range(50)]
    return ["", *CLINICAL, *CODE, *PIECES, *mixed, *wild, *plane, *repeated, *letters]


@pytest.fixture(scope="module")
def ranks() -> dict[bytes, int]:
    return read_ranks(find_ranks())


@pytest.fixture(scope="module")
def plain() -> bytes:
    """The ranks file, unpacked."""
    return gzip.decompress(find_ranks().read_bytes())


@pytest.fixture(scope="module")
def oracle(plain: bytes, tmp_path_factory: pytest.TempPathFactory) -> tiktoken.Encoding:
    """tiktoken's o200k_harmony, its ranks from the package instead of the network."""
    folder = tmp_path_factory.mktemp("ranks")
    address = b"https://openaipublic.blob.core.windows.net/encodings/o200k_base.tiktoken"
    (folder / hashlib.sha1(address).hexdigest()).write_bytes(plain)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", str(folder))
        return tiktoken.get_encoding("o200k_harmony")


def test_ids_are_tiktokens_and_every_text_comes_back(harmony_tokenizer: Tokenizer, oracle: tiktoken.Encoding) -> None:
    for text in texts():
        ids = text_ids(harmony_tokenizer, text)
        assert ids == oracle.encode(text, disallowed_special=()), repr(text)
        assert harmony_tokenizer.decode(ids) == text


def test_every_code_point_below_u3000_in_context(harmony_tokenizer: Tokenizer, oracle: tiktoken.Encoding) -> None:
    """Letters, marks, digits and blanks fall into the same classes of the pattern in both regex engines."""
    for start in range(0, 0x3000, 256):
        text = "".join(f"a{chr(point)}b {chr(point)}1{chr(point)}\n" for point in range(start, start + 256))
        assert text_ids(harmony_tokenizer, text) == oracle.encode(text, disallowed_special=()), hex(start)


def test_a_word_that_is_a_token_becomes_that_token(harmony_tokenizer: Tokenizer, ranks: dict[bytes, int]) -> None:
    assert list(ranks.values()) == list(range(FIRST_SPECIAL))
    words = [token.decode() for token in list(ranks)[::97] if token.isalpha() and token.islower()]
    assert len(words) > 200
    assert all(text_ids(harmony_tokenizer, word) == [ranks[word.encode()]] for word in words)


def test_special_tokens_have_openais_ids(harmony_tokenizer: Tokenizer, oracle: tiktoken.Encoding) -> None:
    ours = {token: special_id(harmony_tokenizer, token) for token in special_tokens()}
    theirs = dict(oracle._special_tokens)
    renamed = {f"<|reserved_{200_019 + place}|>": token for place, token in enumerate(INTERNVL_TOKENS)}
    assert theirs.pop("<|reserved_200018|>") == theirs["<|endofprompt|>"] == 200_018  # one id with two names
    assert ours == {renamed.get(token, token): token_id for token, token_id in theirs.items()}
    assert list(ours.values()) == list(range(FIRST_SPECIAL, VOCABULARY_SIZE))
    assert harmony_tokenizer.get_vocab_size() == oracle.n_vocab == VOCABULARY_SIZE
    assert ours["<|constrain|>"] == 200_003 and ours["<|call|>"] == 200_012 and ours["</img>"] == 200_020


def test_it_fits_the_full_models_specs(harmony_tokenizer: Tokenizer) -> None:
    for spec in (MEDGPT_OSS_20B, MEDGPT_OSS_20B_PACKED):
        check_tokenizer(harmony_tokenizer, spec)
        assert harmony_tokenizer.get_vocab_size() == spec.vocab_size


def test_text_makes_no_special_also_after_saving(harmony_tokenizer: Tokenizer, tmp_path: Path) -> None:
    save_tokenizer(harmony_tokenizer, tmp_path / "tokenizer.json")
    loaded = load_tokenizer(tmp_path / "tokenizer.json")
    text = "".join(special_tokens())
    ids = text_ids(harmony_tokenizer, text)
    assert text_ids(loaded, text) == ids and max(ids) < FIRST_SPECIAL
    assert loaded.decode(ids) == text


@pytest.mark.parametrize("size", [200_028, 200_100])
def test_a_smaller_vocabulary_keeps_the_named_tokens_and_drops_reserved_ones(size: int) -> None:
    tokens = special_tokens(size)
    assert len(tokens) == size - FIRST_SPECIAL
    assert {*SPECIAL_TOKENS, *INTERNVL_TOKENS} <= set(tokens)
    assert tokens == special_tokens()[: len(tokens)]


def test_a_vocabulary_that_internvls_tokens_do_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 200028"):
        build_tokenizer({}, 200_027)
    assert special_tokens(300_000) == special_tokens()  # a model may have rows that no token uses


def test_small_ranks_give_the_pieces_of_bpe_by_ranks() -> None:
    """Merges by rank of the whole, a piece that is a token at once; checked against tiktoken with these ranks."""
    words = [b"ab", b"bc", b"abc", b"abcab", b"aa", b"aaa", b"zq\xc3\xa9", b"  "]
    few = {bytes([byte]): byte for byte in range(256)} | {word: 256 + place for place, word in enumerate(words)}
    small = build_tokenizer(few)
    oracle = tiktoken.Encoding("small", pat_str=r"\s+|\S+", mergeable_ranks=few, special_tokens={})
    for text in ("abc", "abcab", "abcabc", "aaaa", "aaaaa", "bcabc", "zqé", "zqéa", "    ", "cabcaabb"):
        assert text_ids(small, text) == oracle.encode(text), text


def test_the_packages_code_is_never_imported() -> None:
    code = ("import sys\nfrom model.harmony_vocabulary import find_ranks, read_ranks\nread_ranks(find_ranks())\n"
            "print([name for name in ('bpe_openai', 'tiktoken', 'transformers') if name in sys.modules])")  # fmt: skip
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", absent)
    with pytest.raises(ValueError, match=r"install bpe-openai==0\.1\.4 or name a file"):
        find_ranks()


def test_plain_and_gzipped_ranks_are_the_same(plain: bytes, ranks: dict[bytes, int], tmp_path: Path) -> None:
    path = tmp_path / "o200k_base.tiktoken"
    path.write_bytes(plain)
    assert read_ranks(path) == ranks


@pytest.mark.parametrize("change", ["cut", "flipped", "empty", "another", "longer", "tail"])
def test_files_that_are_not_the_ranks(change: str, plain: bytes, tmp_path: Path) -> None:
    packed = find_ranks().read_bytes()
    middle = len(packed) // 2
    content, expected = {
        "cut": (packed[:-9], "is damaged"),
        "flipped": (packed[:middle] + bytes([packed[middle] ^ 0x10]) + packed[middle + 1 :], "is damaged|is not o200k"),
        "empty": (b"", "is not o200k_base"),
        "another": (plain.replace(b"IQ== 0", b"IQ== 1", 1), "is not o200k_base"),
        "longer": (plain + b"\n", "is not o200k_base"),
        "tail": (packed + b"\x00junk", "is damaged"),
    }[change]
    path = tmp_path / "ranks"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=expected):
        read_ranks(path)


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    """A quarter of a gigabyte of zeros is refused in memory that does not hold it."""
    path = tmp_path / "ranks.gz"
    with gzip.open(path, "wb", compresslevel=1) as stream:
        for _ in range(16):
            stream.write(bytes(2**24))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="is not o200k_base"):
            read_ranks(path)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 32 * 2**20


def test_a_missing_ranks_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="There is no ranks file"):
        read_ranks(tmp_path / "nowhere")
