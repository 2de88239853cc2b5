"""Trains a Gemma 4 to plan: the tiny one of sticker world from nothing, or any on your own images.

In reading order:

- `recipe`: how long, how fast, on what;
- `preprocessing`: the checkpoint's tokenizer, chat template and image processor, which everything
  that a model reads goes through;
- `scenery`, `reviews`, `examples`, `example_file`: what is shown, asked and answered;
- `images`, `packing`: from examples to batches, many questions behind one image;
- `task`: which examples at which step, what is wrong with the answers, how fast what is trained;
- `evaluator`, `figures`, `evaluate`: plans executed and compared with the ground truth;
- `config`, `tokenizer`, `models`: the tiny architecture, LoRA, where models start and end;
- `train`: the command; the loop is `training.kit.trainer`.
"""
