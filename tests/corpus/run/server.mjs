// A server and a client of node:http with a file per request, and a child process: everything is closed.
//
// run:
// expect: no-failure
import { execFileSync } from "node:child_process";
import fs from "node:fs/promises";
import http from "node:http";
import { fileURLToPath } from "node:url";

const server = http.createServer(async (request, response) => {
  response.end(await fs.readFile(fileURLToPath(import.meta.url)));
});
server.listen(0, "127.0.0.1", async () => {
  const url = `http://127.0.0.1:${server.address().port}`;
  for (let i = 0; i < 20; i++) {
    const response = await fetch(url, { headers: { connection: "close" } });
    if (!(await response.text()).includes("createServer")) process.exit(1);
  }
  execFileSync("true");
  server.close();
});
