"""Data sets as annotation tools, scripts and cameras leave them.

A small sound set of pictures and outlines is made, one thing in it is changed, and it is given to a
trainer's reader: taken as it is, or refused by file, annotation and field.
"""

import json
import math
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.odd.case import Case
from training.datasets.coco import CocoScenes
from training.datasets.coco_reader import CocoError

WIDTH, HEIGHT = 60, 40

Content = dict[str, list[dict[str, Any]]]
# What is changed: the annotations, in the folder of their pictures.
Change = Callable[[Content, Path], object]


def cases() -> list[Case]:
    """The area's cases."""
    return [
        *_outlines(),
        *_runs(),
        *_flags(),
        *_ids(),
        *_pictures(),
        *_wholes(),
        *_sound(),
        *_skipped(),
    ]


def box(x0: float, y0: float, x1: float, y1: float) -> list[float]:
    """A rectangle as a polygon."""
    return [x0, y0, x1, y0, x1, y1, x0, y1]


def runs_of_a_box() -> list[int]:
    """The run lengths of columns 10 to 19 and rows 10 to 19."""
    flat = np.zeros((HEIGHT, WIDTH), bool)
    flat[10:20, 10:20] = True
    flat = flat.ravel(order="F")
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flat])))
    return [int(count) for count in np.diff([0, *edges, flat.size])]


def picture(seed: int) -> Image.Image:
    """A photograph's worth of noise: a JPEG of it is many kilobytes."""
    noise = np.random.default_rng(seed).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    return Image.fromarray(noise)


def sound(folder: Path) -> Content:
    """Twelve pictures with two outlines each, annotations 0 to 23; nothing is wrong with them."""
    content: Content = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat", "supercategory": "pet"}],
    }
    for number in range(12):
        picture(number).save(folder / f"{number}.jpg", quality=95)
        content["images"].append(
            {"id": number + 1, "file_name": f"{number}.jpg", "width": WIDTH, "height": HEIGHT}
        )
        for category, outline in ((1, box(10, 10, 20, 20)), (2, box(30, 5, 50, 35))):
            content["annotations"].append(
                {
                    "id": len(content["annotations"]),
                    "image_id": number + 1,
                    "category_id": category,
                    "segmentation": [outline],
                    "iscrowd": 0,
                }
            )
    return content


def write(content: object, folder: Path) -> Path:
    """The file of annotations; `content` as JSON, or, if it is bytes, as it is."""
    file = folder / "instances.json"
    file.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return file


def _see(change: Change, words: tuple[str, ...], skip: bool, folder: Path) -> str:
    pictures = folder / "pictures"
    pictures.mkdir()
    content = sound(pictures)
    changed = change(content, pictures)
    file = write(changed if isinstance(changed, bytes) else content, folder)
    try:
        scenes = CocoScenes.load(file, pictures, skip=skip)
        for index in range(len(scenes.images)):
            scenes.at(index)
    except CocoError as error:
        text = str(error)
        if not words or not all(word in text for word in ("instances.json", *words)):
            return f"refused: {text}"
        return f"refused: {' … '.join(words)}"
    return str(scenes.summary)


def _refused(name: str, change: Change, *words: str) -> Case:
    return Case(
        f"a data set {name}",
        f"refused: {' … '.join(words)}",
        partial(_see, change, words, False),
    )


def _taken(name: str, change: Change, right: str, skip: bool = False) -> Case:
    how = ", to be skipped" if skip else ""
    return Case(f"a data set {name}{how}", right, partial(_see, change, (), skip))


def _annotation(index: int, **values: Any) -> Change:
    return lambda content, _: content["annotations"][index].update(values)


def _image(index: int, **values: Any) -> Change:
    return lambda content, _: content["images"][index].update(values)


# --- outlines -------------------------------------------------------------------------------------


