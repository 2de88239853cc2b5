"""How much these tests do: a little in the suite, all of it with `make door`."""

import os

FULL = os.environ.get("LIMELIGHT_DOOR") == "full"

SEGMENT = "/limelight.v1.LimelightService/Segment"
CALLS = 3_000 if FULL else 1_300
RESETS = 20_000 if FULL else 4_000
UPLOADS, UPLOAD_BYTES = (40, 60 * 2**20) if FULL else (4, 12 * 2**20)
HELD_BYTES = 256 * 2**20 if FULL else 8 * 2**20
MUTE = 500 if FULL else 3
HALF_OPEN, HALF_KEPT = (10_000, 512) if FULL else (100, 20)
