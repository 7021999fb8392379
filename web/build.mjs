// Builds the page: bundles src/main.ts, puts it and style.css into page.html, and writes that into the Python package.
// What it was built of stands in it as a hash, which the tests hold against the sources.
import { createHash } from "node:crypto";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

const sources = ["page.html", "style.css", ...readdirSync("src").sort().map((name) => `src/${name}`)];
const hash = createHash("sha256");
for (const name of sources) hash.update(name + "\0").update(readFileSync(name)).update("\0");
const made = await build({
  entryPoints: ["src/main.ts"], bundle: true, minify: true, write: false, format: "iife", target: "es2022",
  legalComments: "none", charset: "ascii",
});
const script = made.outputFiles[0].text.trim().replaceAll("</script", "<\\/script");
const style = readFileSync("style.css", "utf-8").trim();
const digest = (text) => "sha256-" + createHash("sha256").update(text).digest("base64");
const page = readFileSync("page.html", "utf-8")
  .replace("{{SOURCES}}", () => hash.digest("hex"))
  .replace("{{SCRIPT_HASH}}", () => digest(script)).replace("{{STYLE_HASH}}", () => digest(style))
  .replace("{{STYLE}}", () => style).replace("{{SCRIPT}}", () => script);
writeFileSync("../src/taskscope/views/timeline/page.html", page);
