"""Where in a request a value stands: the path that an error names."""

import re
from dataclasses import dataclass
from typing import Self

_PART = re.compile(r"(?:^|\.)([A-Za-z_][A-Za-z0-9_]*)|\[([0-9]+)\]")


@dataclass(frozen=True, slots=True)
class FieldPath:
    """The names of fields and the indices of repeated ones, from the request down.

    `FieldPath() / "queries" / 2 / "exemplars"` is written `queries[2].exemplars`, as
    `google.rpc.BadRequest` wants it.
    """

    parts: tuple[str | int, ...] = ()

    def __truediv__(self, part: "str | int | FieldPath") -> "FieldPath":
        more = part.parts if isinstance(part, FieldPath) else (part,)
        return FieldPath(self.parts + more)

    def __str__(self) -> str:
        text = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in self.parts)
        return text.removeprefix(".")

    @classmethod
    def parse(cls, text: str) -> Self:
        """The path that `str` wrote; what came over the wire is the only text there is to parse.

        Raises:
            ValueError: `text` is not such a path.
        """
        parts: list[str | int] = []
        at = 0
        while at < len(text):
            found = _PART.match(text, at)
            if found is None or (at == 0) != (found[0] == found[1]):
                raise ValueError(f"not a field path: {text!r}")
            parts.append(found[1] if found[2] is None else int(found[2]))
            at = found.end()
        return cls(tuple(parts))

    def below(self, prefix: "FieldPath") -> "FieldPath | None":
        """What follows `prefix`; None if this path does not start with it."""
        length = len(prefix.parts)
        return FieldPath(self.parts[length:]) if self.parts[:length] == prefix.parts else None
