"""The tiny Gemma 4's tokenizer: Gemma's own kind (byte-fallback BPE), a thousand pieces, and its
chat template.

Flow: sample instructions and plans -> `train_tokenizer` -> `GemmaTokenizer` with Gemma 4's special
tokens. Merges are learned within words only, so that every common word and every concept's name is
one piece or two; whatever else is typed falls back to letters and bytes.
"""

import json
import re
from collections.abc import Iterable, Iterator

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import GemmaTokenizer

BOS, EOS, PAD, UNK, MASK = "<bos>", "<eos>", "<pad>", "<unk>", "<mask>"
TURN, TURN_END = "<|turn>", "<turn|>"
TOOL_RESPONSE = "<|tool_response>"

_NAMED = {
    "image_token": "<|image|>",
    "boi_token": "<|image>",
    "eoi_token": "<image|>",
    "audio_token": "<|audio|>",
    "boa_token": "<|audio>",
    "eoa_token": "<audio|>",
    "sot_token": TURN,
    "eot_token": TURN_END,
    "std_token": "<|tool>",
    "etd_token": "<tool|>",
    "stc_token": "<|tool_call>",
    "etc_token": "<tool_call|>",
    "str_token": TOOL_RESPONSE,
    "etr_token": "<tool_response|>",
    "soc_token": "<|channel>",
    "eoc_token": "<channel|>",
    "think_token": "<|think|>",
    "escape_token": '<|"|>',
    "video_token": "<|video|>",
}
_SPECIAL = (PAD, EOS, BOS, UNK, MASK, *_NAMED.values())
_SPECIAL_OR_TEXT = re.compile("(" + "|".join(map(re.escape, _SPECIAL)) + ")")
# A word of prose with the space before it; digits and marks one by one.
_PROSE = re.compile(r"▁?[A-Za-z]+(?:['-][a-z]+)*|▁?[0-9]|▁|.|\n", re.DOTALL)

# The same turns and calls as Gemma 4's template. Two differences, both for a model this small:
# tools are declared by name only and the system text is left out, since the model is trained on
# its two functions and nothing else; and the user's text is put into lower case.
CHAT_TEMPLATE = """\
{{- bos_token -}}
{%- if tools -%}
{{- '<|turn>system\\n' -}}
{%- for tool in tools -%}
{{- '<|tool>declaration:' + tool['function']['name'] + '{}<tool|>' -}}
{%- endfor -%}
{{- '<turn|>\\n' -}}
{%- endif -%}
{%- for message in messages if message['role'] != 'system' -%}
{%- set user = message['role'] == 'user' -%}
{{- '<|turn>' + ('user' if user else 'model') + '\\n' -}}
{%- if message['content'] is string -%}
{{- message['content'] | trim | lower if user else message['content'] | trim -}}
{%- else -%}
{%- for part in message['content'] -%}
{%- if part['type'] == 'image' -%}
{{- '<|image|>' -}}
{%- elif part['type'] == 'text' -%}
{{- part['text'] | trim | lower if user else part['text'] | trim -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{- '<turn|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|turn>model\\n' -}}
{%- endif -%}
"""


def train_tokenizer(prose: Iterable[str], calls: Iterable[str], merges: int) -> GemmaTokenizer:
    """A tokenizer for such texts, with Gemma 4's special tokens and `CHAT_TEMPLATE`.

    Args:
        prose: what users type, lower case.
        calls: function calls in Gemma 4's syntax; what stands between two special tokens may
            become one piece.
        merges: about how many pieces to learn.
    """
    trained = Tokenizer(models.BPE())
    # Words come ready-made; a line break parts them, since none of them holds one.
    trained.pre_tokenizer = pre_tokenizers.Split("\\x00", "removed")
    trainer = trainers.BpeTrainer(vocab_size=merges, show_progress=False, min_frequency=2)
    trained.train_from_iterator(_words(prose, calls), trainer)
    vocabulary, pairs = _without_ids(trained)
    pieces = [*_SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += [piece for piece in vocabulary if piece not in pieces]
    return GemmaTokenizer(
        vocab={piece: index for index, piece in enumerate(pieces)},
        merges=pairs,
        model_max_length=2048,
        chat_template=CHAT_TEMPLATE,
        extra_special_tokens=dict(_NAMED),
    )


def _words(prose: Iterable[str], calls: Iterable[str]) -> Iterator[str]:
    for text in prose:
        yield from _PROSE.findall(text.replace(" ", "▁"))
    for text in calls:
        inside = False
        for piece in _SPECIAL_OR_TEXT.split(text.replace(" ", "▁")):
            if piece == _NAMED["escape_token"]:
                inside = not inside
            elif piece and piece not in _SPECIAL:
                yield from _PROSE.findall(piece) if inside else (piece,)


def _without_ids(trained: Tokenizer) -> tuple[list[str], list[tuple[str, str]]]:
    """The pieces in the order learned, and the merges."""
    model = json.loads(trained.to_str())["model"]
    pieces = sorted(model["vocab"], key=model["vocab"].__getitem__)
    return pieces, [tuple(pair) for pair in model["merges"]]
