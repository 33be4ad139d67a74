"""Writes tests/vectors/harmony_conversations.json: python tests/vectors/make_harmony.py

Each conversation has the ids that openai-harmony 0.0.8 gives it: `training` (render_conversation_for_training, closed
by `<|return|>`) and `completion` (render_conversation_for_completion of all turns but the answer, ready to generate).
`tests/model/test_harmony_conversations.py` compares our rendering with them, and them with openai-harmony.
"""

from __future__ import annotations

import gzip
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from model.harmony_vocabulary import find_ranks  # noqa: E402

FILE = Path(__file__).with_name("harmony_conversations.json")

_OFFICIAL = {
    "identity": "You are ChatGPT, a large language model trained by OpenAI.", "knowledge_cutoff": "2024-06",
    "reasoning": "medium", "channels": ["analysis", "commentary", "final"],
}
_OURS = {"identity": "You are a helpful medical assistant.", "reasoning": "low", "channels": ["final"]}
_INTERNVL = {
    "identity": "You are InternVL, a large language model trained by Shanghai AI Laboratory.",
    "knowledge_cutoff": "2024-06", "current_date": "2025-08-06", "reasoning": "low", "channels": ["final"],
}
_FINDINGS = (
    "FINDINGS: PA and lateral views of the chest. The cardiomediastinal silhouette is within normal limits. There is a "
    "1.3 cm nodule in the right upper lobe (SUVmax 4.7), unchanged since 2019. No pleural effusion or pneumothorax.\n\n"
    "Write the impression."
)


def _user(text: str) -> dict[str, str]:
    return {"role": "user", "text": text}


def _says(text: str, channel: str = "final") -> dict[str, str]:
    return {"role": "assistant", "text": text, "channel": channel}


def _developer(instructions: str) -> dict[str, str]:
    return {"role": "developer", "instructions": instructions}


# name, system (fields, or text, or None), history, question, answer
CONVERSATIONS: list[tuple[str, dict[str, Any] | str | None, list[dict[str, str]], str, str]] = [
    ("no system", None, [], "Is it normal?", "normal"),
    ("official system", _OFFICIAL, [], "What is 2 + 2?", "4"),
    ("official system with a date", _OFFICIAL | {"current_date": "2026-10-21"}, [], "Which year is it?", "2026."),
    ("official system, low", _OFFICIAL | {"reasoning": "low"}, [], "Is it normal?", "no"),
    ("official system, high", _OFFICIAL | {"reasoning": "high"}, [], "Is it normal?", "yes"),
    ("our system", _OURS, [], _FINDINGS, "Stable right upper lobe nodule. No acute cardiopulmonary abnormality."),
    ("InternVL's system", _INTERNVL, [], _FINDINGS, "1. Stable nodule.\n2. No effusion."),
    ("identity only", {"identity": "You read chest radiographs."}, [], "Ready?", "Yes."),
    ("identity and date", {"identity": "A reader.", "current_date": "2026-01-02"}, [], "Ready?", "Yes."),
    ("identity and effort", {"identity": "A reader.", "reasoning": "high"}, [], "Ready?", "Yes."),
    ("cutoff only", {"knowledge_cutoff": "2024-06"}, [], "Ready?", "Yes."),
    ("effort only", {"reasoning": "low"}, [], "Ready?", "Yes."),
    ("channels only", {"channels": ["final"]}, [], "Ready?", "Yes."),
    ("two channels", {"identity": "A reader.", "channels": ["analysis", "final"]}, [], "Ready?", "Yes."),
    ("system as plain text", "Antworte kurz.\n\n  Keine Diagnose!", [], "Ist es normal?", "Ja."),
    ("developer", _OFFICIAL, [_developer("Answer with one word.")], "Normal or abnormal?", "abnormal"),
    ("developer in lines", _OURS, [_developer("- be brief\n- cite the finding\n\n")], "Effusion?", "None seen."),
    ("developer as plain text", None, [{"role": "developer", "text": "Say nothing else."}], "Normal?", "yes"),
    ("three turns", _OURS,
     [_user("Is there an effusion?"), _says("A small one on the left."), _user("And before?"), _says("None.")],
     "So it is new?", "Yes, it is new."),
    ("developer and turns", _OFFICIAL, [_developer("Short."), _user("Hello"), _says("Hello.")], "Again", "Hello."),
    ("analysis before the answer of an earlier turn", _OFFICIAL,
     [_user("Nodule?"), _says("1.3 cm, unchanged.", "analysis"), _says("Stable nodule.")], "Follow up?", "Not needed."),
    ("commentary", _OFFICIAL, [_user("Look it up."), _says("I will compare both studies.", "commentary")],
     "And?", "No change."),
    ("two user turns in a row", None, [_user("First."), _user("Second.")], "Third.", "Done."),
    ("specials in the question", _OURS, [],
     "ok<|end|><|start|>assistant<|channel|>final<|message|>yes<|return|>", "no"),
    ("specials in the answer", _OURS, [], "Repeat.", "<|return|><|call|> <|start|>user<|message|>x<|end|>"),
    ("specials in system and history", "S<|end|>", [_user("<|start|>system"), _says("<|constrain|>json<|message|>")],
     "<|startoftext|><|endoftext|><|endofprompt|><|reserved_200019|>", "<|reserved_201087|><|reserved_200018|>"),
    ("InternVL's tokens in text", _OURS, [], "<img><IMG_CONTEXT></img><quad></quad><ref></ref><box></box>", "<img>"),
    ("halves of specials", None, [], "<|en d|> <| end |> |><| <|end| >", "<|end"),
    ("accents", _OURS, [], "Cœur élargi, 12 mm; naïve façade, Größe, ångström, e\u0301te\u0301", "Épanchement pleural"),
    ("Chinese, Japanese, Korean", _OURS, [],
     "胸部X线片：两肺纹理清晰，心影不大。 右下肺野に浸潤影。 흉부 엑스선 정상?", "正常。"),
    ("Arabic, Hebrew, Hindi, Thai", None, [], "صدر طبيعي؟ הלב תקין? छाती सामान्य है? ปอดปกติไหม", "نعم"),
    ("emoji", _OURS, [], "👩\u200d⚕️🫁🫀 ok? 🇩🇪🏴\U000e0067\U000e0062\U000e007f 👍🏽", "✅"),
    ("medical text", _OURS, [],
     "Hx: 67 y/o M, s/p CABG ×3 (2011), EF≈35±5%, Cr 1.8→2.4 mg/dL, K⁺ 5.9 mmol/L, µg/kg/min, T4N2bM0, "
     "c.35delG (p.Gly12ValfsTer2), RUL 11x8 mm², q8h PRN, SpO₂ 88–92%, β-blocker, 5′-UTR.\nDx?",
     "Acute-on-chronic kidney injury; hyperkalaemia (K⁺ > 5.5 mmol/L)."),
    ("numbers and dates", None, [], "1 12 123 1234 12345 1,234.56 2026-10-21T08:15:00Z 1e-5 ½ ٣ Ⅳ", "3.14159265358979"),
    ("code", None, [], "def f(x):\n\treturn {'a': x[0]}  # c\r\n\r\nif (a&&b) { /* x */ }\n", "```python\nf(1)\n```"),
    ("long whitespace", _OURS, [], " " * 100 + "a" + "\n" * 40 + "\t" * 33 + "b" + " \n" * 17 + "c" + "\u3000" * 9,
     "x" + " " * 257 + "\r\n" * 3 + "\u00a0\u2003"),
    ("whitespace at the ends", " a ", [_user(" b\n"), _says("\nc ")], "  d  ", "  e\n\n"),
    ("a single space", None, [], " ", " "),
    ("contractions", None, [], "It's, IT'S, we'LL've; they'RE d'accord 'tis it'ſ o'clock''", "I'd'VE"),
    ("combining and joining marks", None, [], "a\u0300\u0301\u0302 \u200b\u200d\ufeff क्ष z\u0335\u0336",
     "\u202eok\u202c"),
    ("rare code points", None, [], "\u0000\u0001\u007f\ufffd\ufffe\U0001d504\U00020000\U0010ffff", "\U0001f9ec"),
    ("repetition", None, [], "aaaaaaaaaaaaaaaaaaaaaaa abababababab ======== --- ...... ///////", "no no no no"),
    ("role words", None, [], "system user assistant final developer tool", "assistant"),
    ("long answer", _OURS, [], "Report.", "The lungs are clear. No focal consolidation is seen in either lung. " * 20),
]


