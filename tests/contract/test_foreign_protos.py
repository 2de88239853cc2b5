"""What others publish stands beside the contract, and all compiles from `protos` alone."""

import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.rpc import status_pb2
from grpc_health.v1 import health_pb2

PROTOS = Path(__file__).parents[2] / "protos"


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, FileDescriptorProto]:
    """Every proto of the tree by name, compiled with nothing but the tree to import from."""
    output = tmp_path_factory.mktemp("protos") / "all.binpb"
    names = sorted(path.relative_to(PROTOS).as_posix() for path in PROTOS.rglob("*.proto"))
    protoc = [sys.executable, "-m", "grpc_tools.protoc", "-I.", f"--descriptor_set_out={output}"]
    subprocess.run([*protoc, *names], cwd=PROTOS, check=True, timeout=60)
    found = {file.name: file for file in FileDescriptorSet.FromString(output.read_bytes()).file}
    assert set(found) == set(names)
    return found


@pytest.mark.parametrize("name", ["code", "error_details", "status"])
def test_they_are_those_that_the_server_answers_with(name: str) -> None:
    theirs = Path(status_pb2.__file__).with_name(f"{name}.proto")
    ours = PROTOS / "google" / "rpc" / theirs.name
    assert ours.read_bytes() == theirs.read_bytes(), f"copy {theirs.name} anew"


def test_the_health_that_is_served_is_in_it(compiled: dict[str, FileDescriptorProto]) -> None:
    (ours,) = compiled["grpc/health/v1/health.proto"].service
    served = health_pb2.DESCRIPTOR.services_by_name[ours.name].methods
    assert {method.name for method in served} <= {method.name for method in ours.method}


def test_the_contract_does_not_need_them(compiled: dict[str, FileDescriptorProto]) -> None:
    """Else the Python client would bring modules of Google's package."""
    assert "google/rpc/error_details.proto" in compiled
    limelight = [file for name, file in compiled.items() if name.startswith("limelight/")]
    assert limelight
    imports = {name for file in limelight for name in file.dependency}
    assert not any(name.startswith(("google/rpc/", "grpc/")) for name in imports)


def test_they_keep_their_notice() -> None:
    foreign = [*PROTOS.glob("google/**/*.proto"), *PROTOS.glob("grpc/**/*.proto")]
    assert len(foreign) == 4
    for path in foreign:
        assert "Licensed under the Apache License, Version 2.0" in path.read_text("utf-8")
