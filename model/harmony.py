"""The Harmony conversation format with images, and which of its tokens carry loss.

One sample, as the GPT-oss branch of InternVL renders it (OpenGVLab/InternVL, internvl_chat_gpt_oss,
`preprocess_internvl3_5_gpt_oss`):

    <|start|>system<|message|>{system}<|end|><|start|>user<|message|><img><IMG_CONTEXT>*N</img>
    {question}<|end|><|start|>assistant<|channel|>final<|message|>{answer}<|return|>

Loss falls on the last assistant's turn only: from `<|channel|>` to `<|return|>`, without the `<|start|>assistant`
prefix that inference supplies. An empty system text leaves its turn out. Earlier turns (`history`) close with `<|end|>`
and carry no loss; InternVL trains on those as well.

Without images the tokens are those of OpenAI's openai-harmony 0.0.8 (`render_conversation_for_training` and
`..._for_completion`), also where text looks like a special token. Tools, recipients and content types are not rendered,
and no message is dropped: openai-harmony leaves out analysis that stands before the first final answer unless
`auto_drop_analysis` is off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer

from model.chatml import chatml_body, chatml_head, chatml_tail, chatml_target
from model.spec import ModelSpec
from model.tokenizer import special_id, text_ids

__all__ = [
    "CHANNELS",
    "HEADER_LENGTH",
    "IMAGE_PLACEHOLDER",
    "Message",
    "Rendered",
    "answer_header",
    "developer_text",
    "header_length",
    "render",
    "system_text",
]

CHANNELS = ("analysis", "commentary", "final")
"""Where an assistant may speak; the reader of an answer sees `final`."""

HEADER_LENGTH = 3
"""Supervised tokens before the answer proper: `<|channel|>`, `final`, `<|message|>`."""

IMAGE_PLACEHOLDER = "<image>"
"""Where an image goes in a question; without any, images come first, one a line."""


@dataclass(frozen=True)
class Message:
    """One earlier turn, of text. role: developer, user or assistant; channel: an assistant's, one of CHANNELS.

    Raises ValueError, one sentence, for another role, and for a channel where it does not belong or is missing.
    """

    role: str
    text: str
    channel: str = ""

    def __post_init__(self) -> None:
        if self.role not in ("developer", "user", "assistant"):
            raise ValueError("Message: role must be developer, user or assistant; the system text is the spec's.")
        if self.channel not in (CHANNELS if self.role == "assistant" else ("",)):
            raise ValueError(f"Message: an assistant speaks on a channel ({', '.join(CHANNELS)}), nobody else does.")


@dataclass(frozen=True)
class Rendered:
    """ids: token ids; mask: True where the token is a training target; truncated: question or answer was cut."""

    ids: list[int]
    mask: list[bool]
    truncated: bool


def system_text(
    identity: str,
    *,
    knowledge_cutoff: str = "",
    current_date: str = "",
    reasoning: str = "",
    channels: Sequence[str] = (),
) -> str:
    """The text of Harmony's official system message, as openai-harmony writes it; what is empty is left out.

    reasoning: low, medium or high; channels: those the answer may use. A spec's `system` is such a text, or any other.
    """
    dates = {"Knowledge cutoff: ": knowledge_cutoff, "Current date: ": current_date}
    about = [identity, *(name + value for name, value in dates.items() if value)]
    valid = f"# Valid channels: {', '.join(channels)}. Channel must be included for every message."
    parts = ["\n".join(filter(None, about)), f"Reasoning: {reasoning}" if reasoning else "", valid if channels else ""]
    return "\n\n".join(filter(None, parts))


def developer_text(instructions: str) -> str:
    """The text of a developer's message with instructions, as openai-harmony writes it."""
    return f"# Instructions\n\n{instructions}"


