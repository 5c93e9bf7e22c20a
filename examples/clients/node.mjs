// node node.mjs http://HOST:PORT ENROLL.png STRANGER.png
import { readFileSync } from "node:fs";
import { connect, tour } from "./oneglance.mjs";

const [server, ...files] = process.argv.slice(2);
const [enrolled, stranger] = files.map((file) => readFileSync(file, "base64"));
const call = connect(server, process.env.ONEGLANCE_TOKEN);
console.log((await tour(call, "node", enrolled, stranger)).join("\n"));
