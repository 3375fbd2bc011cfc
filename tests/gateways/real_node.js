// The Node server of the tests: each path answers in its own way.
"use strict";
const http = require("node:http");

const answers = {
    "/ok": (request, response) => response.end("ok"),
    "/chunked": (request, response) => {
        response.write("first,");
        response.write("second,");
        response.end("third");
    },
    "/trailers": (request, response) => {
        response.writeHead(200, { trailer: "retry-after" });
        response.write("body");
        response.addTrailers({ "retry-after": "86400" });
        response.end();
    },
    "/informed": (request, response) => {
        response.writeContinue();
        response.writeProcessing();
        response.writeEarlyHints({ link: "</style.css>; rel=preload" });
        response.end("ok");
    },
    "/closing": (request, response) => {
        response.shouldKeepAlive = false;
        response.end("ok");
    },
    "/destroyed": (request, response) => {
        response.writeHead(200, { "content-length": 100 });
        response.write("half", () => request.socket.destroy());
    },
    "/destroyed-at-once": (request, response) => request.socket.destroy(),
    "/endless": (request, response) => {
        const more = () => {
            while (response.write("x".repeat(65536)));
        };
        response.on("drain", more);
        more();
    },
    "/early": (request, response) => {
        response.writeHead(413, { connection: "close" });
        response.end("too large");
    },
};

const server = http.createServer((request, response) => {
    const answer = answers[request.url];
    if (request.url === "/early") {
        answer(request, response);
        return;
    }
    let size = 0;
    request.on("data", (data) => (size += data.length));
    request.on("end", () => {
        response.setHeader("x-size", size);
        answer(request, response);
    });
});
server.listen(0, "127.0.0.1", () => console.log(`listening on ${server.address().port}`));
