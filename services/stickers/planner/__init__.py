"""The tiny Gemma 4 of sticker world: its configuration, tokenizer, data and training."""
