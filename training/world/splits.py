"""Which seeds belong to whom, so that training and testing never share a scene.

Every scene and every clip is made from one integer seed. Trainers draw from `TRAINING`, their
progress checks from `VALIDATION`, reported figures only from `HELD_OUT` and, of the second
renderers (`training.evaluation.second_renderer` and `second_clips`), `SECOND_HELD_OUT`, pictures
for people (the demo, the README) from `SHOWN`.
"""

TRAINING = range(1_000_000_000, 2_000_000_000)
VALIDATION = range(20_000_000, 20_100_000)
HELD_OUT = range(10_000_000, 10_100_000)
SECOND_HELD_OUT = range(30_000_000, 30_100_000)
SHOWN = range(100_000)