def _outlines() -> list[Case]:
    where = "annotations[3].segmentation"
    whose = "(annotation 3)"
    far = "far beyond the picture"
    number = "is not a finite"
    polygons = {
        "with a corner at 1e12": ([10, 10, 50, 10, 50, 1e12], "[0][5]", far),
        "with a corner at -1e12": (
            [10, 10, -1e12, 10, 50, 30],
            "[0][2]",
            far,
        ),
        "with a corner at 10 to the 400": (
            [10, 10, 50, 10, 50, 10**400],
            "[0][5]",
            far,
        ),
        "with a corner of NaN": ([10, 10, math.nan, 10, 50, 30], "[0][2]", number),
        "with an infinite corner": (
            [10, math.inf, 50, 10, 50, 30],
            "[0][1]",
            number,
        ),
        "with a corner in a string": ([10, 10, "50", 10, 50, 30], "[0]", "not a list of numbers"),
        "with a corner of true": ([10, 10, True, 10, 50, 30], "[0]", "not a list of numbers"),
        "with a corner of null": ([10, 10, None, 10, 50, 30], "[0]", "not a list of numbers"),
        "of two corners": ([10, 10, 50, 30], "[0]", "4 numbers, not x and y in turn"),
        "of five and a half corners": ([1.0] * 11, "[0]", "11 numbers, not x and y in turn"),
        "with corners in pairs": ([[10, 10], [50, 10], [50, 30]], "[0]", "not a list of numbers"),
        "without width": ([10, 10, 10, 20, 10, 30], "", "it has not one pixel"),
        "all in one point": ([10, 10] * 4, "", "it has not one pixel"),
        "beside the picture": (box(-30, -30, -10, -10), "", "it has not one pixel"),
    }
    found = [
        _refused(
            f"with a polygon {name}",
            _annotation(3, segmentation=[polygon]),
            f"{where}{part} {whose}: ",
            message,
        )
        for name, (polygon, part, message) in polygons.items()
    ]
    forms = {
        "with a box alone": ([], "no polygon: a box alone is not an outline"),
        "with an outline of null": (None, "neither polygons nor run lengths"),
        "with an outline in a string": ("10 10 20 20", "neither polygons nor run lengths"),
    }
    found += [
        _refused(name, _annotation(3, segmentation=form), f"{where} {whose}: {message}")
        for name, (form, message) in forms.items()
    ]
    return found


# --- run lengths ----------------------------------------------------------------------------------


def _runs() -> list[Case]:
    good = runs_of_a_box()
    size = [HEIGHT, WIDTH]
    forms: dict[str, tuple[dict[str, Any], str, str]] = {
        "whose size is turned": (
            {"size": size[::-1], "counts": good},
            ".size",
            "it is [width",
        ),
        "of another size": ({"size": [40, 61], "counts": good}, ".size", "is not its image's [40"),
        "without a size": ({"counts": good}, ".size", "None is not [height, width]"),
        "whose size is in strings": (
            {"size": ["40", "60"], "counts": good},
            ".size",
            "is not [height, width]",
        ),
        "whose size is of booleans": (
            {"size": [True, 60], "counts": good},
            ".size",
            "is not [height, width]",
        ),
        "that cover too little": (
            {"size": size, "counts": good[:-1]},
            ".counts",
            "run lengths cover 780 pixels, its size 2400",
        ),
        "with a negative run": (
            {"size": size, "counts": [-10, 20, *good]},
            ".counts",
            "a run that is negative",
        ),
        "with a run of 1e30": ({"size": size, "counts": [10**30]}, ".counts", "beyond its size"),
        "with fractions": (
            {"size": size, "counts": [*good[:-1], good[-1] + 0.5]},
            ".counts",
            "not a list of whole numbers",
        ),
        "of nothing": ({"size": size, "counts": [2400]}, "", "it has not one pixel"),
        "in an empty list": ({"size": size, "counts": []}, ".counts", "counts are empty"),
        "of null": ({"size": size, "counts": None}, ".counts", "neither a list nor a string"),
        "in a string of other letters": (
            {"size": size, "counts": "größe"},
            ".counts",
            "neither a list nor a string",
        ),
        "in a string that is cut off": ({"size": size, "counts": "Po"}, ".counts", "end within"),
    }
    return [
        _refused(
            f"with run lengths {name}",
            _annotation(3, segmentation=form),
            f"annotations[3].segmentation{part} (annotation 3): ",
            message,
        )
        for name, (form, part, message) in forms.items()
    ]


# --- crowds ---------------------------------------------------------------------------------------


def _flags() -> list[Case]:
    wrong: list[Any] = ["0", "1", "false", 2, -1, 1.5, None, []]
    return [
        _refused(
            f"with iscrowd {json.dumps(flag)}",
            _annotation(3, iscrowd=flag),
            f"annotations[3].iscrowd (annotation 3): {flag!r} is neither 0 nor 1",
        )
        for flag in wrong
    ]


# --- ids ------------------------------------------------------------------------------------------


