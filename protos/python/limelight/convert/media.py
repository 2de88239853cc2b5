"""Boxes and masks: `limelight/v1/media.proto`."""

from limelight.masks import Polygon
from limelight.v1 import media_pb2
from limelight.values import RLE, Box


def box_to_proto(box: Box) -> media_pb2.Box:
    return media_pb2.Box(x0=box.x0, y0=box.y0, x1=box.x1, y1=box.y1)


def box_from_proto(box: media_pb2.Box) -> Box:
    return Box(box.x0, box.y0, box.x1, box.y1)


def rle_to_proto(rle: RLE) -> media_pb2.RunLengths:
    return media_pb2.RunLengths(height=rle.size[0], width=rle.size[1], counts=rle.counts)


def rle_from_proto(rle: media_pb2.RunLengths) -> RLE:
    return RLE((rle.height, rle.width), rle.counts)


def mask_to_proto(mask: "RLE | bytes | list[Polygon]") -> media_pb2.Mask:
    """A mask in the format it was asked for: run lengths, a PNG, or polygons."""
    match mask:
        case RLE():
            return media_pb2.Mask(rle=rle_to_proto(mask))
        case bytes():
            return media_pb2.Mask(png=mask)
    polygons = [
        media_pb2.Polygon(coordinates=[value for point in polygon for value in point])
        for polygon in mask
    ]
    return media_pb2.Mask(polygons=media_pb2.Polygons(polygons=polygons))
