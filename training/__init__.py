"""Trains and measures the models that `services` serves; `services` never imports it.

`world` draws scenes with exact truth, `datasets` reads annotated pictures, `kit` is what trainers
share, `segmenter` and `planner` are the two trainers, `evaluation` measures what is served.
"""
