"""What a bank holds and gives: the frames that the model's attention can reach, and no more."""

from services.segmenter.engines import Embedding
from services.segmenter.video.memory import MemoryBank, MemoryReach

REACH = MemoryReach(recent=6, conditioning=4, pointers=16)


def bank_of(frames: int, conditioning: set[int], reach: MemoryReach = REACH) -> MemoryBank:
    bank = MemoryBank(reach)
    for at in range(frames):
        confirmed = at in conditioning
        bank.add(at, Embedding(f"m{at}", 100), Embedding(f"p{at}", 4), conditioning=confirmed)
    return bank


def recalled(bank: MemoryBank, at: int) -> tuple[dict[str, int], dict[str, int]]:
    memories, pointers = bank.recall(at)
    return {m.data: ago for ago, m in memories}, {p.data: ago for ago, p in pointers}


def test_a_first_frame_and_the_latest_are_read() -> None:
    memories, pointers = recalled(bank_of(9, {0}), 9)
    assert memories == {"m0": 0, "m3": 6, "m4": 5, "m5": 4, "m6": 3, "m7": 2, "m8": 1}
    assert pointers == {"p0": 9, **{f"p{9 - ago}": ago for ago in range(1, 9)}}


def test_the_latest_conditioning_frames_are_read() -> None:
    memories, _ = recalled(bank_of(100, {0, 16, 32, 48, 64, 80}), 100)
    assert [m for m, ago in memories.items() if ago == 0] == ["m32", "m48", "m64", "m80"]


def test_a_conditioning_frame_that_is_not_read_as_such_is_read_as_a_recent_one() -> None:
    memories, _ = recalled(bank_of(8, {2, 3, 4, 5, 6, 7}), 8)
    assert memories == {"m4": 0, "m5": 0, "m6": 0, "m7": 0, "m3": 5, "m2": 6}


def test_what_is_held_does_not_grow() -> None:
    confirmed = set(range(0, 3000, 16))
    sizes = {bank_of(frames, confirmed).nbytes for frames in range(600, 1000, 16)}
    assert len(sizes) == 1
    assert sizes.pop() <= (6 + 4) * 100 + (15 + 16) * 4


def test_the_first_pointer_stays() -> None:
    _, pointers = recalled(bank_of(2000, set(range(0, 2000, 16))), 2000)
    assert pointers["p0"] == 2000


def test_a_copy_changes_apart() -> None:
    bank = bank_of(3, {0})
    bank.copy().add(3, Embedding("m3", 100), Embedding("p3", 4), conditioning=False)
    assert "m3" not in recalled(bank, 4)[0]
