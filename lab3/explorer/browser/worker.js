// The worker: holds the models and decodes what it is asked for; a newer request ends an older one.
// In: { weights, wasm }, text; then { id, picture, hole, settings, pictures }: RGB bytes, 64 x 64 truths, a dict of
// settings, whether each step's prediction is drawn. Out: { ready }; a message for each step, then { id, done }.
import { decode, tokensHidden } from "./decoding.js";
import { drawn, parse } from "./formula.js";
import { tokenizer, transformer } from "./models.js";
import { unpack } from "./tensors.js";

const GREY = 128; // what a masked picture shows in its hole
let ready, models, newest = 0, encoded = {};

async function start({ weights, wasm }) {
  const module = bytesOf(wasm);
  if (typeof DecompressionStream === "undefined" || !WebAssembly.validate(module))
    throw new Error("this browser is too old for the page: use Chrome 124, Firefox 121 or Safari 17.5, or a later one.");
  const stream = new Blob([bytesOf(weights)]).stream().pipeThrough(new DecompressionStream("gzip"));
  const { config, tensors } = await unpack(new Uint8Array(await new Response(stream).arrayBuffer()), module);
  const part = (model) => (name) => ({
    weight: tensors[`${model}.${name}.weight`], bias: tensors[`${model}.${name}.bias`],
  });
  models = {
    forward: transformer(part("transformer"), config.transformer), ...tokenizer(part("tokenizer"), config.tokenizer),
    halton: config.halton,
  };
  return { ready: true, pictures: tensors.pictures, holes: tensors.holes };
}

// What write.py makes of bytes: 15 bits a character, from U+5000 on; first how many bytes there are.
function bytesOf(text) {
  const [length, coded] = text.split(" "), bytes = new Uint8Array(length);
  for (let i = 0, at = 0, bits = 0, held = 0; i < coded.length; i++) {
    held = (held << 15) | (coded.charCodeAt(i) - 0x5000);
    for (bits += 15; bits >= 8 && at < length; ) bytes[at++] = held >> (bits -= 8);
  }
  return bytes;
}

// Newer requests that have arrived are heard before the next step.
const pause = () => new Promise((go) => setTimeout(go));

async function answer({ id, picture, hole, settings, pictures }) {
  const masked = picture.map((value, i) => (hole[Math.floor(i / 3)] ? GREY : value)), key = masked.join();
  const mask = tokensHidden(hole);
  if (!mask.some(Boolean)) throw new Error("the hole is empty: paint one, or choose another.");
  if (encoded.key !== key) encoded = { key, tokens: models.encode(masked) };
  const { tokens } = encoded;
  for (const [name, setting] of Object.entries(settings)) {
    postMessage({ id, name, step: 0, tokens, mask, picture: masked });
    const gamma = setting.heights ? drawn(setting.heights) : parse(setting.formula);
    const steps = decode(models.forward, tokens, mask, { ...setting, gamma, halton: models.halton });
    for (let step = 1; step <= setting.sweetSpot; step++) {
      await pause();
      if (id !== newest) return;
      const { value } = steps.next(), shown = pictures || step === setting.sweetSpot;
      postMessage({ id, name, step, ...value, picture: shown ? models.decode(value.tokens) : null });
    }
  }
  postMessage({ id, done: true });
}

onmessage = async ({ data }) => {
  try {
    if (data.weights) return postMessage(await (ready = start(data)));
    newest = data.id;
    await ready;
    if (data.id === newest) await answer(data);
  } catch (error) {
    postMessage({ id: data.id, error: error.message, place: error.place });
  }
};
