"""Trains a Gemma 4 to plan: the tiny one of sticker world from nothing, or any on pictures of
one's own.

In reading order:

- `recipe`: how long, how fast, on what;
- `preprocessing`: the checkpoint's tokenizer, chat template and image processor, which everything
  that a model reads goes through;
- `scenery`, `reviews`, `lessons`, `examples`: what is shown, asked and answered;
- `curriculum`: which of it at which step;
- `pictures`, `packing`: from lessons to batches, many questions behind one picture;
- `losses`, `optimisers`: what is wrong with the answers, and which weights change how fast;
- `loop`: steps, the moving average, states that resume;
- `adapters`: LoRA;
- `oracle`, `examiner`, `figures`: plans executed and compared with the truth;
- `config`, `tokenizer`, `checkpoints`: the tiny architecture, where models start and end;
- `options`, `devices`, `train`, `evaluate`: the commands.
"""
