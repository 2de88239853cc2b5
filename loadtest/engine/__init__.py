"""What the engines cost on one machine, a GPU above all: `python -m loadtest.engine`.

Without Ray and without gRPC: the models at full size with random weights, or the tiny ones, behind
the services' own code in this process, beside the loop that the model's card shows, on the same
weights in the same run. A wrong answer ends the run; a slow one never does.
"""
