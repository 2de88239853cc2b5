"""What becomes of calls when more are made than can be answered: `make loadtest`.

`python -m loadtest.overload` starts a local stack, finds its capacity, and asks for 1 to 10 times
as much; then with many callers that come back at once, or when they are told to. It writes
`out/loadtest.json`, and a page with tables and plots, `out/loadtest.html`.

Flow: `caller` (one call as bytes, so that the generator costs little beside the services) ->
`loads` (when calls are made) -> `outcomes` (what became of them) -> `scenarios` -> `report`.

Calls of an open loop are due at set times, whether or not those before them were answered, and are
timed from when they were due: a stall counts for all calls that it delayed, those that the
generator itself made late too.
"""
