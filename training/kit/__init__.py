"""What every trainer shares: recipe, command line, loop, optimizers, checkpoints, logs, curves.

A trainer adds a `training.kit.task.TrainingTask` (model, examples, losses), a subclass of
`training.kit.recipe.Recipe` with its own numbers, and a `train` module that opens what the command
line names.
"""
