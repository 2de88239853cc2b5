"""Scaling policies on simulated load: what they cost, and how long callers wait."""
