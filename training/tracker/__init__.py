"""Trains the tracker of a `Sam3VideoModel`, around a detector that stays as it is.

In reading order:

- `recipe`: how long, how fast;
- `windows`, `pool`: clips of sticker world, as the frozen backbone sees them;
- `sampling`, `prompts`: which objects a step follows, and how they are shown;
- `tracking`, `losses`: the tracker over many objects at once, and what is wrong with it;
- `task`: from a step's number to losses;
- `evaluate`: figures on held-out clips;
- `config`, `models`: the tiny architecture, and where models start;
- `train`: the command; the loop is `training.kit.trainer`.
"""
