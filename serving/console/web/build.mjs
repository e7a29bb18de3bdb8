// Builds ../static (or the folder that is given), which the gateway serves and the wheel holds.
import { build } from "esbuild";
import { copyFile, mkdir, readFile, writeFile } from "node:fs/promises";
import { gzipSync } from "node:zlib";

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
const explorer = `${folder}/explorer`;
await mkdir(explorer, { recursive: true });
for (const name of ["index.html", "start.js"]) await copyFile(`src/explorer/${name}`, `${explorer}/${name}`);
const swagger = "node_modules/swagger-ui-dist";
// Two megabytes: they lie compressed, as they are sent.
for (const name of ["swagger-ui.css", "swagger-ui-bundle.js"]) {
  await writeFile(`${explorer}/${name}.gz`, gzipSync(await readFile(`${swagger}/${name}`), { level: 9 }));
}
await writeFile(
  `${explorer}/NOTICE.txt`,
  "swagger-ui-bundle.js and swagger-ui.css are Swagger UI (https://github.com/swagger-api/swagger-ui). What they hold of " +
    "others is listed after its licence.\n\n" +
    (await Promise.all(["NOTICE", "LICENSE", "swagger-ui-bundle.js.LICENSE.txt"].map((name) => readFile(`${swagger}/${name}`, "utf8")))).join("\n\n"),
);
const licences = { Preact: ["https://preactjs.com", "preact"], "µPlot": ["https://github.com/leeoniya/uPlot", "uplot"] };
const notices = [];
for (const [name, [address, module]] of Object.entries(licences)) {
  const licence = await readFile(`node_modules/${module}/LICENSE`, "utf8");
  notices.push(`app.js holds ${name} (${address}), under this licence:\n\n${licence.trim()}\n`);
}
await writeFile(`${folder}/NOTICE.txt`, notices.join("\n\n"));