def _ids() -> list[Case]:
    kind = "is neither a whole number nor a string"
    annotations: list[tuple[str, Any, str]] = [
        ("image_id", 99, "there is no image 99"),
        ("image_id", "2", "there is no image '2', only 2: a number is not a string"),
        ("image_id", True, f"True {kind}"),
        ("image_id", 2.5, f"2.5 {kind}"),
        ("image_id", None, f"None {kind}"),
        ("category_id", 99, "there is no category 99"),
        ("category_id", "1", "there is no category '1', only 1: a number is not a string"),
        ("category_id", True, f"True {kind}"),
        ("category_id", [1], f"[1] {kind}"),
    ]
    images: list[tuple[str, Any, str]] = [
        ("id", 1, "a second image 1"),
        ("id", True, f"True {kind}"),
        ("id", 2.5, f"2.5 {kind}"),
        ("width", "60", "'60' is not a whole number above 0"),
        ("width", True, "True is not a whole number above 0"),
        ("height", 40.5, "40.5 is not a whole number above 0"),
        ("height", -40, "-40 is not a whole number above 0"),
        ("height", None, "None is not a whole number above 0"),
    ]
    return [
        *(
            _refused(
                f"with {field} {json.dumps(value)} in an annotation",
                _annotation(3, **{field: value}),
                f"annotations[3].{field} (annotation 3): {message}",
            )
            for field, value, message in annotations
        ),
        *(
            _refused(
                f"with {field} {json.dumps(value)} in an image",
                _image(2, **{field: value}),
                f"images[2].{field} (",
                message,
            )
            for field, value, message in images
        ),
        _refused(
            "with two annotations of one id",
            _annotation(3, id=7),
            "annotations[7].id (annotation 7): a second annotation 7",
        ),
        _refused(
            "with two categories of one name",
            lambda content, _: content["categories"][1].update(name="Dog "),
            "categories[1] (category 2): a second category of id 2 or name 'dog'",
        ),
        _refused(
            "with a category without a name",
            lambda content, _: content["categories"][1].pop("name"),
            "categories[1].name (category 2): None is not a name",
        ),
    ]


# --- pictures -------------------------------------------------------------------------------------


def _saved(index: int, name: str, made: Image.Image, **options: Any) -> Change:
    def change(content: Content, folder: Path) -> None:
        made.save(folder / name, **options)
        content["images"][index]["file_name"] = name

    return change


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[274] = orientation
    return exif


def _rewritten(index: int, change: Callable[[bytes], bytes]) -> Change:
    def rewrite(content: Content, folder: Path) -> None:
        file = folder / content["images"][index]["file_name"]
        file.write_bytes(change(file.read_bytes()))

    return rewrite


