"""SAM 3 by Hugging Face transformers: `Sam3Model` from a folder or the hub.

The only module of the segmenter that imports transformers. Images are encoded apart from queries
(`Sam3Model` takes `vision_embeds`), so a batch of pairs costs the encoder nothing.
"""

import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import Sam3Model
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.sam3.modeling_sam3 import Sam3VisionEncoderOutput

from limelight.values import ModelInfo
from services.errors import CheckpointError
from services.replica.checkpoints import SAM3
from services.replica.loading import load_model, load_tokenizer
from services.replica.revision import folder_revision, hub_revision
from services.segmenter.engines import Embedding, Pair, RawDetections, SegmenterTraits
from services.segmenter.operators import install_roi_align
from services.segmenter.preprocessing import normalized
from services.segmenter.settings import SHIPPED, SegmenterSettings

# Marks a box that only fills up a batch; `Sam3Model` masks it out.
_PADDING = -10
# A byte-level tokenizer has at least all bytes.
_LEAST_VOCABULARY = 256

_log = logging.getLogger(__name__)


class TransformersSegmenterEngine:
    """See `services.segmenter.engines.Engine`.

    A checkpoint saved as `sam3_video`, as `facebook/sam3` is, loads as its detector.
    """

    def __init__(self, settings: SegmenterSettings) -> None:
        self._source = settings.model
        self._revision = settings.revision
        self._threads = settings.threads
        self._device = torch.device(_device(settings.device))
        self._dtype = _dtype(settings.dtype, self._device)
        self._sam: Any = None
        self._tokenizer: Any = None
        # A fast tokenizer refuses to be used by two threads at once.
        self._tokenizing = threading.Lock()
        # Position encodings depend on the size alone: one set serves every embedding.
        self._positions: tuple[Tensor, ...] = ()
        self._max_tokens = 0
        self._model = ModelInfo("segmenter", Path(self._source).name, "", "transformers")

    def load(self) -> None:
        """Read weights and tokenizer, in any number of safetensors shards.

        Raises:
            CheckpointError: there is no such checkpoint, or it is not one that works; its
                tokenizer is another model's.
        """
        torch.set_num_threads(self._threads)
        # Exemplars pool features by torchvision's roi_align, which CPU machines do not have.
        install_roi_align()
        folder = Path(self._source)
        self._sam = self._read()
        revision = {} if folder.is_dir() else {"revision": self._revision or "main"}
        self._tokenizer = _tokenizer(self._source, revision.get("revision"))
        vocabulary = self._sam.config.text_config.vocab_size
        if len(self._tokenizer) > vocabulary:
            raise CheckpointError(
                f"{self._source}: the tokenizer has {len(self._tokenizer)} tokens, the model reads "
                f"{vocabulary}"
            )
        self._max_tokens = int(self._sam.config.text_config.max_position_embeddings)
        self._model = ModelInfo(
            role="segmenter",
            name=folder.name if folder.is_dir() else self._source,
            revision=folder_revision(folder)
            if folder.is_dir()
            else hub_revision(self._source, revision["revision"]),
            engine="transformers",
        )

    def close(self) -> None:
        self._sam = None
        self._positions = ()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def describe(self) -> SegmenterTraits:
        config = self._sam.config
        return SegmenterTraits(
            model=self._model,
            image_size=int(config.vision_config.backbone_config.image_size),
            max_tokens=self._max_tokens,
            count_tokens=lambda phrase: len(self._ids(phrase)),
        )

    @torch.inference_mode()
    def encode_images(self, images: Sequence[Tensor]) -> list[Embedding]:
        pixels = normalized(torch.stack(list(images)).to(self._device)).to(self._dtype)
        encoded = self._sam.get_vision_features(pixel_values=pixels)
        # `Sam3Model` leaves the coarsest level unused, so it is not kept either.
        levels = encoded.fpn_hidden_states[:-1]
        if not self._positions:
            self._positions = tuple(p[:1].clone() for p in encoded.fpn_position_encoding[:-1])
        # Copies: a view would keep the whole batch alive for as long as one of it is cached.
        return [
            _embedding(tuple(level[i : i + 1].clone() for level in levels))
            for i in range(len(images))
        ]

    @torch.inference_mode()
    def encode_texts(self, phrases: Sequence[str]) -> list[Embedding]:
        length = self._max_tokens
        ids = torch.full((len(phrases), length), self._tokenizer.pad_token_id)
        mask = torch.zeros((len(phrases), length), dtype=torch.long)
        for row, phrase in enumerate(phrases):
            tokens = self._ids(phrase)
            ids[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, : len(tokens)] = 1
        ids, mask = ids.to(self._device), mask.to(self._device)
        features = self._sam.get_text_features(input_ids=ids, attention_mask=mask).pooler_output
        return [
            _embedding((features[row : row + 1].clone(), mask[row : row + 1].clone()))
            for row in range(len(phrases))
        ]

    @torch.inference_mode()
    def detect(self, pairs: Sequence[Pair]) -> list[RawDetections]:
        # The geometry encoder adds a token of its own even where all boxes are padding, so pairs
        # without exemplars must not share a step with pairs that have some.
        results: dict[int, RawDetections] = {}
        plain = [i for i, pair in enumerate(pairs) if not len(pair.boxes)]
        boxed = [i for i, pair in enumerate(pairs) if len(pair.boxes)]
        for group in (plain, boxed):
            if group:
                answers = self._forward([pairs[i] for i in group])
                results.update(zip(group, answers, strict=True))
        return [results[i] for i in range(len(pairs))]

    def _read(self) -> Any:
        """The model that answers, on its device."""
        sam = load_model(Sam3Model, self._source, SAM3, revision=self._revision, dtype=self._dtype)
        return sam.to(self._device).eval()

    def _levels(self, image: Embedding) -> tuple[Tensor, ...]:
        """The levels that the detector reads of an encoded image, finest first."""
        levels: tuple[Tensor, ...] = image.data
        return levels

    def _ids(self, phrase: str) -> list[int]:
        with self._tokenizing:
            ids: list[int] = self._tokenizer(phrase, truncation=False, padding=False)["input_ids"]
        return ids

    def _forward(self, pairs: Sequence[Pair]) -> list[RawDetections]:
        """One step; either all pairs have exemplars or none has."""
        boxes, labels = self._exemplars(pairs)
        features, mask = _padded([pair.text for pair in pairs])
        out = self._sam(
            vision_embeds=self._vision(pairs),
            text_embeds=BaseModelOutputWithPooling(pooler_output=features),
            attention_mask=mask,
            input_boxes=boxes,
            input_boxes_labels=labels,
        )
        return [
            RawDetections(
                logits=out.pred_logits[i],
                presence=out.presence_logits[i, 0],
                boxes=out.pred_boxes[i],
                masks=out.pred_masks[i],
            )
            for i in range(len(pairs))
        ]

    def _vision(self, pairs: Sequence[Pair]) -> Sam3VisionEncoderOutput:
        """The pairs' image features; those of a single image are not copied."""
        images = [pair.image for pair in pairs]
        if all(image is images[0] for image in images):
            levels = [level.expand(len(pairs), -1, -1, -1) for level in self._levels(images[0])]
        else:
            levels = [torch.cat(level) for level in zip(*map(self._levels, images), strict=True)]
        positions = [p.expand(len(pairs), -1, -1, -1) for p in self._positions]
        # `Sam3Model` drops the last level; a stand-in takes its place.
        return Sam3VisionEncoderOutput(
            fpn_hidden_states=(*levels, levels[-1]),
            fpn_position_encoding=(*positions, positions[-1]),
        )

    def _exemplars(self, pairs: Sequence[Pair]) -> tuple[Tensor | None, Tensor | None]:
        """Boxes (pairs, most, 4) and labels (pairs, most), padded; None without any."""
        most = max(len(pair.boxes) for pair in pairs)
        if most == 0:
            return None, None
        boxes = torch.zeros((len(pairs), most, 4))
        labels = torch.full((len(pairs), most), _PADDING)
        for row, pair in enumerate(pairs):
            boxes[row, : len(pair.boxes)] = torch.from_numpy(pair.boxes)
            labels[row, : len(pair.boxes)] = torch.from_numpy(pair.labels)
        return boxes.to(self._device, self._dtype), labels.to(self._device)


