"""The gateway: the public door. It admits, plans, segments, selects, renders and answers."""
