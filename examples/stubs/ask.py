"""Limelight from stubs alone: `python ask.py HOST:PORT PICTURE INSTRUCTION` prints what it finds.

It needs grpcio, protobuf, googleapis-common-protos, and what `protoc` makes of the contract. Other
languages do the same by the same names.
"""

import sys
from pathlib import Path

import grpc
from google.rpc import error_details_pb2, status_pb2

from limelight.v1 import limelight_pb2, limelight_pb2_grpc

# Overlays are large: without it, gRPC refuses answers of more than 4 MiB.
OPTIONS = [("grpc.max_receive_message_length", 64 << 20)]
DETAILS = {
    f"type.googleapis.com/{kind.DESCRIPTOR.full_name}": kind
    for kind in (
        error_details_pb2.ErrorInfo,
        error_details_pb2.BadRequest,
        error_details_pb2.RetryInfo,
    )
}


def details(error: grpc.RpcError) -> dict[str, object]:
    """What a failed call says of itself, by the names of the messages."""
    found: dict[str, object] = {}
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for packed in status_pb2.Status.FromString(value).details:
                if kind := DETAILS.get(packed.type_url):
                    found[kind.DESCRIPTOR.name] = kind.FromString(packed.value)
    return found


def main(address: str, picture: str, instruction: str) -> int:
    task = limelight_pb2.SegmentTask(instruction=instruction)
    task.image.content = Path(picture).read_bytes()
    with grpc.insecure_channel(address, options=OPTIONS) as channel:
        stub = limelight_pb2_grpc.LimelightServiceStub(channel)
        try:
            response = stub.Segment(limelight_pb2.SegmentRequest(task=task), timeout=60)
        except grpc.RpcError as error:
            print(error.code().name, error.details())
            for name, detail in details(error).items():
                print(name, " ".join(str(detail).split()))
            return 1
    print(response.result.summary)
    for instance in response.result.instances:
        print(instance.id, instance.label, f"{instance.score:.2f}", f"{instance.area} pixels")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