def _tokenizer(source: str, revision: str | None) -> Any:
    """The checkpoint's tokenizer.

    transformers makes an empty one, to which all words are alike, where there is none. A checkpoint
    of random weights has none: it gets the shipped one, so that it can be run at all.
    """
    tokenizer = load_tokenizer(source, revision)
    if len(tokenizer) < _LEAST_VOCABULARY:
        _log.warning(
            "%s has no tokenizer; the shipped one takes its place, whose tokens mean nothing to "
            "weights trained with another",
            source,
        )
        tokenizer = load_tokenizer(str(SHIPPED))
    return tokenizer


def _padded(texts: Sequence[Embedding]) -> tuple[Tensor, Tensor]:
    """Features (n, longest, c) and mask (n, longest) of texts that may differ in length."""
    longest = max(text.data[1].shape[1] for text in texts)
    missing = [longest - text.data[1].shape[1] for text in texts]
    return (
        torch.cat([pad(t.data[0], (0, 0, 0, m)) for t, m in zip(texts, missing, strict=True)]),
        torch.cat([pad(t.data[1], (0, m)) for t, m in zip(texts, missing, strict=True)]),
    )


def _embedding(tensors: tuple[Tensor, ...]) -> Embedding:
    return Embedding(tensors, sum(tensor.nbytes for tensor in tensors))


def _device(name: str) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name


def _dtype(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    dtype: torch.dtype = getattr(torch, name)
    return dtype
