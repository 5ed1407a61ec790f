// An HTTP server that opens, reads and closes a file for each request. The request /quit ends it.
//
//     node file_server.js PORT FILE
'use strict';
const fs = require('fs');
const http = require('http');

const [port, file] = process.argv.slice(2);
const server = http.createServer((request, response) => {
  if (request.url === '/quit') {
    response.end('bye', () => process.exit(0));
    return;
  }
  fs.readFile(file, (error, text) => {
    response.writeHead(error ? 500 : 200, {'Content-Length': error ? 0 : text.length});
    response.end(error ? '' : text);
  });
});
server.listen(Number(port), '127.0.0.1');
