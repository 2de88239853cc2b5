"""Who asks: set at the edge, carried to every replica, in every log line."""

from dataclasses import dataclass
from enum import IntEnum


class Priority(IntEnum):
    """Whose turn is first: people who wait for an answer, or work that can be done later."""

    INTERACTIVE = 0
    BATCH = 1


@dataclass(frozen=True, slots=True)
class Caller:
    """The authenticated origin of a call.

    Attributes:
        tenant: whose quota and usage the call counts for.
        key_id: which of the tenant's keys was used; never the key itself. Empty without one.
        scopes: what the key may do.
    """

    tenant: str = "anonymous"
    key_id: str = ""
    scopes: frozenset[str] = frozenset()


ANONYMOUS = Caller()
