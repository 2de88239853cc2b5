"""Segmented images: `limelight/internal/v1/segmenter.proto`."""

from limelight.convert.answers import (
    model_from_proto,
    model_to_proto,
    timings_from_proto,
    timings_to_proto,
)
from limelight.convert.media import box_from_proto, box_to_proto, rle_from_proto, rle_to_proto
from limelight.internal.v1 import segmenter_pb2
from services.domain import Detection, QueryResult, SegmentedImage


def segmented_to_proto(image: SegmentedImage) -> segmenter_pb2.SegmentConceptsResponse:
    return segmenter_pb2.SegmentConceptsResponse(
        width=image.width,
        height=image.height,
        results=map(_result_to_proto, image.results),
        model=model_to_proto(image.model),
        timings=timings_to_proto(image.timings_ms),
    )


def segmented_from_proto(response: segmenter_pb2.SegmentConceptsResponse) -> SegmentedImage:
    return SegmentedImage(
        width=response.width,
        height=response.height,
        results=tuple(map(_result_from_proto, response.results)),
        model=model_from_proto(response.model),
        timings_ms=timings_from_proto(response.timings),
    )


def _result_to_proto(result: QueryResult) -> segmenter_pb2.ConceptResult:
    detections = [
        segmenter_pb2.Detection(
            score=item.score,
            box=box_to_proto(item.box),
            mask=rle_to_proto(item.mask),
            area=item.area,
        )
        for item in result.detections
    ]
    return segmenter_pb2.ConceptResult(presence=result.presence, detections=detections)


def _result_from_proto(result: segmenter_pb2.ConceptResult) -> QueryResult:
    detections = tuple(
        Detection(
            score=item.score,
            box=box_from_proto(item.box),
            mask=rle_from_proto(item.mask),
            area=item.area,
        )
        for item in result.detections
    )
    return QueryResult(result.presence, detections)
