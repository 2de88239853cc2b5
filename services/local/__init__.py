"""The whole stack on one machine: Ray Serve with the models, the gateway, and their supervisor.

Flow: `models` (what to run) -> `stack` (start, find, stop) -> `supervisor` -> `serve_host` and the
gateway; `state` is what the supervisor writes down and everyone else reads. `runtime` is the
environment of all of them, and of every other process that runs the models.
"""
