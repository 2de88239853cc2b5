"""How faults are listed, and what a summary says."""

from pathlib import Path

from training.datasets.faults import SHOWN, DatasetError, DatasetFault, DatasetSummary

FILE = Path("set.json")


def fault(number: int, kind: str = "outline of another form") -> DatasetFault:
    return DatasetFault(f"annotations[{number}]", f"annotation {100 + number}", "wrong", kind)


def test_one_fault_is_one_line() -> None:
    error = DatasetError(FILE, [fault(3)])
    assert str(error) == "set.json: annotations[3] (annotation 103): wrong"
    assert error.field == "annotations[3]"
    assert str(DatasetError(FILE, [DatasetFault("", "", "no JSON", "x")])) == "set.json: no JSON"


def test_all_are_listed_up_to_a_limit() -> None:
    lines = str(DatasetError(FILE, [fault(n) for n in range(SHOWN)])).splitlines()
    assert lines[0] == f"set.json has {SHOWN} faults:"
    assert len(lines) == SHOWN + 1
    error = DatasetError(FILE, [fault(n) for n in range(SHOWN + 7)])
    lines = str(error).splitlines()
    assert len(lines) == SHOWN + 2
    assert lines[-1] == "  and 7 more"
    assert len(error.faults) == SHOWN + 7


def test_a_summary_counts_everything_and_why() -> None:
    dropped = (fault(1), fault(2, "picture missing"), fault(3))
    summary = DatasetSummary(1, 2, 3, 1, turned=1, unused=1, dropped=dropped, orphans=4)
    assert str(summary) == (
        "1 picture, 3 instances, 1 crowd, 2 pictures without outlines left out, "
        "1 picture turned by Exif, annotated as shown, 1 category without an instance; "
        "dropped: 2 outline of another form, 1 picture missing, and 4 annotations of these pictures"
    )
    assert str(DatasetSummary(1, 0, 1, 0)).endswith("; dropped: nothing")