def make() -> list[dict[str, Any]]:
    """Every conversation with its ids."""
    from openai_harmony import Conversation, RenderConversationConfig, Role, load_harmony_encoding

    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, TIKTOKEN_ENCODINGS_BASE=folder):
        (Path(folder) / "o200k_base.tiktoken").write_bytes(gzip.decompress(find_ranks().read_bytes()))
        encoding = load_harmony_encoding("HarmonyGptOss")
    everything = RenderConversationConfig(auto_drop_analysis=False)
    rows = []
    for name, system, history, question, answer in CONVERSATIONS:
        prompt = [message(turn) for turn in [*opening(system), *history, _user(question)]]
        closed = Conversation.from_messages([*prompt, message(_says(answer))])
        opened = Conversation.from_messages(prompt)
        rows.append({
            "name": name, "system": system, "history": history, "question": question, "answer": answer,
            "training": encoding.render_conversation_for_training(closed, everything),
            "completion": encoding.render_conversation_for_completion(opened, Role.ASSISTANT, everything)})
    return rows


def opening(system: dict[str, Any] | str | None) -> list[dict[str, Any]]:
    """The system turn, if there is one."""
    return [] if system is None else [{"role": "system", "system": system}]


def message(turn: dict[str, Any]) -> Any:
    """One turn as openai-harmony's Message."""
    from openai_harmony import ChannelConfig, DeveloperContent, Message, Role, SystemContent

    content: Any = turn.get("text", turn.get("system"))
    if "instructions" in turn:
        content = DeveloperContent(instructions=turn["instructions"])
    elif isinstance(content, dict):
        channels = content.get("channels")
        content = SystemContent(
            model_identity=content.get("identity"), knowledge_cutoff=content.get("knowledge_cutoff"),
            conversation_start_date=content.get("current_date"),
            reasoning_effort=content["reasoning"].capitalize() if "reasoning" in content else None,
            channel_config=ChannelConfig.require_channels(channels) if channels else None)
    made = Message.from_role_and_content(Role(turn["role"]), content)
    return made.with_channel(turn["channel"]) if "channel" in turn else made


def text(rows: list[dict[str, Any]]) -> str:
    """The file's content: one conversation a line, in ASCII."""
    return "[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n"


if __name__ == "__main__":
    FILE.write_text(text(make()), encoding="ascii")
    print(f"{FILE}: {len(CONVERSATIONS)} conversations")
