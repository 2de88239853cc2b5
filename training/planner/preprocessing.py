"""What a checkpoint brings to read with: tokenizer, chat template, image processor.

Flow: messages -> `chat` -> `split` -> token ids; image -> `patches`. Everything a model is trained
on passes through here, and so does what it is evaluated on, with the same parts that the service
loads (`services.planner.engines.parts`): nothing is learned in one format and asked in
another. The parts come from the checkpoint, so the tiny Gemma 4 and `google/gemma-4-31B-it` differ
in nothing here but their files.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from transformers import PreTrainedTokenizerBase
from transformers.models.gemma4.image_processing_pil_gemma4 import Gemma4ImageProcessorPil

from services.planner.engines.parts import load_parts
from services.planner.prompt import PLAN_TOOL, plan_messages
from training.planner.tokenizer import TOOL_RESPONSE


@dataclass(frozen=True)
class Preprocessor:
    """Turns chats into token ids and images into patches, as one checkpoint wants them."""

    tokenizer: PreTrainedTokenizerBase
    image_processor: Gemma4ImageProcessorPil

    @classmethod
    def load(cls, checkpoint: str, soft_tokens: int | None = None) -> Self:
        """The parts of a checkpoint.

        Args:
            checkpoint: folder or hub id.
            soft_tokens: an image's at most; by default as the checkpoint says.

        Raises:
            CheckpointError: there is no such checkpoint, or a part of it is missing.
        """
        return cls(*load_parts(checkpoint, soft_tokens))

    @property
    def pooling(self) -> int:
        """Patches a side of a soft token."""
        return int(self.image_processor.pooling_kernel_size)

    def chat(self, messages: Sequence[Mapping[str, object]], tool: Mapping[str, object]) -> str:
        """The chat as text, up to where the model answers; each image is one `<|image|>`."""
        return str(
            self.tokenizer.apply_chat_template(
                messages, tools=[tool], tokenize=False, add_generation_prompt=True
            )
        )

    def planning_chat(self, instruction: str) -> str:
        """The chat that asks for a plan of one image."""
        return self.chat(plan_messages(instruction), PLAN_TOOL)

    def split(self, chat: str, soft: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Token ids up to the last image, and behind it.

        Args:
            chat: with as many `<|image|>` as there are images.
            soft: soft tokens of each image, which take the place of its mark.
        """
        *before, tail = chat.split(self.tokenizer.image_token)
        images = [self._placeholders(count) for count in soft]
        head = "".join(text + image for text, image in zip(before, images, strict=True))
        return self.ids(head), self.ids(tail)

    def expanded(self, chat: str, soft: Sequence[int]) -> str:
        """`chat` as text, with the soft tokens' placeholders in place of its images."""
        *before, tail = chat.split(self.tokenizer.image_token)
        images = [self._placeholders(count) for count in soft]
        return "".join(a + b for a, b in zip(before, images, strict=True)) + tail

    def answer(self, call: str) -> tuple[int, ...]:
        """Token ids of an answer: a call, and where Gemma 4 hands over to the tool."""
        return self.ids(call + TOOL_RESPONSE)

    def ids(self, text: str) -> tuple[int, ...]:
        """Token ids of a text, special tokens in it read as such and none added."""
        return tuple(self.tokenizer(text, add_special_tokens=False).input_ids)

    def patches(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
        """An image as the vision tower takes it.

        Args:
            image: uint8 ``[h, w, 3]``.

        Returns:
            The patches, float32 ``[patches, 3 * patch ** 2]``; their places, int64
            ``[patches, 2]``, x and y, -1 where padded; rows and columns of soft tokens.
        """
        made = self.image_processor(images=[image], return_tensors="np")
        positions = made["image_position_ids"][0].astype(np.int64)
        columns, rows = (positions.max(axis=0) + 1) // self.pooling
        patches = made["pixel_values"][0].astype(np.float32)
        return patches, positions, (int(rows), int(columns))

    def _placeholders(self, count: int) -> str:
        tokenizer = self.tokenizer
        return f"{tokenizer.boi_token}{tokenizer.image_token * count}{tokenizer.eoi_token}"
