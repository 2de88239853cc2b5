"""What callers notice when parts of a local stack end or stand still: `make chaos`.

`python -m loadtest.chaos` starts a stack with two gateways, calls it at a steady rate through
`limelight.AsyncClient`, which repeats what is worth repeating, and lets one fault happen after the
other. It writes `out/chaos.json`, and a page with the table and a plot a fault, `out/chaos.html`.

Flow: `parts` (the stack's processes by what they do) -> `faults` (what happens to them; `clock`
sets theirs) -> `trials` (one fault under calls of `loadtest.generator`, timed from when they were
due; `evidence` that a limit was met) -> `report`.
"""
