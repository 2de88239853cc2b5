"""The figures of sticker world, measured from outside: client -> gateway -> planner and segmenter.

Flow: seeds -> `questions` (a scene, its file, what is asked of it) -> `evaluator` (asks through the
public API) -> `scoring` (an answer against the truth, by `matching`) -> `figures` -> `report`,
`cards` and charts. `python -m training.evaluation` runs it.
"""
