"""Which text is valid: one rule for instructions, phrases and whatever else a person writes."""

import unicodedata

# Control characters, lone surrogates, private use and unassigned code points.
_NOT_TEXT = frozenset({"Cc", "Cs", "Co", "Cn"})
_SPACING = frozenset("\n\t")


def text_fault(text: str, max_chars: int) -> str | None:
    """What is wrong with `text`, as the end of a sentence that begins with its name.

    Valid text has at least one letter, digit, mark of punctuation or symbol, at most `max_chars`
    characters, and no character that cannot be printed, except line breaks and tabs. None: valid.
    """
    if len(text) > max_chars:
        return f"has {len(text)} characters; the limit is {max_chars}"
    for char in text:
        if unicodedata.category(char) in _NOT_TEXT and char not in _SPACING:
            return f"contains U+{ord(char):04X}, which is not printable text"
    if not any(unicodedata.category(char)[0] in "LNPS" for char in text):
        return "is empty" if not text.strip() else "has no visible character"
    return None
