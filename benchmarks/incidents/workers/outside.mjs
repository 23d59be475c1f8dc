// Sends what is meant for my-tool.example.com to a local server: NODE_OPTIONS="--import .../outside.mjs" OUTSIDE=PORT
const plain = globalThis.fetch;
globalThis.fetch = (url, options) =>
  plain(String(url).replace("my-tool.example.com", `127.0.0.1:${process.env.OUTSIDE}`), options);
