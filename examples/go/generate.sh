#!/usr/bin/env bash
# Writes limelightv1, the contract's Go code, with protoc and its two plugins for Go on the PATH:
#   go install google.golang.org/protobuf/cmd/protoc-gen-go@latest
#   go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@latest
# PROTOC="python -m grpc_tools.protoc" where there is no protoc.
set -euo pipefail
cd "$(dirname "$0")"
package=example.com/limelight/limelightv1
mapped=()
for file in ../../protos/limelight/v1/*.proto; do
  mapped+=("M${file#../../protos/}=$package")
done
options="module=example.com/limelight,$(IFS=,; echo "${mapped[*]}")"
${PROTOC:-protoc} -I ../../protos --go_out=. --go_opt="$options" \
  --go-grpc_out=. --go-grpc_opt="$options" ../../protos/limelight/v1/*.proto
