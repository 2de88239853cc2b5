// Limelight from Node: `node limelight.js HOST:PORT PICTURE INSTRUCTION` prints what it finds.
const fs = require("node:fs");
const path = require("node:path");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const PROTOS = path.join(__dirname, "../../protos"); // a copy of this repository's folder will do
const FILES = ["limelight/v1/limelight.proto", "google/rpc/status.proto", "google/rpc/error_details.proto"];
const definition = loader.loadSync(FILES, {
  includeDirs: [PROTOS], keepCase: true, enums: String, longs: Number, defaults: true, oneofs: true,
});
const { limelight } = grpc.loadPackageDefinition(definition);

// Overlays are large: without the first of these, grpc-js refuses answers of more than 4 MiB.
// A gateway that stands still is noticed within 10 s. Of failures told by their status alone,
// UNAVAILABLE is what may be repeated: five attempts (gRPC's most) outlast a part's restart.
const OPTIONS = {
  "grpc.max_receive_message_length": 64 * 1024 * 1024,
  "grpc.keepalive_time_ms": 6000,
  "grpc.keepalive_timeout_ms": 4000,
  "grpc.service_config": JSON.stringify({
    methodConfig: [{
      name: [{ service: "limelight.v1.LimelightService" }],
      retryPolicy: {
        maxAttempts: 5, initialBackoff: "0.5s", maxBackoff: "10s", backoffMultiplier: 3,
        retryableStatusCodes: ["UNAVAILABLE"],
      },
    }],
  }),
};

function connect(address, options = {}) {
  const credentials = grpc.credentials.createInsecure();
  return new limelight.v1.LimelightService(address, credentials, { ...OPTIONS, ...options });
}

// One call of `Segment`: the result, or an Error with `code`, `message` and `details` by name.
function segment(client, task, { seconds = 60, headers = {} } = {}) {
  const metadata = new grpc.Metadata();
  for (const [key, value] of Object.entries(headers)) metadata.set(key, value);
  const deadline = Date.now() + 1000 * seconds;
  return new Promise((resolve, reject) => {
    client.Segment({ task }, metadata, { deadline }, (error, response) => {
      if (error) reject(Object.assign(error, { reasons: errorDetails(error) }));
      else resolve(response.result);
    });
  });
}

// What a failed call says of itself: `{ErrorInfo, BadRequest, RetryInfo}`, those that it has.
function errorDetails(error) {
  const [packed] = error.metadata.get("grpc-status-details-bin");
  const found = {};
  for (const any of packed ? decode("google.rpc.Status", packed).details : []) {
    const name = any.type_url.split("/").pop(); // google.rpc.ErrorInfo
    if (definition[name]) found[name.split(".").pop()] = decode(name, any.value);
  }
  return found;
}

function decode(name, bytes) {
  return definition[name].deserialize(bytes);
}

// The mask as a Uint8Array, height x width, 1 inside. COCO's run lengths go down the columns and
// begin outside; each is written in characters of five bits and told, from the fourth on, by its
// difference from the last but one.
function decodeMask({ height, width, counts }) {
  const runs = [];
  for (let at = 0; at < counts.length; ) {
    let value = 0, shift = 0, character;
    do {
      character = counts[at++] - 48;
      value |= (character & 31) << shift;
      shift += 5;
    } while (character & 32);
    if (character & 16) value |= -1 << shift;
    runs.push(runs.length > 2 ? value + runs[runs.length - 2] : value);
  }
  const mask = new Uint8Array(height * width);
  let position = 0;
  runs.forEach((run, index) => {
    if (index % 2) {
      for (let i = position; i < position + run; i++) mask[(i % height) * width + Math.floor(i / height)] = 1;
    }
    position += run;
  });
  return mask;
}

async function main(address, picture, instruction) {
  const client = connect(address);
  try {
    const task = { image: { content: fs.readFileSync(picture) }, instruction };
    const result = await segment(client, task);
    console.log(result.summary);
    for (const { id, label, score, mask } of result.instances) {
      const pixels = decodeMask(mask.rle).reduce((sum, inside) => sum + inside, 0);
      console.log(id, label, score.toFixed(2), `${pixels} pixels`);
    }
  } catch (error) {
    const { ErrorInfo, RetryInfo } = error.reasons ?? {};
    console.error(error.message, ErrorInfo?.reason, ErrorInfo?.metadata, RetryInfo?.retry_delay);
    process.exitCode = 1;
  } finally {
    client.close();
  }
}

module.exports = { PROTOS, connect, decodeMask, errorDetails, grpc, loader, segment };
if (require.main === module) main(...process.argv.slice(2));
