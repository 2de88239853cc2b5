"""What a Gemma 4 reads with: the tokenizer and the image processor of its checkpoint.

The engine and the trainer load both here. `Gemma4Processor` would do it in one, but insists on a
video processor and so on torchvision.
"""

from typing import Any

from transformers.models.gemma4.image_processing_pil_gemma4 import Gemma4ImageProcessorPil

from services.errors import CheckpointError
from services.replica.loading import load_tokenizer

# A tokenizer has more tokens than there are bytes; transformers makes up one of a few where a
# checkpoint has none.
_LEAST_VOCABULARY = 256


def load_parts(
    source: str, soft_tokens: int | None = None, revision: str | None = None
) -> tuple[Any, Any]:
    """Tokenizer, with its chat template, and image processor.

    Args:
        source: folder or hub id of the checkpoint.
        soft_tokens: an image's at most; by default as the checkpoint says.
        revision: of a hub id.

    Raises:
        CheckpointError: the checkpoint lacks one of them.
    """
    options = {} if revision is None else {"revision": revision}
    size = {} if soft_tokens is None else {"max_soft_tokens": soft_tokens}
    tokenizer = load_tokenizer(source, revision)
    if len(tokenizer) < _LEAST_VOCABULARY:
        raise CheckpointError(_lacking(source, "tokenizer (tokenizer.json)"))
    if tokenizer.chat_template is None:
        raise CheckpointError(_lacking(source, "chat template (chat_template.jinja)"))
    try:
        images = Gemma4ImageProcessorPil.from_pretrained(source, **options, **size)
    except Exception as error:
        lacking = "image processor (preprocessor_config.json)"
        raise CheckpointError(_lacking(source, lacking)) from error
    return tokenizer, images


def check_vocabulary(source: str, tokenizer: Any, model: Any) -> None:
    """Raise CheckpointError if the tokenizer has more tokens than the model reads."""
    known, read = len(tokenizer), model.config.text_config.vocab_size
    if known > read:
        raise CheckpointError(
            f"{source}: its tokenizer has {known} tokens, the model reads {read}: it is another's"
        )


def _lacking(source: str, part: str) -> str:
    return f"{source} has no {part} that can be read; copy it from the checkpoint it was made of"
