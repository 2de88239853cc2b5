"""The `limelight` command: a local stack, one picture, many pictures, a demonstration."""
