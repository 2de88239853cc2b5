"""How fast the service is, and what that costs, beside a plain loop over the same model.

`python -m loadtest` (`make bench`) starts a local stack, asks it through the public API, and prints
each figure with its ratio to a baseline measured in the same run on the same machine. It writes
`out/bench.json` and `out/bench.md`.

Flow: `pictures` (distinct files, made from sticker world) -> `generator` (closed loop: so many
callers; open loop: Poisson arrivals) -> `scenarios` (what is measured) -> `report`. Beside them
`baseline` (the plain loop, in a process of its own), `usage` (CPU seconds of each process) and
`metrics` (what the services count).

What is measured:

- throughput and latency at 1, 4 and 16 callers, one phrase a picture, every picture new; and at
  Poisson arrivals of 60 % of the greatest throughput seen;
- 1, 4 and 16 phrases in one call against as many calls of one phrase, on new pictures and on known
  ones;
- a picture that was seen before against a new one;
- instructions: the plan made anew and from the cache;
- batch sizes reached, cache hits, time in each stage, CPU seconds of each process a request.
"""
