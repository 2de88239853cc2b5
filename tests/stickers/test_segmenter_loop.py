from pathlib import Path

import pytest
import torch

from services.segmenter.operators import install_roi_align
from services.stickers.phrases import PhraseBook
from services.stickers.segmenter.checkpoint import new_model, new_tokenizer
from services.stickers.segmenter.data import BatchMaker
from services.stickers.segmenter.loop import Plan, Trainer
from services.stickers.segmenter.sampling import PhraseSampler
from services.stickers.segmenter.train import name_tokens
from services.stickers.vocabulary import Vocabulary

BOOK = PhraseBook(Vocabulary.load())
# Two dense steps, then pairs, an exemplar step among them.
SHORT = Plan(steps=8, dense_images=1, images=1, dense_share=0.25, exemplar_from=0.5, warm_up=2)


def trainer(out: Path, plan: Plan = SHORT) -> Trainer:
    install_roi_align()
    tokenizer = new_tokenizer(BOOK)
    batches = BatchMaker(PhraseSampler(BOOK), tokenizer, 240, 20, 40, phrases_per_image=2)
    names = name_tokens(tokenizer, BOOK.vocabulary)
    return Trainer(new_model(tokenizer, seed=1), batches, names, plan, out)


class SameScene(BatchMaker):
    """Shows one scene over and over."""

    def phrases(self, seeds):
        return super().phrases([5])


def test_steps_on_one_scene_lower_the_loss(tmp_path: Path):
    torch.manual_seed(0)
    tokenizer = new_tokenizer(BOOK)
    batches = SameScene(PhraseSampler(BOOK), tokenizer, 240, 20, 40)
    plan = Plan(steps=100, images=1, dense_share=0.0, exemplar_from=1.0, warm_up=1)
    one = Trainer(
        new_model(tokenizer, 1), batches, name_tokens(tokenizer, BOOK.vocabulary), plan, tmp_path
    )
    losses = [sum(one.train_step().values()) for _ in range(12)]
    assert min(losses[-3:]) < 0.8 * losses[0]


def test_a_resumed_run_ends_with_the_weights_of_an_unbroken_one(tmp_path: Path):
    unbroken = trainer(tmp_path / "a")
    while unbroken.progress < 1:
        unbroken.train_step()

    first = trainer(tmp_path / "b")
    for _ in range(5):
        first.train_step()
    first.save()
    second = trainer(tmp_path / "b")
    assert second.resume()
    assert second.step == 5
    while second.progress < 1:
        second.train_step()

    for name, weight in unbroken.average.state_dict().items():
        assert torch.equal(weight, second.average.state_dict()[name]), name
    for name, weight in unbroken.model.state_dict().items():
        assert torch.equal(weight, second.model.state_dict()[name]), name


def test_nothing_to_resume(tmp_path: Path):
    assert not trainer(tmp_path).resume()


def test_a_run_logs_validates_and_leaves_a_checkpoint(tmp_path: Path):
    plan = Plan(steps=2, dense_images=1, images=1, dense_share=0.5, warm_up=1)
    seen = []
    trainer(tmp_path, plan).run(lambda model: seen.append(model.training) or {"f1": 0.0})
    assert seen == [False], "validation uses the averaged model, in evaluation mode"
    assert (tmp_path / "checkpoint.pt").exists()
    assert '"f1": 0.0' in (tmp_path / "metrics.jsonl").read_text()


@pytest.mark.parametrize("step", [0, 3, 7])
def test_seeds_never_repeat_between_steps(step: int, tmp_path: Path):
    used: list[int] = []

    class Recorder(BatchMaker):
        def phrases(self, seeds):
            used.extend(seeds)
            return super().phrases(list(seeds)[:1])

    tokenizer = new_tokenizer(BOOK)
    one = Trainer(
        new_model(tokenizer, 1),
        Recorder(PhraseSampler(BOOK), tokenizer, 240, 20, 40),
        name_tokens(tokenizer, BOOK.vocabulary),
        Plan(steps=100, images=4, dense_images=16, dense_share=0.0, exemplar_from=1.0),
        tmp_path,
    )
    one.step = step
    one.train_step()
    one.train_step()
    assert len(used) == len(set(used)) == 8
