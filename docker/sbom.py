"""Prints the software bill of materials of the environment it runs in, as CycloneDX 1.6 JSON."""

import json
import platform
from importlib import metadata


def component(package: metadata.Distribution) -> dict[str, object]:
    """One installed distribution."""
    name, version = package.metadata["Name"], package.version
    purl = f"pkg:pypi/{name.lower().replace('_', '-')}@{version}"
    found: dict[str, object] = {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
    }
    expression = package.metadata.get("License-Expression")
    if expression:
        found["licenses"] = [{"expression": expression}]
    return found


def main() -> None:
    """Every distribution, sorted, so that the same environment gives the same bytes."""
    packages = {package.metadata["Name"].lower(): package for package in metadata.distributions()}
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "container",
                "name": "limelight",
                "version": metadata.version("limelight-server"),
                "properties": [{"name": "python", "value": platform.python_version()}],
            }
        },
        "components": [component(packages[name]) for name in sorted(packages)],
    }
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
