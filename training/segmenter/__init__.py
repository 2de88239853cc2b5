"""Trains a `Sam3Model`: the tiny one of sticker world from nothing, or any on your own dataset.

In reading order:

- `recipe`: how long, how fast, on what;
- `scenes`, `sampling`: what is shown and what is asked about it;
- `data`, `grids`: from scenes and phrases to batches;
- `task`, `detection`, `dense`: from batches to everything the model predicts;
- `matching`, `losses`, `boxes`: what is wrong with it;
- `evaluate`: figures on held-out scenes;
- `config`, `tokenizer`, `models`, `growing`: the tiny architecture, and where models start;
- `train`: the command; the loop is `training.kit.trainer`.
"""
