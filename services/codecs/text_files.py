"""The text of a file that a person made: its encoding is known or refused, never guessed.

UTF-8 with or without a byte order mark, UTF-16 and UTF-32 with one. Anything else is refused with
the line and the byte at fault: Latin-1 read as UTF-8 would give other names and ids than were
written.
"""

import codecs
import re
from collections.abc import Iterator

# UTF-32's little-endian mark begins with UTF-16's.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8", "UTF-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32-be", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16-le", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16-be", "UTF-16"),
)
_LINE_END = re.compile("\r\n|\n|\r")


class EncodingFault(ValueError):
    """Bytes that are not text in an encoding that is read.

    Attributes:
        line: number of the line at fault, from 1.
        fault: the message without it.
    """

    def __init__(self, line: int, fault: str) -> None:
        super().__init__(f"line {line}, {fault}")
        self.line = line
        self.fault = fault


def decoded(content: bytes) -> str:
    """The text of a file's bytes, without a byte order mark.

    Raises:
        EncodingFault: its encoding is not one of those above.
    """
    mark, codec, name = next(
        (known for known in _MARKS if content.startswith(known[0])), (b"", "utf-8", "UTF-8")
    )
    if not mark and b"\0" in content[:4]:
        raise EncodingFault(
            1, "NUL bytes, as in UTF-16 without a byte order mark; save the file as UTF-8"
        )
    body = content[len(mark) :]
    try:
        return body.decode(codec)
    except UnicodeDecodeError as exc:
        before = _LINE_END.split(body[: exc.start].decode(codec))
        byte = len(before[-1].encode(codec)) + 1
        if len(before) == 1:
            byte += len(mark)
        found = f"0x{body[exc.start]:02X}"
        raise EncodingFault(
            len(before), f"byte {byte}: {found} is not {name}; save the file as UTF-8"
        ) from None


def numbered_lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, without their ends, and their numbers from 1.

    Lines end with LF, CRLF or CR, and with nothing else: U+2028 is a character like any other. A
    byte order mark at the start of any line is left out, as files with one may have been joined.
    """
    number = start = 0
    while start < len(text):
        number += 1
        end = _LINE_END.search(text, start)
        line = text[start : end.start() if end else len(text)].removeprefix("\ufeff")
        if line.strip():
            yield number, line
        start = end.end() if end else len(text)
