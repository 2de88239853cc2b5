"""The RPC between the gateway and a tracking session, with its flow control: both sides use it."""

from limelight.internal.v1 import tracker_pb2
from services.rpc.credits import FlowControl
from services.rpc.methods import rpcs

TRACK = rpcs(tracker_pb2, "TrackerService")["Track"]


def _give_back(response: tracker_pb2.TrackResponse, credits: int) -> None:
    response.credits = credits


# A request is a group of pictures or less, and a response a frame: so many of each are under way.
TRACK_FLOW = FlowControl(
    window=8,
    acknowledge=lambda count: tracker_pb2.TrackRequest(credits=count),
    finish=lambda: tracker_pb2.TrackRequest(finish=True),
    credits_of=lambda message: message.credits,
    give_back=_give_back,
    is_finish=lambda request: request.finish,
)
