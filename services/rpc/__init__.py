"""gRPC at the edge of every service: errors to statuses, protobuf to domain, metadata, servers."""
