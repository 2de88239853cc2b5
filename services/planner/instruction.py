"""A caller's instruction: checked, put in one form, and, at worst, taken as a phrase itself.

Flow: request -> `normalized` -> cache key and prompt; and -> `as_phrase` when the model gave no
valid plan.
"""

import re
import unicodedata

from limelight.paths import FieldPath
from limelight.text import text_fault
from services.errors import InvalidRequest, Reason

INSTRUCTION = FieldPath(("instruction",))

# A phrase may have 32 of the segmenter's text tokens, two of them its start and end. Its byte-level
# tokenizer never makes more tokens than bytes, so this many always fit, in any language.
MAX_PHRASE_BYTES = 30

_LEADING = re.compile(
    r"^(?:(?:please|kindly|can you|could you|i want|i would like|segment|find|cut out|highlight"
    r"|show|mask|select|me|out|all|every|each|of|the|a|an)\b[\s,:]*)+",
    re.IGNORECASE,
)


def normalized(instruction: str, max_chars: int) -> str:
    """`instruction` in NFC with single spaces, so that spellings of one thing are one thing.

    Raises:
        InvalidRequest: it is not valid text (`limelight.text`) of at most `max_chars` characters.
    """
    fault = text_fault(instruction, max_chars)
    if fault is not None:
        raise InvalidRequest(
            Reason.INSTRUCTION_INVALID, f"the instruction {fault}", field=INSTRUCTION
        )
    return " ".join(unicodedata.normalize("NFC", instruction).split())


def as_phrase(instruction: str) -> str:
    """A phrase that the segmenter is sure to take: opening verbs and articles off, then cut.

    It is cut between words to `MAX_PHRASE_BYTES` bytes of UTF-8, and is never blank.
    """
    text = instruction.strip(" .!?,;:") or instruction
    text = _LEADING.sub("", text) or text
    cut = text.encode()[:MAX_PHRASE_BYTES].decode(errors="ignore")
    if len(cut) < len(text) and not text[len(cut)].isspace() and " " in cut:
        cut = cut[: cut.rindex(" ")]
    return cut.strip()