def _cut_png(content: Content, folder: Path) -> None:
    _saved(2, "cut.png", picture(0))(content, folder)
    _rewritten(2, lambda data: data[: len(data) // 2])(content, folder)


def _cut_webp(content: Content, folder: Path) -> None:
    _saved(2, "cut.webp", picture(0))(content, folder)
    _rewritten(2, lambda data: data[: len(data) // 2])(content, folder)


def _cut_tiff(content: Content, folder: Path) -> None:
    _saved(2, "cut.tif", picture(0))(content, folder)
    _rewritten(2, lambda data: data[: len(data) // 2])(content, folder)


def _folder(content: Content, folder: Path) -> None:
    (folder / "2.jpg").unlink()
    (folder / "2.jpg").mkdir()


def _pictures() -> list[Case]:
    where = "images[2] (image 3, "
    floats = Image.fromarray(np.linspace(0, 1, WIDTH * HEIGHT, dtype=np.float32).reshape(40, 60))
    return [
        *(
            _refused(
                f"whose picture is turned by Exif {orientation}, annotated as it is stored",
                _saved(2, "turned.jpg", picture(0), exif=_exif(orientation)),
                f"{where}turned.jpg): annotated as 60 x 40 pixels, as it is stored, but Exif turns",
                f"(orientation {orientation}) and it shows as 40 x 60",
            )
            for orientation in (5, 6, 7, 8)
        ),
        _refused(
            "whose picture is turned by Exif in a PNG, annotated as it is stored",
            _saved(2, "turned.png", picture(0), exif=_exif(6)),
            f"{where}turned.png): annotated as 60 x 40 pixels, as it is stored",
        ),
        _refused(
            "whose JPEG is cut off",
            _rewritten(2, lambda data: data[: len(data) // 2]),
            f"{where}2.jpg): ",
            "pictures/2.jpg: the image",
        ),
        _refused("whose PNG is cut off", _cut_png, f"{where}cut.png): ", "cut.png: the image"),
        _refused("whose WebP is cut off", _cut_webp, f"{where}cut.webp): ", "cut.webp: the image"),
        _refused("whose TIFF is cut off", _cut_tiff, f"{where}cut.tif): ", "cut.tif: the image"),
        _refused(
            "whose picture is a float TIFF",
            _saved(2, "float.tif", floats),
            f"{where}float.tif): ",
            "float.tif: the image is a TIFF of other than 1, 2, 4, 8 or 16 bits a sample",
        ),
        _refused(
            "whose picture is an empty file",
            _rewritten(2, lambda _: b""),
            f"{where}2.jpg): ",
            "the image is empty",
        ),
        _refused(
            "whose picture is a web page",
            _rewritten(2, lambda _: b"<!DOCTYPE html><html>404"),
            f"{where}2.jpg): ",
            "HTML",
        ),
        _refused(
            "whose picture is of another size",
            _saved(2, "wide.png", Image.new("RGB", (80, 40))),
            f"{where}wide.png): annotated as 60 x 40 pixels, but it has 80 x 40",
        ),
        _refused(
            "whose sides are exchanged",
            _image(2, width=HEIGHT, height=WIDTH),
            f"{where}2.jpg): annotated as 40 x 60 pixels, but it has 60 x 40",
        ),
        _refused(
            "whose picture is missing",
            lambda _, folder: (folder / "2.jpg").unlink(),
            "images[2].file_name (image 3, 2.jpg): there is no file",
        ),
        _refused(
            "whose picture is a folder",
            _folder,
            "images[2].file_name (image 3, 2.jpg): there is no file",
        ),
        *(
            _refused(
                f"whose picture is named {name}",
                _image(2, file_name=name),
                "images[2].file_name (image 3, ",
                "leads out of",
            )
            for name in ("../2.jpg", "a/../../2.jpg", "/etc/passwd", "C:\\pictures\\2.jpg", "..\\2")
        ),
        _refused(
            "whose picture has an empty name",
            _image(2, file_name=""),
            "images[2].file_name (image 3, ",
            "'' is not a file's name",
        ),
    ]


# --- the whole of it ------------------------------------------------------------------------------


def _all_at_once(content: Content, folder: Path) -> None:
    content["annotations"][3]["iscrowd"] = "0"
    content["annotations"][17]["segmentation"] = [[10, 10, 50, 10, 50, 1e12]]
    content["annotations"][7]["image_id"] = 99
    content["images"][2]["width"] = 61
    (folder / "8.jpg").unlink()


def _decimals(content: Content, _: Path) -> bytes:
    """All ids, sizes, corners and flags as some exporters write them: 900.0 for 900."""
    return re.sub(r"(?<=[ \[])(-?[0-9]+)(?=[,\]}])", r"\1.0", json.dumps(content)).encode()


def _many(content: Content, folder: Path) -> None:
    for annotation in content["annotations"]:
        annotation["segmentation"] = []


def _crowds(content: Content, folder: Path) -> None:
    for annotation in content["annotations"]:
        annotation["iscrowd"] = 1


def _wholes() -> list[Case]:
    return [
        _refused(
            "with five faults",
            _all_at_once,
            "has 5 faults:",
            "images[2] (image 3, 2.jpg): annotated as 61 x 40",
            "images[8].file_name (image 9, 8.jpg): there is no file",
            "annotations[3].iscrowd (annotation 3): '0'",
            "annotations[7].image_id (annotation 7): there is no image 99",
            "annotations[17].segmentation[0][5] (annotation 17): ",
        ),
        _refused(
            "with twenty-four faults", _many, "has 24 faults:", "(annotation 19)", "and 4 more"
        ),
        _refused(
            "of crowds only",
            _crowds,
            "images: nothing but crowds is annotated in the 12 images for all",
        ),
        _refused("that is a list", lambda *_: b"[]", "not a JSON object"),
        _refused("that is cut off", lambda *_: b'{"images": [', "Expecting value"),
        _taken(
            "in UTF-16 with its mark",
            lambda content, _: json.dumps(content).encode("utf-16"),
            ALL,
        ),
        _refused(
            "in Latin-1",
            lambda content, _: json.dumps(content).replace("dog", "chien bâté").encode("latin-1"),
            "0xE2 is not UTF-8",
        ),
        _refused(
            "with a key twice in a record",
            lambda content, _: json.dumps(content).replace('"id": 2', '"id": 2, "id": 2').encode(),
            'the key "id" is given twice',
        ),
        _taken("with every number as a decimal", _decimals, ALL),
        _refused(
            "without annotations",
            lambda content, _: content.update(annotations=[]),
            "annotations: not a list, or an empty one",
        ),
        _refused(
            "whose images are by id",
            lambda content, _: content.update(images={"1": content["images"][0]}),  # type: ignore[dict-item]
            "images: not a list, or an empty one",
        ),
    ]


# --- what is right --------------------------------------------------------------------------------

ALL = "12 pictures, 24 instances, 0 crowds, 0 pictures without outlines left out; dropped: nothing"


def _marked(content: Content, folder: Path) -> bytes:
    return json.dumps(content).encode("utf-8-sig")


def _strings(content: Content, folder: Path) -> None:
    for image in content["images"]:
        image["id"] = f"picture {image['id']}"
    for annotation in content["annotations"]:
        annotation["image_id"] = f"picture {annotation['image_id']}"
        annotation["id"] = f"{annotation['id']:024x}"


def _emptied(content: Content, folder: Path) -> None:
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] not in (1, 2, 3)]
    content["annotations"][0]["iscrowd"] = 1


def _sound() -> list[Case]:
    runs = {"size": [HEIGHT, WIDTH], "counts": runs_of_a_box()}
    deep = Image.new("I;16", (WIDTH, HEIGHT))
    return [
        _taken("of which nothing is wrong", lambda *_: None, ALL),
        _taken("with ids in strings", _strings, ALL),
        _taken("with a mark in front of its UTF-8", _marked, ALL),
        _taken("without ids of annotations", lambda c, _: c["annotations"][3].pop("id"), ALL),
        _taken("without iscrowd", lambda c, _: c["annotations"][3].pop("iscrowd"), ALL),
        _taken(
            "with an outline that reaches over the edge",
            _annotation(3, segmentation=[box(-20, 30, 80, 60)]),
            ALL,
        ),
        _taken(
            "with a polygon in two parts, one of them without a pixel",
            _annotation(3, segmentation=[box(10, 10, 20, 20), [30, 30] * 3]),
            ALL,
        ),
        _taken(
            "with run lengths",
            _annotation(3, segmentation=runs),
            ALL,
        ),
        _taken(
            "with iscrowd true",
            _annotation(3, iscrowd=True),
            ALL.replace("24 instances, 0 crowds", "23 instances, 1 crowd"),
        ),
        _taken(
            "with pictures without outlines",
            _emptied,
            "9 pictures, 17 instances, 1 crowd, 3 pictures without outlines left out; "
            "dropped: nothing",
        ),
        _taken(
            "whose picture is turned by Exif, annotated as it shows",
            _saved(2, "turned.jpg", picture(0).transpose(Image.Transpose.ROTATE_90), exif=_exif(6)),
            ALL.replace(" left out;", " left out, 1 picture turned by Exif, annotated as shown;"),
        ),
        _taken(
            "whose picture has a name in other letters",
            _saved(2, "größe 猫 קשת.png", picture(0)),
            ALL,
        ),
        _taken("whose picture is of 16 bits", _saved(2, "deep.png", deep), ALL),
        _taken("whose picture is in CMYK", _saved(2, "ink.jpg", picture(0).convert("CMYK")), ALL),
        _taken("whose picture has a palette", _saved(2, "few.gif", picture(0).convert("P")), ALL),
    ]


# --- what is left out and counted -----------------------------------------------------------------


def _points(content: Content, folder: Path) -> None:
    for annotation in content["annotations"][::9]:
        annotation["segmentation"] = [[9, 9] * 3]


def _skipped() -> list[Case]:
    left = "0 pictures without outlines left out"
    return [
        _taken(
            "with a corner at 1e12",
            _annotation(3, segmentation=[[10, 10, 50, 10, 50, 1e12]]),
            f"12 pictures, 23 instances, 0 crowds, {left}; dropped: 1 outline out of bounds",
            skip=True,
        ),
        _taken(
            "with three polygons without a pixel",
            lambda c, _: (
                [a.update(segmentation=[[9, 9] * 3]) for a in c["annotations"][::9]][:0] or None
            ),
            f"12 pictures, 21 instances, 0 crowds, {left}; dropped: 3 outline without a pixel",
            skip=True,
        ),
        _taken(
            "whose picture is missing",
            lambda _, folder: (folder / "2.jpg").unlink(),
            f"11 pictures, 22 instances, 0 crowds, {left}; dropped: 1 picture missing, "
            "and 2 annotations of these pictures",
            skip=True,
        ),
        _taken(
            "with five faults",
            _all_at_once,
            f"10 pictures, 18 instances, 0 crowds, {left}; dropped: 1 picture of another size, "
            "1 picture missing, 1 annotation of another form, 1 annotation of an unknown image, "
            "1 outline out of bounds, and 4 annotations of these pictures",
            skip=True,
        ),
        Case(
            "a data set of which nothing is sound, to be skipped",
            "refused: has 24 faults:",
            partial(_see, _many, ("has 24 faults:",), True),
        ),
    ]
