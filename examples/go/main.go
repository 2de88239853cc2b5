// Limelight from Go: `go run . HOST:PORT PICTURE INSTRUCTION` prints what it finds.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	limelight "example.com/limelight/limelightv1"
)

// Of failures told by their status alone, UNAVAILABLE is what may be repeated.
const retries = `{"methodConfig": [{
	"name": [{"service": "limelight.v1.LimelightService"}],
	"retryPolicy": {
		"maxAttempts": 5, "initialBackoff": "0.5s", "maxBackoff": "10s", "backoffMultiplier": 3,
		"retryableStatusCodes": ["UNAVAILABLE"]
	}
}]}`

func main() {
	if len(os.Args) != 4 {
		log.Fatal("usage: limelight HOST:PORT PICTURE INSTRUCTION")
	}
	content, err := os.ReadFile(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	connection, err := grpc.NewClient(os.Args[1],
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		// A gateway that stands still is noticed; 10 s is the least that gRPC for Go allows.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 4 * time.Second}),
		// Five attempts, gRPC's most, outlast a part's restart.
		grpc.WithDefaultServiceConfig(retries),
		// Overlays are large: without it, gRPC refuses answers of more than 4 MiB.
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	response, err := limelight.NewLimelightServiceClient(connection).Segment(ctx,
		&limelight.SegmentRequest{Task: &limelight.SegmentTask{
			Image: &limelight.Image{Content: content},
			Want:  &limelight.SegmentTask_Instruction{Instruction: os.Args[3]},
		}})
	if err != nil {
		explain(err)
		os.Exit(1)
	}
	fmt.Println(response.Result.Summary)
	for _, found := range response.Result.Instances {
		fmt.Printf("%d %s %.2f %d pixels\n", found.Id, found.Label, found.Score, found.Area)
	}
}

// explain prints what a failed call says of itself.
func explain(err error) {
	failed := status.Convert(err)
	fmt.Println(failed.Code(), failed.Message())
	for _, detail := range failed.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			fmt.Println(detail.Reason, detail.Metadata["field"], detail.Metadata["request_id"])
		case *errdetails.RetryInfo:
			fmt.Println("again after", detail.RetryDelay.AsDuration())
		}
	}
}
