"""Which seeds belong to whom, so that training and testing never share a scene.

Every scene is made from one integer seed. Trainers draw from `TRAINING`, their progress
checks from `VALIDATION`, reported figures only from `HELD_OUT`, pictures for people (the
demo, the README) from `SHOWN`.
"""

TRAINING = range(1_000_000_000, 2_000_000_000)
VALIDATION = range(20_000_000, 20_100_000)
HELD_OUT = range(10_000_000, 10_100_000)
SHOWN = range(100_000)
