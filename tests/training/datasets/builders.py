"""COCO-style datasets of rendered scenes: what a person's annotated pictures look like on disk."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from limelight.masks import encode_rle, to_polygons
from training.world.scenes import Scene, SceneInstance, save
from training.world.vocabulary import Vocabulary

FORMS = ("polygons", "compressed", "uncompressed")


def write_coco(
    folder: Path, scenes: Sequence[Scene], renamed: Mapping[str, str] | None = None
) -> tuple[Path, Path]:
    """Write scenes of sticker world as pictures and annotations, masks in all of `FORMS` by turns.

    "Don't care" instances become crowds. Ids are sparse, as COCO's own are.

    Args:
        folder: for all of it.
        scenes: at least one.
        renamed: other names for some concepts; their plurals are left to be guessed.

    Returns:
        The annotations and the folder of pictures, for `CocoScenes.load`.
    """
    images = folder / "images"
    images.mkdir(parents=True)
    content: dict[str, list[dict[str, Any]]] = {
        "images": [],
        "annotations": [],
        "categories": [
            {"id": 7 + 3 * concept.index, "supercategory": concept.category}
            | (
                {"name": renamed[concept.name]}
                if renamed and concept.name in renamed
                else {"name": concept.name, "plural": concept.plural}
            )
            for concept in Vocabulary.load().concepts
        ],
    }
    for number, scene in enumerate(scenes):
        name = f"{number:04}.png"
        save(scene, images / name)
        width, height = scene.size
        content["images"].append(
            {"id": 100 + 11 * number, "file_name": name, "width": width, "height": height}
        )
        for instance in scene.instances:
            if not instance.area:
                continue
            form = FORMS[len(content["annotations"]) % len(FORMS)]
            content["annotations"].append(
                {
                    "id": len(content["annotations"]),
                    "image_id": 100 + 11 * number,
                    "category_id": 7 + 3 * instance.concept.index,
                    "segmentation": segmentation(instance, form),
                    "area": instance.area,
                    "iscrowd": int(instance.dont_care),
                }
            )
    annotations = folder / "instances.json"
    annotations.write_text(json.dumps(content), encoding="utf-8")
    return annotations, images


def segmentation(instance: SceneInstance, form: str) -> Any:
    """An instance's mask in one of `FORMS`; polygons fill holes, since COCO's cannot have any."""
    rle = encode_rle(instance.mask)
    size = list(rle.size)
    if form == "polygons":
        return [[side for point in polygon for side in point] for polygon in outer(instance)]
    if form == "compressed":
        return {"size": size, "counts": rle.counts.decode()}
    flat = instance.mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flat])))
    return {"size": size, "counts": np.diff([0, *edges, flat.size]).tolist()}


def outer(instance: SceneInstance) -> list[list[tuple[float, float]]]:
    """The outer boundaries: those that run clockwise on the screen."""
    return [polygon for polygon in to_polygons(instance.mask) if shoelace(polygon) > 0]


def shoelace(polygon: Sequence[tuple[float, float]]) -> float:
    """Twice the signed area."""
    after = [*polygon[1:], polygon[0]]
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(polygon, after, strict=True))
