"""Sticker world: scenes of 48 known sprites, phrases and instructions, with exact truth."""