def render(
    question: str,
    answer: str | None,
    tiles_per_image: Sequence[int],
    tokenizer: Tokenizer,
    spec: ModelSpec,
    history: Sequence[Message] = (),
) -> Rendered:
    """One conversation as token ids and loss mask; `answer=None` ends with `<|start|>assistant`, ready to generate.

    Of a spec with a llama text the conversation is ChatML (`model.chatml`), which has no channels.

    history: the turns between system text and question, never cut.
    A question too long for `spec.max_tokens` loses its beginning: in every format here the request stands at the end.
    An answer longer than half of them loses its end (and with it `<|return|>`).
    Raises ValueError when placeholders and images disagree or when all but the question's text exceeds the limit.
    """
    head, body, tail, whole = _pieces(question, answer, tiles_per_image, tokenizer, spec, history)
    target = whole[: spec.max_tokens // 2]
    room = spec.max_tokens - len(head) - len(tail) - len(target)
    kept = _fit(body, room, spec.image_token_id)
    ids = head + kept + tail + target
    mask = [False] * (len(ids) - len(target)) + [True] * len(target)
    return Rendered(ids, mask, truncated=len(kept) < len(body) or len(target) < len(whole))


def _pieces(
    question: str, answer: str | None, tiles: Sequence[int], tokenizer: Tokenizer, spec: ModelSpec,
    history: Sequence[Message],
) -> tuple[list[int], list[int], list[int], list[int]]:
    """Ids before the question, of it, between it and the answer, and of the answer with what closes it."""
    parts = _parts(question, tiles)
    if spec.text == "llama":
        earlier = [(message.role, message.text) for message in history]
        return (chatml_head(tokenizer, spec.system, earlier), chatml_body(tiles, parts, tokenizer, spec),
                chatml_tail(tokenizer), [] if answer is None else chatml_target(tokenizer, answer))
    head = _system_turn(tokenizer, spec)
    for message in history:
        head += _turn(tokenizer, message.role, message.text, message.channel)
    head += _opening(tokenizer, "user")
    tail = [special_id(tokenizer, "<|end|>"), *_prefix(tokenizer)]
    return (head, _user_body(tiles, parts, tokenizer, spec), tail,
            [] if answer is None else _target(tokenizer, answer))


def header_length(spec: ModelSpec) -> int:
    """Supervised tokens before the answer proper: HEADER_LENGTH, none in ChatML."""
    return 0 if spec.text == "llama" else HEADER_LENGTH


def answer_header(tokenizer: Tokenizer, spec: ModelSpec | None = None) -> list[int]:
    """`<|channel|>final<|message|>`: three ids; none in ChatML. ValueError when `final` is not a single token."""
    if spec is not None and header_length(spec) == 0:
        return []
    final = text_ids(tokenizer, "final")
    if len(final) != 1:
        raise ValueError("The tokenizer splits the word 'final'; use a Harmony tokenizer that keeps it whole.")
    return [special_id(tokenizer, "<|channel|>"), *final, special_id(tokenizer, "<|message|>")]


def _target(tokenizer: Tokenizer, answer: str) -> list[int]:
    return [*answer_header(tokenizer), *text_ids(tokenizer, answer), special_id(tokenizer, "<|return|>")]


def _prefix(tokenizer: Tokenizer) -> list[int]:
    return [special_id(tokenizer, "<|start|>"), *text_ids(tokenizer, "assistant")]


def _opening(tokenizer: Tokenizer, role: str, channel: str = "") -> list[int]:
    start, message = special_id(tokenizer, "<|start|>"), special_id(tokenizer, "<|message|>")
    spoken = [special_id(tokenizer, "<|channel|>"), *text_ids(tokenizer, channel)] if channel else []
    return [start, *text_ids(tokenizer, role), *spoken, message]


def _turn(tokenizer: Tokenizer, role: str, text: str, channel: str = "") -> list[int]:
    return [*_opening(tokenizer, role, channel), *text_ids(tokenizer, text), special_id(tokenizer, "<|end|>")]


def _system_turn(tokenizer: Tokenizer, spec: ModelSpec) -> list[int]:
    return _turn(tokenizer, "system", spec.system) if spec.system else []


def _parts(question: str, tiles_per_image: Sequence[int]) -> list[str]:
    """The question's text around its images, one piece more than there are images."""
    parts = question.split(IMAGE_PLACEHOLDER)
    if len(parts) == 1:
        parts = ["", *["\n"] * (len(tiles_per_image) - 1), "\n" + question] if tiles_per_image else parts
    if len(parts) != len(tiles_per_image) + 1:
        raise ValueError(f"render: the question must hold one {IMAGE_PLACEHOLDER} for each image, or none at all.")
    return parts


def _user_body(
    tiles_per_image: Sequence[int], parts: Sequence[str], tokenizer: Tokenizer, spec: ModelSpec
) -> list[int]:
    """The user's text with every image in its place, as ids."""
    ids = text_ids(tokenizer, parts[0])
    opening, closing = special_id(tokenizer, "<img>"), special_id(tokenizer, "</img>")
    for tiles, text in zip(tiles_per_image, parts[1:], strict=True):
        ids += [opening, *[spec.image_token_id] * (tiles * spec.tokens_per_tile), closing]
        ids += text_ids(tokenizer, text)
    return ids


def _fit(body: list[int], room: int, image_token_id: int) -> list[int]:
    """The body without its first text tokens where it is too long; image tokens are never cut."""
    excess = len(body) - room
    if excess <= 0:
        return body
    last_image = max((i for i, token in enumerate(body) if token == image_token_id), default=-1)
    keep_until = last_image + 2 if last_image >= 0 else 0  # through the closing </img>
    if keep_until + excess > len(body):
        raise ValueError("render: earlier turns, the images and the answer alone exceed the model's max_tokens.")
    return body[:keep_until] + body[keep_until + excess :]
