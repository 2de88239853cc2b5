"""What is wrong with a data set, all of it at once.

Readers collect a `DatasetFault` for each thing that they cannot use. Without `skip` they raise them
together as a `DatasetError`; with it, what is faulty is left out and counted in a `DatasetSummary`.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

# Faults that a message lists before it says how many more there are.
SHOWN = 20


@dataclass(frozen=True, slots=True)
class DatasetFault:
    """One fault.

    Attributes:
        field: where it is in the file ("annotations[3].segmentation", "line 7, plan").
        whose: what is faulty, by its id ("annotation 17", "image 4, shelf.jpg"); may be empty.
        message: what is wrong.
        kind: the same in few words, to be counted under.
    """

    field: str
    whose: str
    message: str
    kind: str

    def __str__(self) -> str:
        named = f"{self.field} ({self.whose})" if self.whose else self.field
        return f"{named}: {self.message}" if named else self.message


class DatasetError(ValueError):
    """A data set that cannot be used.

    Attributes:
        file: the file of annotations.
        faults: everything that is wrong with it, at least one.
        field: where the first one is.
    """

    _before_field = ": "

    def __init__(self, file: Path, faults: Sequence[DatasetFault]) -> None:
        self.file = file
        self.faults = tuple(faults)
        self.field = self.faults[0].field
        if len(self.faults) == 1:
            super().__init__(f"{file}{self._before_field}{self.faults[0]}")
            return
        lines = [f"  {fault}" for fault in self.faults[:SHOWN]]
        if (more := len(self.faults) - SHOWN) > 0:
            lines.append(f"  and {more} more")
        super().__init__("\n".join([f"{file} has {len(self.faults)} faults:", *lines]))


@dataclass(frozen=True)
class DatasetSummary:
    """What a data set holds, and what was left out of it.

    Attributes:
        pictures: those that are learned from.
        empty: pictures without annotations, which are not.
        instances, crowds: things outlined one by one, and crowds, which are not to be found.
        turned: pictures that Exif turns or mirrors; their annotations are taken as of what shows.
        unused: categories of which there is no instance.
        dropped: the faults of what was left out.
        orphans: annotations that were left out with their pictures.
    """

    pictures: int
    empty: int
    instances: int
    crowds: int
    turned: int = 0
    unused: int = 0
    dropped: tuple[DatasetFault, ...] = ()
    orphans: int = 0

    def __str__(self) -> str:
        parts = [
            counted(self.pictures, "picture"),
            counted(self.instances, "instance"),
            counted(self.crowds, "crowd"),
            f"{counted(self.empty, 'picture')} without outlines left out",
        ]
        if self.turned:
            parts.append(f"{counted(self.turned, 'picture')} turned by Exif, annotated as shown")
        if self.unused:
            what = "category" if self.unused == 1 else "categories"
            parts.append(f"{self.unused} {what} without an instance")
        dropped = reasons(self.dropped)
        if self.orphans:
            dropped += f", and {counted(self.orphans, 'annotation')} of these pictures"
        return f"{', '.join(parts)}; dropped: {dropped}"


def reasons(dropped: Iterable[DatasetFault]) -> str:
    """How many faults of each kind, the most frequent first."""
    kinds = Counter(fault.kind for fault in dropped)
    return ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()) or "nothing"


def counted(count: int, what: str) -> str:
    """ "1 picture", "2 pictures"."""
    return f"{count} {what}{'' if count == 1 else 's'}"
