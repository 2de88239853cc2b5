"""Inputs made from others by small changes, the same for the same random source."""

import random
import struct

# What has broken parsers before: limits of lengths and signs.
_NUMBERS = (0, 1, 2, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1)


def mutated(data: bytes, other: bytes, source: random.Random) -> bytes:
    """`data` after one to eight changes; `other` is what parts are taken from."""
    changed = bytearray(data)
    for _ in range(source.randint(1, 8)):
        # Headers are where it matters most.
        end = min(len(changed), source.choice((64, 400, 1 << 30)))
        at = source.randrange(end) if end else 0
        match source.randrange(8):
            case 0:
                changed[at : at + 1] = source.randbytes(1)
            case 1:
                code = source.choice(("<H", ">H", "<I", ">I"))
                number = source.choice(_NUMBERS) & (0xFFFF if code[1] == "H" else 0xFFFFFFFF)
                changed[at : at + struct.calcsize(code)] = struct.pack(code, number)
            case 2:
                del changed[at : at + source.choice((1, 2, 4, 16, 256))]
            case 3:
                changed[at:at] = source.randbytes(source.choice((1, 2, 4, 16)))
            case 4:
                part = changed[at : at + source.choice((2, 8, 32, 512))]
                changed[at:at] = part * source.choice((1, 2, 16, 300))
            case 5:
                begin = source.randrange(max(1, len(other)))
                part = other[begin : begin + source.choice((4, 32, 512))]
                changed[at : at + len(part)] = part
            case 6:
                del changed[at + 1 :]
            case 7:
                length = source.choice((4, 64, 1024))
                changed[at : at + length] = bytes(length)
    return bytes(changed[: 1 << 20])
