"""The figures of sticker world, measured from outside: client -> gateway -> planner and segmenter.

Flow: seeds -> `questions` (a scene, its file, what is asked of it) -> `examination` (asks through
the public API) -> `marking` (an answer against the truth, by `matching`) -> `figures` -> `report`
and `sheet`. `python -m services.stickers.evaluation` runs it.
"""
