// Builds ../static (or the folder that is given), which the gateway serves and the wheel holds.
import { build } from "esbuild";
import { copyFile, mkdir, readFile, writeFile } from "node:fs/promises";

const folder = process.argv[2] ?? "../static";
await mkdir(folder, { recursive: true });
await build({
  entryPoints: { app: "src/main.tsx" },
  outdir: folder,
  bundle: true,
  minify: true,
  target: "es2022",
  jsx: "automatic",
  jsxImportSource: "preact",
  legalComments: "inline",
  charset: "utf8",
});
for (const name of ["index.html", "icon.svg"]) await copyFile(`src/${name}`, `${folder}/${name}`);
const licences = { Preact: ["https://preactjs.com", "preact"], "µPlot": ["https://github.com/leeoniya/uPlot", "uplot"] };
const notices = [];
for (const [name, [address, module]] of Object.entries(licences)) {
  const licence = await readFile(`node_modules/${module}/LICENSE`, "utf8");
  notices.push(`app.js holds ${name} (${address}), under this licence:\n\n${licence.trim()}\n`);
}
await writeFile(`${folder}/NOTICE.txt`, notices.join("\n\n"));
