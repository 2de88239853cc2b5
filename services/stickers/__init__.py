"""Sticker world: scenes of 48 known sprites with exact truth, and what is trained on them."""
