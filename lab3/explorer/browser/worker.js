// The worker: holds the models and decodes what it is asked for; a newer request ends an older one.
// In: { weights, wasm }, base64; then { id, picture, hole, settings, pictures }: RGB bytes, 64 x 64 truths, a dict of
// settings, whether each step's prediction is drawn. Out: { ready }; a message for each step, then { id, done }.
import { decode } from "./decoding.js";
import { drawn, parse } from "./formula.js";
import { tokenizer, transformer } from "./models.js";
import { TOKENS } from "./sizes.js";
import { open, unpack } from "./tensors.js";

const SCRATCH = 96 << 20; // bytes for what one picture needs on its way; pages that are not touched cost nothing
const GREY = 128; // what a masked picture shows in its hole
let models, newest = 0, encoded = {};

async function start({ weights, wasm }) {
  if (typeof DecompressionStream === "undefined" || !WebAssembly.validate(bytesOf(wasm)))
    throw new Error("this browser is too old for the page: use Chrome 97, Firefox 113 or Safari 16.4, or a later one.");
  const stream = new Blob([bytesOf(weights)]).stream().pipeThrough(new DecompressionStream("gzip"));
  const { config, tensors } = unpack(new Uint8Array(await new Response(stream).arrayBuffer()));
  const below = (prefix) => Object.fromEntries(Object.entries(tensors).filter(([name]) => name.startsWith(prefix))
    .map(([name, value]) => [name.slice(prefix.length), value]));
  const size = Object.values(tensors).reduce((sum, { data }) => sum + 4 * data.length, 0);
  await open(bytesOf(wasm), size + SCRATCH);
  models = {
    forward: transformer(below("transformer."), config.transformer),
    ...tokenizer(below("tokenizer."), config.tokenizer),
  };
  return { ready: true, pictures: tensors.pictures.data, holes: tensors.holes.data };
}

function bytesOf(base64) {
  const text = atob(base64), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

const timed = (work) => {
  const began = performance.now(), result = work();
  return [result, performance.now() - began];
};

// Newer requests that have arrived are heard before the next step.
const pause = () => new Promise((go) => {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = go;
  port2.postMessage(0);
});

async function answer({ id, picture, hole, settings, pictures }) {
  const masked = picture.map((value, i) => (hole[Math.floor(i / 3)] ? GREY : value)), key = masked.join();
  const mask = Array.from({ length: TOKENS }, (_, i) => {
    const first = (i >> 4) * 256 + (i & 15) * 4; // a token is known only if all its pixels are
    return [0, 64, 128, 192].some((row) => hole.slice(first + row, first + row + 4).some(Boolean));
  });
  if (!mask.some(Boolean)) throw new Error("the hole is empty: paint one, or choose another.");
  if (encoded.key !== key) encoded = { key, made: timed(() => models.encode(masked)) };
  const [tokens, encodeMs] = encoded.made;
  for (const [name, setting] of Object.entries(settings)) {
    postMessage({ id, name, step: 0, tokens, mask, picture: masked, encodeMs });
    const gamma = setting.heights ? drawn(setting.heights) : parse(setting.formula);
    const steps = decode(models.forward, tokens, mask, { ...setting, gamma });
    for (let step = 1; step <= setting.sweetSpot; step++) {
      await pause();
      if (id !== newest) return;
      const [{ value }, stepMs] = timed(() => steps.next());
      const [shown, decodeMs] = timed(() =>
        (pictures || step === setting.sweetSpot ? models.decode(value.tokens) : null));
      postMessage({ id, name, step, ...value, picture: shown, stepMs, decodeMs });
    }
  }
  postMessage({ id, done: true });
}

let ready;
onmessage = async ({ data }) => {
  try {
    if (data.weights) {
      return postMessage(await (ready = start(data)));
    }
    newest = data.id;
    await ready;
    if (data.id === newest) await answer(data);
  } catch (error) {
    postMessage({ id: data.id, error: error.message, place: error.place });
  }
};
