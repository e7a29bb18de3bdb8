// From a picture to the recogniser's input, step by step as serving/edge/frame.py does it with Pillow.
import { BrokenFrame } from "./errors.js";

const GAP = 2;
const CHANNELS = 3;
const MAXIMUM_PIXELS = 40_000_000;
const MAXIMUM_BYTES = 64 * 2 ** 20;

/**
 * Makes the recogniser's input of an encoded picture.
 *
 * The browser decodes it, turned as EXIF says and without colour management, over white. A browser does not scale a
 * JPEG while it decodes it, as libjpeg does for Pillow: the means of its blocks of 2, 4 or 8 pixels stand for that.
 *
 * @param {Blob} file the picture
 * @param {number} side the recogniser's side S
 * @returns {Promise<Float32Array>} [1, S, S, 3], RGB, 0 to 255
 * @throws {BrokenFrame} it cannot be decoded, or is too large
 */
export async function prepareFile(file, side) {
  if (file.size > MAXIMUM_BYTES) throw new BrokenFrame(`${file.size} bytes, more than ${MAXIMUM_BYTES}`);
  const content = new Uint8Array(await file.arrayBuffer());
  const isJpeg = content[0] === 0xff && content[1] === 0xd8;
  // A browser fills up with grey what a JPEG that is cut off does not hold.
  if (isJpeg && !hasEnd(content)) throw new BrokenFrame("the JPEG is cut off");
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { colorSpaceConversion: "none", imageOrientation: "from-image" });
  } catch (error) {
    throw new BrokenFrame(`${error.name}: ${error.message}`);
  }
  try {
    return prepare(pixelsOf(bitmap, bitmap.width, bitmap.height), side, isJpeg);
  } finally {
    bitmap.close();
  }
}

/**
 * Makes the recogniser's input of what a video shows at this moment.
 *
 * @param {HTMLVideoElement} video
 * @param {number} side the recogniser's side S
 * @returns {Float32Array} [1, S, S, 3], RGB, 0 to 255
 * @throws {BrokenFrame} it shows nothing yet
 */
export function prepareVideo(video, side) {
  if (!video.videoWidth) throw new BrokenFrame("the camera has given no picture yet");
  return prepare(pixelsOf(video, video.videoWidth, video.videoHeight), side, false);
}

function hasEnd(content) {
  // Some cameras fill up behind the end.
  for (let place = content.length - 2; place > 1; place--) if (content[place] === 0xff && content[place + 1] === 0xd9) return true;
  return false;
}

function pixelsOf(picture, width, height) {
  if (width * height > MAXIMUM_PIXELS) throw new BrokenFrame(`${width}x${height} pixels, more than ${MAXIMUM_PIXELS}`);
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(picture, 0, 0);
  const rgba = context.getImageData(0, 0, width, height).data;
  const pixels = new Uint8Array(width * height * CHANNELS);
  for (let from = 0, to = 0; from < rgba.length; from += 4, to += CHANNELS) {
    pixels[to] = rgba[from];
    pixels[to + 1] = rgba[from + 1];
    pixels[to + 2] = rgba[from + 2];
  }
  return { width, height, pixels };
}

function prepare(image, side, isJpeg) {
  if (isJpeg) {
    // Image.draft: by 8, 4 or 2, to no less than twice the input.
    const scale = Math.floor(Math.min(image.width, image.height) / (side * GAP));
    const by = [8, 4, 2].find((each) => scale >= each) ?? 1;
    image = reduced(image, by, by);
  }
  const across = factor(image.width, side);
  const down = factor(image.height, side);
  const [width, height] = [image.width / across, image.height / down];
  image = reduced(image, across, down);
  const wide = new Uint8Array(side * image.height * CHANNELS);
  filter(image.pixels, wide, image.width, width, side, CHANNELS, CHANNELS, image.height, image.width * CHANNELS, side * CHANNELS);
  const small = new Uint8Array(side * side * CHANNELS);
  filter(wide, small, image.height, height, side, side * CHANNELS, side * CHANNELS, side, CHANNELS, CHANNELS);
  return Float32Array.from(small);
}

function factor(length, side) {
  return Math.max(1, Math.floor(length / (side * GAP)));
}

/** Pillow's Image.reduce: the means of blocks, those at the edges of what there is. */
function reduced(image, across, down) {
  if (across === 1 && down === 1) return image;
  const width = Math.ceil(image.width / across);
  const height = Math.ceil(image.height / down);
  const pixels = new Uint8Array(width * height * CHANNELS);
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      const right = Math.min((x + 1) * across, image.width);
      const bottom = Math.min((y + 1) * down, image.height);
      const area = (right - x * across) * (bottom - y * down);
      for (let channel = 0; channel < CHANNELS; channel++) {
        let sum = Math.floor(area / 2);
        for (let row = y * down; row < bottom; row++)
          for (let column = x * across; column < right; column++) sum += image.pixels[(row * image.width + column) * CHANNELS + channel];
        pixels[(y * width + x) * CHANNELS + channel] = Math.floor(sum / area);
      }
    }
  return { width, height, pixels };
}

/** Pillow's bilinear filter along one axis: `length` of `stride` bytes each become `side`, for `lines` of `step` bytes. */
function filter(from, to, length, covered, side, stride, toStride, lines, step, toStep) {
  const scale = covered / side;
  const support = Math.max(1, scale);
  for (let place = 0; place < side; place++) {
    const centre = (place + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const last = Math.min(length, Math.trunc(centre + support + 0.5));
    const weights = new Float64Array(Math.max(0, last - first));
    for (let pixel = first; pixel < last; pixel++) weights[pixel - first] = Math.max(0, 1 - Math.abs((pixel - centre + 0.5) / support));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    for (let line = 0; line < lines; line++)
      for (let channel = 0; channel < CHANNELS; channel++) {
        let sum = 0;
        let source = line * step + first * stride + channel;
        for (let index = 0; index < weights.length; index++, source += stride) sum += weights[index] * from[source];
        to[line * toStep + place * toStride + channel] = Math.floor(sum / total + 0.5);
      }
  }
}
