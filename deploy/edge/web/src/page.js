import { readBundle, readPublicKey } from "./bundle.js";
import { BrokenFrame, BundleRefused } from "./errors.js";
import { Eye } from "./eye.js";
import { prepareFile, prepareVideo } from "./frame.js";

const MOST_ROWS = 200;
const CAMERA_MILLISECONDS = 500;
const element = (id) => document.getElementById(id);
const [state, rows, video, cameraButton] = ["state", "decisions", "video", "camera"].map(element);
let eye = null;
let camera = null;
// Pictures wait for each other, in the order in which they came.
let waiting = Promise.resolve();

function say(text, isBad = false) {
  state.textContent = text;
  state.className = isBad ? "bad" : "";
}

async function load(bundleContent, keyText) {
  say("Verifying the bundle …");
  try {
    const loaded = await Eye.load(await readBundle(bundleContent, await readPublicKey(keyText)));
    eye?.close();
    eye = loaded;
    say(`Bundle ${eye.bundle.version}: ${eye.bundle.creatives.length} creatives, known from similarity ${eye.bundle.known}.`);
  } catch (error) {
    if (!(error instanceof BundleRefused)) throw error;
    say(`The bundle is refused (${error.reason}): ${error.message}`, true);
  }
}

async function decide(name, prepare) {
  if (!eye) return say("Choose a bundle and its public key first.", true);
  const begin = performance.now();
  let decision;
  try {
    decision = await eye.look(await prepare(eye.size));
  } catch (error) {
    if (!(error instanceof BrokenFrame)) throw error;
    decision = { kind: "broken", creative: null, reason: error.message };
  }
  const { kind, creative, similarity, reason } = decision;
  const row = rows.insertRow(0);
  row.className = kind;
  const cells = [name, kind, creative?.id ?? "", creative?.name ?? reason ?? "", similarity?.toFixed(4) ?? ""];
  for (const text of [...cells, `${(performance.now() - begin).toFixed(1)} ms`]) row.insertCell().textContent = text;
  while (rows.rows.length > MOST_ROWS) rows.deleteRow(-1);
}

function queue(work) {
  waiting = waiting.then(work).catch((error) => say(`This page failed: ${error.message}`, true));
  return waiting;
}

function take(files) {
  for (const file of files) queue(() => decide(file.name, (size) => prepareFile(file, size)));
}

async function choose() {
  const [bundle, key] = [element("bundle").files[0], element("key").files[0]];
  if (bundle && key) queue(async () => load(await bundle.arrayBuffer(), await key.text()));
}

async function turnCamera() {
  if (camera) {
    clearInterval(camera.timer);
    camera.stream.getTracks().forEach((track) => track.stop());
    [camera, video.hidden, cameraButton.textContent] = [null, true, "Use the camera"];
    return;
  }
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    [video.srcObject, video.hidden, cameraButton.textContent] = [stream, false, "Stop the camera"];
    await video.play();
    let isBusy = false;
    const timer = setInterval(async () => {
      // A slow machine looks less often, and never falls behind.
      if (isBusy) return;
      isBusy = true;
      await queue(() => decide("camera", (size) => prepareVideo(video, size)));
      isBusy = false;
    }, CAMERA_MILLISECONDS);
    camera = { stream, timer };
  } catch (error) {
    say(`There is no camera: ${error.message}`, true);
  }
}

/** Files beside the page, so that a kiosk needs nobody who chooses. */
async function loadFromBeside() {
  const [bundle, key] = await Promise.all(["screens.bundle", "public.pem"].map((name) => fetch(name)));
  if (bundle.ok && key.ok) await load(await bundle.arrayBuffer(), await key.text());
  else say("Choose a bundle and its public key.");
}

for (const id of ["bundle", "key"]) element(id).addEventListener("change", choose);
element("pictures").addEventListener("change", (event) => take(event.target.files));
cameraButton.addEventListener("click", turnCamera);
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  take(event.dataTransfer.files);
});
if (new URLSearchParams(location.search).has("beside")) queue(loadFromBeside);
