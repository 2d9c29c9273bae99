// node render.mjs BOARDS.json FOLDER: a picture of each board, drawn by page.jsx in headless Chromium.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { build } from "esbuild";
import puppeteer from "puppeteer-core";

const HERE = dirname(fileURLToPath(import.meta.url));
const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const WIDTH = 1480;
const LAST_ROW = { model: "Latency and throughput" }; // the rest of this board is long, and for need, not for show

const [data, folder] = process.argv.slice(2);
const scratch = mkdtempSync(join(tmpdir(), "triton-canary-pictures-"));
try {
  await build({
    entryPoints: [join(HERE, "page.jsx")],
    outfile: join(scratch, "page.js"),
    bundle: true,
    minify: true,
    format: "iife",
    jsx: "automatic",
    define: { "process.env.NODE_ENV": '"production"', global: "window" },
    loader: { ".ttf": "dataurl", ".woff": "dataurl", ".woff2": "dataurl", ".svg": "text", ".css": "text" },
    plugins: [withoutNode()],
    logLevel: "error",
  });
  const page = join(scratch, "page.html");
  writeFileSync(page, '<!doctype html><meta charset="utf-8"><body><div id="board"></div><script src="page.js"></script>');
  await draw(page, JSON.parse(readFileSync(data, "utf8")));
} finally {
  rmSync(scratch, { recursive: true });
}

async function draw(page, boards) {
  const args = ["--no-sandbox", "--disable-gpu", "--force-color-profile=srgb", "--allow-file-access-from-files"];
  const browser = await puppeteer.launch({ executablePath: CHROMIUM, headless: true, args });
  try {
    for (const board of boards) {
      const tab = await browser.newPage();
      tab.on("pageerror", (error) => {
        console.error(`${board.name}: ${error.stack ?? error}`);
        process.exitCode = 1;
      });
      await tab.setViewport({ width: WIDTH, height: 1000 });
      await tab.goto(pathToFileURL(page).href);
      const height = await tab.evaluate((given, last) => window.show(given, last), board, LAST_ROW[board.name]);
      await tab.setViewport({ width: WIDTH, height });
      await new Promise((resolve) => setTimeout(resolve, 1500)); // the charts draw after their sizes are known
      const path = join(folder, `${board.name}.webp`);
      await tab.screenshot({ path, type: "webp", quality: 80 });
      console.log(path);
      await tab.close();
    }
  } finally {
    await browser.close();
  }
}

// Some libraries mention modules of node that they never use in a browser.
function withoutNode() {
  const names = /^(node:.*|fs|path|os|util|stream|crypto|http|https|url|zlib|module|perf_hooks|async_hooks|worker_threads|child_process|tty|net|tls|assert|buffer|events|vm)$/;
  return {
    name: "without-node",
    setup(it) {
      it.onResolve({ filter: names }, (found) =>
        found.importer.includes("node_modules") ? { path: found.path, namespace: "without-node" } : undefined,
      );
      it.onLoad({ filter: /.*/, namespace: "without-node" }, () => ({ contents: "module.exports = {};", loader: "js" }));
    },
  };
}
