"""Trains and exports the tiny `Sam3Model` of sticker world."""
