"""Gemma 4 by Hugging Face transformers, from a folder or a hub id, on CPU or one GPU.

Flow: prompts -> chat template -> image placeholders -> tokens, and pictures -> soft tokens, cached
-> `generate`, left-padded -> texts with their special tokens. With `parts`, which reads tokenizer
and image processor, the only module of the planner that imports torch or transformers.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import (
    Gemma4ForConditionalGeneration,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.gemma4.modeling_gemma4 import Gemma4RMSNorm

from limelight.values import ModelInfo
from services.planner.engines import Prompt, PromptImage
from services.planner.engines.parts import check_vocabulary, load_parts
from services.planner.metrics import PlannerMetrics
from services.planner.settings import PlannerSettings
from services.replica.cache import LruCache
from services.replica.checkpoints import GEMMA4
from services.replica.loading import load_model
from services.replica.revision import folder_revision, hub_revision

# An answer ends with its turn, or where the model hands over to the tool. Not at the call's own
# end: what follows it, a second call say, is a fault that the parser must see.
_ENDINGS = ("<turn|>", "<|tool_response>")


class TransformersPlannerEngine:
    """See `services.planner.engines.Engine`."""

    def __init__(self, settings: PlannerSettings, metrics: PlannerMetrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._device = torch.device(_device(settings.device))
        self._features: LruCache[str, Tensor] = LruCache(
            "features", settings.feature_cache_bytes, metrics
        )
        self._info = ModelInfo("planner", Path(settings.model).name, "", "transformers")
        self._model: Any = None
        self._tokenizer: Any = None
        self._images: Any = None
        self._generation: Any = None

    def load(self) -> None:
        """Read weights, tokenizer, chat template and image processor.

        Raises:
            CheckpointError: there is no such checkpoint, or it is not one that works; a part of it
                is missing.
        """
        settings = self._settings
        if settings.threads:
            torch.set_num_threads(settings.threads)
        source, folder = settings.model, Path(settings.model)
        model = load_model(
            Gemma4ForConditionalGeneration,
            source,
            GEMMA4,
            revision=settings.revision,
            dtype=_dtype(settings.dtype, self._device),
        )
        self._model = model.to(self._device).eval()
        _fuse_norms(self._model)
        revision = None if folder.is_dir() else settings.revision or "main"
        self._tokenizer, self._images = load_parts(source, settings.max_soft_tokens, revision)
        check_vocabulary(source, self._tokenizer, self._model)
        self._generation = self._generation_config()
        self._info = ModelInfo(
            role="planner",
            name=folder.name if folder.is_dir() else source,
            revision=folder_revision(folder)
            if revision is None
            else hub_revision(source, revision),
            engine="transformers",
        )

    def close(self) -> None:
        self._model = None
        self._features = LruCache("features", 0, self._metrics)
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def describe(self) -> ModelInfo:
        return self._info

    @torch.inference_mode()
    def generate(self, prompts: Sequence[Prompt], wanted: Callable[[], bool]) -> list[str]:
        features = self._encoded([picture for prompt in prompts for picture in prompt.pictures])
        counts = iter([len(feature) for feature in features])
        texts = [self._text(prompt, counts) for prompt in prompts]
        # The chat template has written every special token, the first one included.
        tokens = self._tokenizer(
            texts,
            add_special_tokens=False,
            padding=True,
            padding_side="left",
            return_tensors="pt",
        ).to(self._device)
        ids = tokens["input_ids"]
        images = {}
        if features:
            images["image"] = BaseModelOutputWithPooling(pooler_output=tuple(features))
        numbers = _NumbersOnly()
        written = self._model.generate(
            input_ids=ids,
            attention_mask=tokens["attention_mask"],
            # Larger Gemmas let the soft tokens of an image see each other both ways.
            mm_token_type_ids=(ids == self._model.config.image_token_id).long(),
            mm_encoder_outputs=images,
            generation_config=self._generation,
            logits_processor=LogitsProcessorList([numbers]),
            stopping_criteria=StoppingCriteriaList([_Unwanted(wanted)]),
        )[:, ids.shape[1] :]
        numbers.check()
        answers = [self._ended(row) for row in written.tolist()]
        self._metrics.tokens(int(tokens["attention_mask"].sum()), sum(map(len, answers)))
        return [
            self._tokenizer.decode(
                answer, skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
            for answer in answers
        ]

    def _text(self, prompt: Prompt, counts: Any) -> str:
        """The prompt as text, each image a run of placeholders between its two marks."""
        tokenizer = self._tokenizer
        text: str = tokenizer.apply_chat_template(
            list(prompt.messages),
            tools=list(prompt.tools),
            add_generation_prompt=True,
            tokenize=False,
        )
        before, *parts = text.split(tokenizer.image_token)
        if len(parts) != len(prompt.pictures):
            raise ValueError(f"{len(parts)} image marks for {len(prompt.pictures)} images")
        for part in parts:
            run = tokenizer.image_token * next(counts)
            before += tokenizer.boi_token + run + tokenizer.eoi_token + part
        return before

    def _encoded(self, pictures: Sequence[PromptImage]) -> list[Tensor]:
        """The soft tokens of each picture, (n, text width); those of one key are encoded once."""
        known: dict[str | int, Tensor] = {}
        missing: dict[str | int, PromptImage] = {}
        for picture in pictures:
            name = picture.key or id(picture)
            if name in known or name in missing:
                continue
            cached = self._features.get(picture.key) if picture.key else None
            if cached is None:
                missing[name] = picture
            else:
                known[name] = cached
        if missing:
            inputs = self._images(
                [Image.fromarray(picture.rgb) for picture in missing.values()], return_tensors="pt"
            )
            encoded = self._model.model.get_image_features(
                inputs["pixel_values"].to(self._device, self._model.dtype),
                inputs["image_position_ids"].to(self._device),
                return_dict=True,
            ).pooler_output
            for (name, picture), feature in zip(missing.items(), encoded, strict=True):
                # A copy: a view would keep the whole batch alive for as long as one is cached.
                known[name] = feature.clone()
                if picture.key:
                    self._features.put(picture.key, known[name], known[name].nbytes)
        return [known[picture.key or id(picture)] for picture in pictures]

    def _ended(self, ids: list[int]) -> list[int]:
        """An answer's tokens up to the one that ended it; padding follows in a batch."""
        for index, token in enumerate(ids):
            if token in self._generation.eos_token_id:
                return ids[: index + 1]
        return ids

    def _generation_config(self) -> GenerationConfig:
        settings, tokenizer = self._settings, self._tokenizer
        own = self._model.generation_config
        endings = {tokenizer.convert_tokens_to_ids(ending) for ending in _ENDINGS}
        endings |= (
            {own.eos_token_id} if isinstance(own.eos_token_id, int) else set(own.eos_token_id)
        )
        sampling = (
            {
                "do_sample": True,
                "temperature": settings.temperature,
                "top_p": settings.top_p,
                "top_k": settings.top_k,
            }
            if settings.temperature
            else {"do_sample": False}
        )
        return GenerationConfig(
            max_new_tokens=settings.max_new_tokens,
            bos_token_id=own.bos_token_id,
            eos_token_id=sorted(endings),
            pad_token_id=own.pad_token_id,
            **sampling,
        )


