"""The loop of the model's card: processor, model, post-processing, one picture at a time.

The card of facebook/sam3 shows it with the processor, which needs torchvision; where that is
missing, the segmenter's own resize takes its place, which gives the same numbers.
"""

import importlib.util
import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import Sam3Model

from services.replica.checkpoints import SAM3
from services.replica.loading import load_model, load_tokenizer
from services.segmenter.preprocessing import normalized, to_model_input


class CardLoop:
    """`Sam3Model` as its card uses it.

    Args:
        folder: the checkpoint.
        tokenizer: the tokenizer's folder.
        device, dtype: of the model.
    """

    def __init__(self, folder: Path, tokenizer: Path, device: str, dtype: torch.dtype) -> None:
        self.model: Any = load_model(Sam3Model, str(folder), SAM3, dtype=dtype).to(device)
        self._tokenizer = load_tokenizer(str(tokenizer))
        self._device = device
        self._size = int(self.model.config.vision_config.backbone_config.image_size)
        self._length = int(self.model.config.text_config.max_position_embeddings)
        self._processor: Any = None
        if importlib.util.find_spec("torchvision"):
            from transformers import Sam3ImageProcessor, Sam3Processor

            images = Sam3ImageProcessor(size={"height": self._size, "width": self._size})
            self._processor = Sam3Processor(images, self._tokenizer)

    @torch.inference_mode()
    def answer(self, content: bytes, phrase: str, threshold: float = 0.5) -> Any:
        """Decode, run, and with the processor also post-process, as the card does."""
        image = Image.open(io.BytesIO(content)).convert("RGB")
        if self._processor is None:
            return self.forward(image, phrase)
        inputs = self._processor(images=image, text=phrase, return_tensors="pt").to(self._device)
        inputs["pixel_values"] = inputs["pixel_values"].to(self.model.dtype)
        outputs = self.model(**inputs)
        return self._processor.post_process_instance_segmentation(
            outputs,
            threshold=threshold,
            mask_threshold=0.5,
            target_sizes=inputs["original_sizes"].tolist(),
        )[0]

    @torch.inference_mode()
    def forward(self, image: Image.Image, phrase: str) -> Any:
        """The model's raw answer."""
        pixels = normalized(to_model_input(np.array(image), self._size))[None]
        text = self._tokenizer(
            phrase, padding="max_length", max_length=self._length, return_tensors="pt"
        )
        return self.model(
            pixel_values=pixels.to(self._device, self.model.dtype),
            input_ids=text["input_ids"].to(self._device),
            attention_mask=text["attention_mask"].to(self._device),
        )
