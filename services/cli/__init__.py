"""The `limelight` command: a local stack, pictures, videos, a demonstration."""
