"""The benchmark of videos: `python -m loadtest.video`, or `make bench-video`.

Three scenarios against a stack of its own, all through the public API: where the time of a 1080p
clip goes (`stages`), whether a session stays as it is over thousands of frames (`endurance`), and
how eight sessions at once compare to the engine alone in a process (`crowd`, `baseline`). Ratios
are to what was measured in the same run; other work on the machine is told, and spoils figures.
"""
