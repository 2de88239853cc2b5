"""Tracks as files that other tools read: COCO and YouTube-VOS.

COCO (https://cocodataset.org/#format-data): an image per frame and an annotation per object in it,
with `track_id` besides. YouTube-VOS (https://youtube-vos.org/dataset/vis/): an annotation per
object, with a segmentation, a box and an area per frame, null where it is not visible.
Segmentations are COCO's compressed run lengths, boxes x, y, width, height.
"""

from typing import Any

from limelight import TrackedFrame, TrackedInstance


class AnnotationWriter:
    """Gathers the frames of one video.

    Args:
        name: of the video, for the names of its frames.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._frames: list[TrackedFrame] = []
        self._categories: dict[str, int] = {}

    def add(self, frame: TrackedFrame) -> None:
        """Take the next frame."""
        self._frames.append(frame)
        for item in frame.instances:
            self._categories.setdefault(item.label, len(self._categories) + 1)

    def coco(self) -> dict[str, Any]:
        """As COCO's object detection, a frame an image."""
        annotations: list[dict[str, Any]] = []
        for image_id, frame in enumerate(self._frames, start=1):
            for item in frame.instances:
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": image_id,
                        "category_id": self._categories[item.label],
                        "segmentation": _segmentation(item),
                        "bbox": _box(item),
                        "area": item.area,
                        "iscrowd": 0,
                        "score": round(item.score, 6),
                        "track_id": item.id,
                    }
                )
        return {
            "info": {"description": f"{self._name}, tracked by Limelight"},
            "images": [
                {
                    "id": image_id,
                    "file_name": self._file_name(frame),
                    "width": frame.width,
                    "height": frame.height,
                    "frame_index": frame.index,
                    "time_s": round(frame.time_s, 6),
                }
                for image_id, frame in enumerate(self._frames, start=1)
            ],
            "annotations": annotations,
            "categories": self._category_list(),
        }

    def youtube_vos(self) -> dict[str, Any]:
        """As YouTube-VOS's video instance segmentation, of one video."""
        objects: dict[int, TrackedInstance] = {}
        for frame in self._frames:
            for item in frame.instances:
                objects.setdefault(item.id, item)
        annotations = []
        for number, first in sorted(objects.items()):
            seen = [frame.instance(number) for frame in self._frames]
            scores = [item.score for item in seen if item is not None]
            annotations.append(
                {
                    "id": number,
                    "video_id": 1,
                    "category_id": self._categories[first.label],
                    "segmentations": [item and _segmentation(item) for item in seen],
                    "bboxes": [item and _box(item) for item in seen],
                    "areas": [item and item.area for item in seen],
                    "score": round(sum(scores) / len(scores), 6),
                    "iscrowd": 0,
                }
            )
        size = self._frames[0] if self._frames else TrackedFrame(0, 0.0, 0, 0)
        return {
            "info": {"description": f"{self._name}, tracked by Limelight"},
            "videos": [
                {
                    "id": 1,
                    "width": size.width,
                    "height": size.height,
                    "length": len(self._frames),
                    "file_names": [self._file_name(frame) for frame in self._frames],
                }
            ],
            "annotations": annotations,
            "categories": self._category_list(),
        }

    def _file_name(self, frame: TrackedFrame) -> str:
        return f"{self._name}/{frame.index:05d}.jpg"

    def _category_list(self) -> list[dict[str, Any]]:
        return [{"id": number, "name": label} for label, number in self._categories.items()]


def _segmentation(item: TrackedInstance) -> dict[str, Any]:
    rle = item.rle
    return {"size": list(rle.size), "counts": rle.counts.decode("ascii")}


def _box(item: TrackedInstance) -> list[float]:
    return [item.box.x0, item.box.y0, item.box.width, item.box.height]
