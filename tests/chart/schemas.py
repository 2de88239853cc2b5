"""Kubernetes' own schemas and those of the CRDs, as an API server would apply them."""

import gzip
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
from jsonschema import Draft202012Validator

KUBERNETES = "1.34"


def faults(manifest: dict[str, Any]) -> list[str]:
    """What an API server would refuse, unknown fields included."""
    custom = _custom()
    key = (manifest["apiVersion"], manifest["kind"])
    if key in custom:
        return [
            f"{'.'.join(map(str, error.absolute_path))}: {error.message}"
            for error in custom[key].iter_errors(manifest)
        ]
    try:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{'.'.join(map(str, error.path))}: {error.message}"]
    return []


@cache
def _custom() -> dict[tuple[str, str], Draft202012Validator]:
    """Validators of the CRDs beside this file, by API version and kind."""
    found = {}
    for path in (Path(__file__).parent / "crds").glob("*.json.gz"):
        crd = json.loads(gzip.decompress(path.read_bytes()))
        schema = crd["schema"]
        schema["properties"]["metadata"] = {"type": "object"}
        _close(schema)
        found[crd["apiVersion"], crd["kind"]] = Draft202012Validator(schema)
    return found


def _close(schema: dict[str, Any]) -> None:
    """Make unknown fields a fault, but where the CRD keeps them; translate what is OpenAPI's."""
    for part in _parts(schema):
        open_ended = part.get("x-kubernetes-preserve-unknown-fields", False)
        if "properties" in part and "additionalProperties" not in part and not open_ended:
            part["additionalProperties"] = False
        if part.get("x-kubernetes-int-or-string"):
            part.pop("type", None)
            part.pop("anyOf", None)
            part["type"] = ["integer", "string"]
        if part.pop("nullable", False) and isinstance(part.get("type"), str):
            part["type"] = [part["type"], "null"]


def _parts(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield schema
    for child in schema.get("properties", {}).values():
        yield from _parts(child)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from _parts(schema[key])
