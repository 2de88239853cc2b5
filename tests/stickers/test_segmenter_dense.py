import torch

from services.stickers.segmenter.data import name_tokens
from services.stickers.segmenter.dense import DenseHeads, centre_code, name_attention
from tests.stickers.segmenter_parts import BOOK, TOKENIZER, tiny_model


def test_centres_apart_have_codes_apart():
    codes = centre_code(torch.tensor([[0.2, 0.5], [0.3, 0.5], [0.8, 0.5]]))
    near, far = codes[0] @ codes[1], codes[0] @ codes[2]
    assert codes[0] @ codes[0] > near > far


def test_tokens_start_with_boxes_around_themselves():
    heads = DenseHeads(width=8, concepts=3)
    torch.nn.init.zeros_(heads.box[-1].weight)
    torch.nn.init.zeros_(heads.box[-1].bias)
    logits, boxes = heads(torch.rand(2, 8, 4, 4))
    assert logits.shape == (2, 4, 4, 4)
    rows = torch.tensor([0.125, 0.375, 0.625, 0.875])
    torch.testing.assert_close(boxes[0, :, 0, 1], rows)
    torch.testing.assert_close(boxes[0, 0, :, 0], rows)


def test_attention_to_a_name_leaves_its_padding_out():
    model = tiny_model().eval()
    ids, mask = (part[0, :6] for part in name_tokens(TOKENIZER, BOOK.vocabulary, 32))
    names = torch.rand(6, ids.shape[1], 64)
    features = torch.rand(1, 64, 4, 4)
    with torch.no_grad():
        before = name_attention(model, features, names, mask)
        assert (mask == 0).any()
        assert before.shape == (3, 1, 4, 4, 6), "two fusion layers and the mask decoder"
        names[mask == 0] = 100.0
        torch.testing.assert_close(name_attention(model, features, names, mask), before)
        names[:, 0] = 1.0
        assert not torch.allclose(name_attention(model, features, names, mask), before)
