// Puts the page and LiteRT's files into dist/, which any web server serves; nothing is fetched from elsewhere later.
import { cp, mkdir, readFile, rm, writeFile } from "node:fs/promises";

const LITERT = "node_modules/@litertjs";
// With relaxed SIMD, and without: LiteRT chooses one by what the browser can do.
const WASM = ["litert_wasm_internal", "litert_wasm_compat_internal"];
const IMPORT = 'from "@litertjs/wasm-utils"';

await rm("dist", { recursive: true, force: true });
await mkdir("dist/litert", { recursive: true });
await cp("src", "dist", { recursive: true });
const library = await readFile(`${LITERT}/core/dist/index.js`, "utf8");
// A browser resolves no package names.
if (library.split(IMPORT).length !== 2) throw new Error("@litertjs/core imports @litertjs/wasm-utils otherwise than before");
await writeFile("dist/litert/index.js", library.replace(IMPORT, 'from "./wasm-utils.js"'));
await cp(`${LITERT}/wasm-utils/dist/index.js`, "dist/litert/wasm-utils.js");
for (const name of WASM) for (const form of ["js", "wasm"]) await cp(`${LITERT}/core/wasm/${name}.${form}`, `dist/litert/${name}.${form}`);
