"""The segmenter: an image and concept queries in, instances with masks out (SAM 3)."""
