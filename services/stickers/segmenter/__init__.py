"""Trains a `Sam3Model`: the tiny one of sticker world from nothing, or any on your own dataset.

In reading order:

- `plan`: how long, how fast, on what;
- `scenes`, `sampling`, `confusions`: what is shown and what is asked about it;
- `data`, `grids`: from scenes and phrases to batches;
- `student`, `detection`, `dense`: from batches to everything the model says;
- `matching`, `losses`, `boxes`: what is wrong with it;
- `loop`, `optimizers`: steps, the moving average, checkpoints that resume;
- `validation`: figures on scenes that were not trained on;
- `config`, `tokenizer`, `checkpoint`, `growing`: the tiny architecture, and where models start;
- `train`: the command.
"""
