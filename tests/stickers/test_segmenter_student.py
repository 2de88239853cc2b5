import pytest
import torch

from services.stickers.segmenter.data import name_tokens
from services.stickers.segmenter.student import Student
from services.stickers.splits import SHOWN
from tests.stickers.segmenter_parts import BOOK, TOKENIZER, batch_maker, tiny_model

DENSE = {"dense_class", "dense_box", "dense_attention"}
FINE = {"dense_fine", "dense_centre", "centre"}
PAIRED = {"class", "box", "giou", "mask", "dice", "presence", "semantic"}


def student(heads: bool = True, half: bool = False) -> Student:
    names = name_tokens(TOKENIZER, BOOK.vocabulary, 32)
    return Student(tiny_model(), names, heads=heads, half=half)


@pytest.mark.parametrize(
    ("kind", "heads", "parts"),
    [
        ("dense", True, DENSE),
        ("phrases", True, DENSE | FINE | PAIRED),
        ("phrases", False, PAIRED),
    ],
)
def test_what_is_asked_decides_the_parts_of_the_loss(kind: str, heads: bool, parts: set[str]):
    batch = getattr(batch_maker(), kind)(SHOWN[:2])
    losses = student(heads).losses(batch, step=0)
    assert losses.keys() == parts
    assert all(value.isfinite() and value >= 0 for value in losses.values())


def test_names_and_plurals_take_turns():
    batch, one = batch_maker().dense(SHOWN[:2]), student()
    losses = [one.losses(batch, step)["dense_attention"].item() for step in range(3)]
    assert losses[0] == losses[2] != losses[1]


def test_in_bfloat16_the_losses_are_about_the_same_and_exact_numbers():
    batch = batch_maker().phrases(SHOWN[:2])
    with torch.no_grad():
        exact = student().losses(batch, 0)
        half = student(half=True).losses(batch, 0)
    for name, value in exact.items():
        assert half[name].dtype == torch.float32
        assert half[name].item() == pytest.approx(value.item(), rel=0.2, abs=0.05), name
    assert any(half[name] != value for name, value in exact.items())


def test_pairs_of_nothing_still_teach_presence():
    made = (batch_maker(phrases_per_image=1).phrases([seed]) for seed in SHOWN)
    empty = next(batch for batch in made if batch.pairs and not batch.pairs.counts.any())
    losses = student(heads=False).losses(empty, 0)
    assert losses["presence"] > 0.1
    assert losses["mask"] == losses["box"] == 0.0
