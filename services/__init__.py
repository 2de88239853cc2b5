"""Limelight's services: a gateway, a planner, a segmenter, and what they share."""
