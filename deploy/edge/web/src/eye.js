// A bundle that is loaded: a picture in, a decision out, as serving/edge/decision.py decides.
import { BundleRefused } from "./errors.js";
import { loadAndCompile, loadLiteRt, Tensor } from "./litert/index.js";

let library;

/** Decides about pictures by a bundle. */
export class Eye {
  /**
   * @param {object} bundle from readBundle
   * @throws {BundleRefused} LiteRT cannot load its recogniser, or that gives no embedding of the catalogue's length
   */
  static async load(bundle) {
    library ??= loadLiteRt("./litert/");
    await library;
    let model;
    try {
      model = await loadAndCompile(bundle.model, { accelerator: "wasm" });
    } catch (error) {
      throw new BundleRefused("unfit", `recogniser.tflite: LiteRT cannot load it: ${error.message}`);
    }
    const [inputs, outputs] = [model.getInputDetails(), model.getOutputDetails()];
    const [given, taken] = [inputs[0], outputs[0]].map((each) => [...each.shape]);
    const fits = inputs.length === 1 && outputs.length === 1 && given.length === 4 && given[1] === given[2] && given[3] === 3;
    if (!fits || taken[1] !== bundle.dimension)
      throw new BundleRefused("unfit", `recogniser.tflite: from [${given}] to [${taken}], the catalogue has ${bundle.dimension}`);
    return new Eye(bundle, model, given[1]);
  }

  constructor(bundle, model, size) {
    this.bundle = bundle;
    this.size = size;
    this.model = model;
  }

  /** Gives LiteRT's memory back. */
  close() {
    this.model.delete();
  }

  /**
   * Decides about a prepared picture.
   *
   * @param {Float32Array} pixels [1, S, S, 3]
   * @returns {Promise<{kind: string, creative: object | null, similarity: number}>}
   */
  async look(pixels) {
    const input = new Tensor(pixels, [1, this.size, this.size, 3]);
    const outputs = await this.model.run(input);
    const embedding = outputs[0].toTypedArray().slice();
    for (const tensor of [input, ...outputs]) tensor.delete();
    // A clock that stands before the bundle was made is wrong; bookings are judged as of then.
    return decide(this.bundle, embedding, Math.max(Date.now() / 1000, this.bundle.created));
  }
}

function decide({ creatives, dimension, embeddings, scales, known }, embedding, now) {
  let [nearest, similarity] = [-1, -1];
  for (let row = 0; row < creatives.length; row++) {
    let product = 0;
    for (let place = 0; place < dimension; place++) product += embeddings[row * dimension + place] * embedding[place];
    // NaN, which a broken model may give, is never nearer.
    if (nearest < 0 || product * scales[row] > similarity) [nearest, similarity] = [row, product * scales[row]];
  }
  if (nearest < 0 || !(similarity >= known)) return { kind: "unknown", creative: null, similarity: Number.isFinite(similarity) ? similarity : -1 };
  const creative = creatives[nearest];
  const { forbidden, valid_from: from, valid_until: until } = creative;
  const kind = forbidden ? "forbidden" : from !== null && now < from ? "early" : until !== null && now >= until ? "expired" : "approved";
  return { kind, creative, similarity };
}
