"""Images, masks and text as bytes: decoding, rendering, strict JSON. No gRPC, no torch."""
