// Enroll one picture, identify others: node identify.js HOST:PORT GALLERY ENROLL.png PROBE.png...
//
// No generated code: the contract is read from proto/ at run time. Prints one line of JSON per probe.
import { readFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

const PROTO = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "proto");
const definition = protoLoader.loadSync(
  ["gallery", "subject", "identification", "error"].map((name) => `oneglance/v1/${name}.proto`),
  { includeDirs: [PROTO], keepCase: true, longs: Number, enums: String, defaults: true },
);
const { v1 } = grpc.loadPackageDefinition(definition).oneglance;

function connect(Service, address) {
  const stub = new Service(address, grpc.credentials.createInsecure());
  return (method, request) =>
    promisify(stub[method].bind(stub))(request, new grpc.Metadata(), { deadline: Date.now() + 10_000 });
}

// The reason and the fields of a refused call: oneglance.v1.Error in the trailing metadata.
function explain(error) {
  const [details] = error.metadata?.get("oneglance-error-bin") ?? [];
  if (!details) return error.message;
  const type = definition["oneglance.v1.Error"];
  const { reason, field_violations } = type.deserialize(details);
  return `${grpc.status[error.code]} ${reason} ${field_violations.map((v) => v.field).join(" ")}`.trim();
}

const [address, gallery_id, enroll, ...probes] = process.argv.slice(2);
const galleries = connect(v1.GalleryService, address);
const subjects = connect(v1.SubjectService, address);
const identification = connect(v1.IdentificationService, address);

try {
  await galleries("CreateGallery", { gallery_id });
  const subject_id = basename(enroll, ".png");
  await subjects("Enroll", { gallery_id, subject_id, examples: [{ image: readFileSync(enroll) }] });
  for (const probe of probes) {
    const answer = await identification("Identify", { gallery_id, probes: [{ image: readFileSync(probe) }] });
    const [{ decision, subject_id, candidates }] = answer.results;
    console.log(JSON.stringify({ probe: basename(probe), decision, subject_id, distance: candidates[0]?.distance }));
  }
} catch (error) {
  console.error(explain(error));
  process.exit(1);
}
