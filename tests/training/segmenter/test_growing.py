from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import Sam3Config, Sam3Model

from services.errors import CheckpointError
from tests.odd.checkpoints import BIAS, changed, dropped, filled, prefixed
from tests.training.segmenter.parts import TOKENIZER, batch_builder, tiny_model
from training.segmenter.growing import grow_from
from training.segmenter.train import main
from training.world.splits import SHOWN

SMALL_GRID, SMALL_QUERIES = 40, 16


def smaller(config: Sam3Config) -> Sam3Config:
    """The tiny architecture with half as wide an encoder, masks half as fine and fewer queries."""
    backbone = config.vision_config.backbone_config
    backbone.hidden_size //= 2
    backbone.intermediate_size //= 2
    backbone.num_attention_heads //= 2
    config.vision_config.scale_factors = [2.0, 1.0, 0.5]
    config.vision_config.backbone_feature_sizes = [[40, 40], [20, 20], [10, 10]]
    config.mask_decoder_config.num_upsampling_stages = 1
    config.detr_decoder_config.num_queries = SMALL_QUERIES
    return config


@pytest.fixture(scope="module")
def old() -> Sam3Model:
    """As if trained: every weight is away from where a new model starts."""
    torch.manual_seed(5)
    model = Sam3Model(smaller(tiny_model().config)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=1.2 / parameter[0].numel() ** 0.5)
    return model


@pytest.fixture(scope="module")
def grown(old: Sam3Model, tmp_path_factory: pytest.TempPathFactory) -> Sam3Model:
    folder: Path = tmp_path_factory.mktemp("old")
    old.save_pretrained(folder)
    model = tiny_model(seed=9)
    grow_from(str(folder), model)
    return model.eval()


def drawn(model: Sam3Model) -> torch.Tensor:
    """Logits of all that three pictures show of a phrase each, on the coarser grid."""
    batch = batch_builder(phrases_per_image=1).phrases(SHOWN[:3])
    assert batch.pairs is not None
    with torch.no_grad():
        logits: torch.Tensor = model(
            pixel_values=batch.pixels,
            input_ids=batch.pairs.input_ids,
            attention_mask=batch.pairs.attention_mask,
        ).semantic_seg
    return torch.nn.functional.adaptive_avg_pool2d(logits, SMALL_GRID).flatten()


def test_what_does_not_depend_on_sizes_is_the_same(old: Sam3Model, grown: Sam3Model):
    names = dict(grown.named_parameters())
    behind = {name for name in names if not name.startswith("vision_encoder.")}
    same = {
        name
        for name, weight in old.named_parameters()
        if name in behind and names[name].shape == weight.shape and torch.equal(names[name], weight)
    }
    assert len(same) > 0.95 * len(behind)
    assert "detr_encoder.layers.1.cross_attn.q_proj.weight" in same


def test_a_wider_encoder_sees_what_the_old_one_saw(old: Sam3Model, grown: Sam3Model):
    pixels = batch_builder().phrases(SHOWN[:3]).pixels
    with torch.no_grad():
        before = old.vision_encoder(pixels).fpn_hidden_states[-2].flatten()
        after = grown.vision_encoder(pixels).fpn_hidden_states[-2].flatten()
    assert grown.config.vision_config.backbone_config.hidden_size == 192
    # Not exactly: copies are told apart by noise, so that they learn different things.
    assert torch.corrcoef(torch.stack([before, after]))[0, 1] > 0.97


def test_copies_of_a_channel_differ(grown: Sam3Model):
    first, second = grown.vision_encoder.backbone.layers[0].mlp.fc2.weight.chunk(2, dim=1)
    assert not torch.allclose(first, second, rtol=0.2)


def test_a_width_that_is_no_multiple_is_refused(tmp_path: Path):
    config = smaller(tiny_model().config)
    config.vision_config.backbone_config.hidden_size = 128
    config.vision_config.backbone_config.num_attention_heads = 4
    Sam3Model(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="do not widen"):
        grow_from(str(tmp_path), tiny_model())


def test_a_grown_model_draws_about_what_the_old_one_drew(old: Sam3Model, grown: Sam3Model):
    def alike(model: Sam3Model) -> float:
        return float(torch.corrcoef(torch.stack([drawn(model), drawn(old)]))[0, 1])

    assert grown.mask_decoder.config.num_upsampling_stages == 2
    assert alike(grown) > 0.9
    assert abs(alike(tiny_model(seed=9).eval())) < 0.5


def test_a_new_query_is_the_old_one_that_looks_nearest_to_its_place(
    old: Sam3Model, grown: Sam3Model
):
    places = old.detr_decoder.reference_points.weight.sigmoid()[:, :2]
    for query, place in zip(
        grown.detr_decoder.query_embed.weight,
        grown.detr_decoder.reference_points.weight.sigmoid()[:, :2],
        strict=True,
    ):
        nearest = (places - place).square().sum(1).argmin()
        assert torch.equal(query, old.detr_decoder.query_embed.weight[nearest])


def test_of_the_same_size_it_is_the_same_model(tmp_path: Path):
    tiny_model(seed=3).save_pretrained(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    again = tiny_model(seed=4)
    grow_from(str(tmp_path), again)
    for name, weight in tiny_model(seed=3).state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name


def _deeper(config: Sam3Config) -> None:
    config.detr_encoder_config.num_layers += 1


def _shallower(config: Sam3Config) -> None:
    config.detr_encoder_config.num_layers -= 1


def _other_words(config: Sam3Config) -> None:
    config.text_config.vocab_size += 8


def _more_queries(config: Sam3Config) -> None:
    config.detr_decoder_config.num_queries = 30


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_deeper, r"has tensors that the new model lacks: \d+ \(detr_encoder\.layers\.2\."),
        (_shallower, r"lacks tensors of the new model: \d+ \(detr_encoder\.layers\.1\."),
        (_other_words, r"do not widen to those of the new model: 1 \(text_encoder\."),
        (_more_queries, None),
    ],
)
def test_nothing_of_it_is_left_out_and_nothing_left_random(
    change: Callable[[Sam3Config], None], message: str | None, tmp_path: Path
):
    config = smaller(tiny_model().config)
    change(config)
    Sam3Model(config).save_pretrained(tmp_path)
    if message is None:
        grow_from(str(tmp_path), tiny_model())
        return
    with pytest.raises(CheckpointError, match=message):
        grow_from(str(tmp_path), tiny_model())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (prefixed("module."), "every one of its 432 names starts with 'module.'"),
        (filled(BIAS, torch.nan), "1 tensors hold numbers that are not finite"),
        (dropped(BIAS), "1 of the 432 tensors are missing"),
    ],
)
def test_a_broken_model_does_not_grow(
    change: Callable[[dict[str, torch.Tensor]], object],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    source = changed(change, tmp_path)
    with pytest.raises(CheckpointError, match=message):
        grow_from(source, tiny_model())
    with pytest.raises(SystemExit):
        main(["--start", source, "--out", str(tmp_path / "run")])
    assert message in capsys.readouterr().err