class _NumbersOnly(LogitsProcessor):  # type: ignore[misc]
    """Notes logits of which the highest is not finite, without waiting for the device each time.

    The likeliest of such logits is always token 0, so that a broken model would write padding.
    """

    def __init__(self) -> None:
        self._broken: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        # The likeliest is NaN where one is, and of no use where it is infinite.
        broken = ~scores.amax(dim=-1).isfinite().all()
        self._broken = broken if self._broken is None else self._broken | broken
        return scores

    def check(self) -> None:
        """Raise RuntimeError if there were any."""
        if self._broken is not None and bool(self._broken):
            raise RuntimeError("the model's logits are not finite")


class _Unwanted(StoppingCriteria):  # type: ignore[misc]
    """Ends all rows as soon as nobody wants them."""

    def __init__(self, wanted: Callable[[], bool]) -> None:
        self._wanted = wanted

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        unwanted = not self._wanted()
        return torch.full((len(input_ids),), unwanted, device=input_ids.device)


def _fuse_norms(model: nn.Module) -> None:
    """Makes the model's RMS norms one operation each instead of six.

    A step has some thirty norms at the least, and its time is that of starting operations: a plan
    of the tiny checkpoint takes a fifth less. The numbers are the same but for rounding.
    """

    def normed(norm: Gemma4RMSNorm, hidden: Tensor) -> Tensor:
        weight = norm.weight if norm.with_scale else None
        return nn.functional.rms_norm(hidden, hidden.shape[-1:], weight, norm.eps)

    for module in model.modules():
        if isinstance(module, Gemma4RMSNorm):
            module.forward = MethodType(normed, module)


def _device(name: str) -> str:
    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"


def _dtype(name: str, device: torch.device) -> Any:
    """bfloat16 is slow on most CPUs, so that a CPU runs float32 unless told otherwise."""
    if name != "auto":
        return getattr(torch, name)
    return torch.float32 if device.type == "cpu" else "auto"
