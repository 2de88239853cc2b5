"""Images and masks as bytes: decoding, run lengths, rendering. No gRPC, no torch."""
