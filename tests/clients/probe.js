// Asks what test_node.py names on its command line, as JSON, with the example of the documents, and
// prints what came of each as JSON.
const crypto = require("node:crypto");
const fs = require("node:fs");
const { PROTOS, connect, decodeMask, grpc, loader, segment } = require("../../examples/node/limelight.js");

const wanted = JSON.parse(process.argv[2]);

function said(result) {
  return {
    request_id: result.request_id,
    size: [result.width, result.height],
    plan: result.plan,
    models: result.models.map(({ role, engine }) => [role, engine]),
    instances: result.instances.map(({ id, label, score, box, mask }) => {
      const pixels = decodeMask(mask.rle);
      return {
        id, label, score, box: [box.x0, box.y0, box.x1, box.y1],
        pixels: pixels.reduce((sum, inside) => sum + inside, 0),
        sha256: crypto.createHash("sha256").update(pixels).digest("hex"),
      };
    }),
    renderings: result.renderings.map(({ content }) => content.length),
  };
}

async function ask({ address, picture, instruction, phrase, renders, seconds, headers, options }) {
  const client = connect(address, options);
  const task = { image: { content: fs.readFileSync(picture) }, renders: renders ?? [] };
  if (instruction !== undefined) task.instruction = instruction;
  if (phrase !== undefined) task.queries = { include: [{ phrase }] };
  try {
    return said(await segment(client, task, { seconds, headers }));
  } catch (error) {
    return { status: grpc.status[error.code], message: error.details, ...error.reasons };
  } finally {
    client.close();
  }
}

function health({ address, service }) {
  const file = loader.loadSync("grpc/health/v1/health.proto", { includeDirs: [PROTOS], enums: String });
  const { Health } = grpc.loadPackageDefinition(file).grpc.health.v1;
  const client = new Health(address, grpc.credentials.createInsecure());
  return new Promise((resolve) => {
    client.Check({ service }, { deadline: Date.now() + 60000 }, (error, response) => {
      resolve(error ? { status: grpc.status[error.code] } : response);
      client.close();
    });
  });
}

async function main() {
  const answers = {};
  for (const [name, asked] of Object.entries(wanted)) {
    answers[name] = await ("service" in asked ? health(asked) : ask(asked));
  }
  console.log(JSON.stringify(answers));
}

main();
