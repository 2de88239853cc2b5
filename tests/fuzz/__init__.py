"""Fuzzing of all that parses what strangers send: `make fuzz` for long, `test_fuzz` for seconds.

`targets` says what is fed and what it may raise; `mutations` makes inputs of the corpus, the same
for the same seed; `requests` makes whole hostile requests, and `cost` measures what they cost.
`corpus/<target>/` holds inputs that were worth keeping: add the one that a run reports.
"""
