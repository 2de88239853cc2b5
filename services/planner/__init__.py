"""The planner service: picture and instruction in, a plan in the closed language out."""
