// The page: controls, chart, pad, player and films. It draws what the worker computes.
import curve from "../web/curve.js";
import paint from "../web/pad.js";
import { PIXELS, SIDE, stays, TOKENS, tokensHidden } from "./decoding.js";
import { drawn, parse, POINTS, remarks } from "./formula.js";

const HIDDEN = [89, 89, 97], KNOWN = [237, 237, 230], FRAME = "#E69F00", NO_HOLE = "0".repeat(PIXELS * PIXELS);
const find = (selector) => document.querySelector(selector);
const text = (id) => find(id).textContent;
const { schedules, colours } = JSON.parse(text("#options"));
const form = find("form"), control = (name) => form.elements.namedItem(name);
const stepSlider = find("#step"), status = find("#status"), films = document.querySelectorAll("#films ol");
const count = (mask) => mask.filter(Boolean).length;

function element(tag, ...content) {
  const made = document.createElement(tag);
  made.append(...content);
  return made;
}

// Renders `curve.js` or `pad.js` with what these take for a model. Gives { values, put }; put(name, value) draws again.
function model(place, module, values, save_changes) {
  const set = (name, value) => { values[name] = value; }, draws = [];
  module.render({ el: find(place), model: {
    get: (name) => values[name], set, save_changes, on: (_, draw) => draws.push(draw), send() {},
  } });
  return { values, put(name, value) { set(name, value); draws.forEach((draw) => draw()); } };
}

// ---- the worker

const worker = new Worker(URL.createObjectURL(new Blob([text("#worker")], { type: "text/javascript" })));
let newest = 0;

// Asks for decodings; `step` is called with each step. Resolves to all steps, or never where a newer request comes.
function ask(request, step = () => {}) {
  const id = ++newest, steps = [];
  worker.postMessage({ ...request, id });
  return new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => {
      if (data.id !== id) return;
      if (data.error) reject(new Error(data.error));
      else if (data.done) resolve(steps);
      else {
        steps.push(data);
        step(data);
      }
    };
  });
}

// ---- settings

const bank = []; // pictures with their holes
const now = () => bank[control("picture").value], everything = () => control("hole").value === "everything";

function holeNow() {
  if (everything()) return Array(PIXELS * PIXELS).fill(1);
  return control("hole").value === "painted" ? Array.from(holePad.values.marked, Number) : now().hole;
}

function setting(letter) {
  const own = [...form.elements].filter(({ name }) => name.startsWith(`${letter}.`));
  const read = Object.fromEntries(own.map(({ name, type, value, checked }) =>
    [name.slice(2), { checkbox: checked, range: +value, number: +value }[type] ?? value]));
  const heights = read.schedule === "drawn curve" ? chart.values.heights : null;
  return { ...read, formula: schedules[read.schedule] ?? read.formula, heights };
}

// What the chart shows of a schedule (`steps_of` in lab3/explorer/core.py).
function curveOf(name, gamma, { totalIter, sweetSpot }, n) {
  let left = n;
  const marks = Array.from({ length: totalIter }, (_, i) => {
    const step = i + 1, r = step / totalIter, made = step <= sweetSpot;
    const hidden = made ? stays(gamma, i, totalIter, n, left) : 0, revealed = made ? left - hidden : 0;
    left = hidden;
    return { step, r, g: gamma(r), made, hidden, revealed, rest: step === sweetSpot ? hidden : 0 };
  });
  return { name, line: POINTS.map((r) => [r, gamma(r)]), marks };
}

function update() {
  for (const input of document.querySelectorAll("label > input[type=range]"))
    input.nextElementSibling.value = input.value;
  find("#B").disabled = !control("compare").checked;
  const hole = holeNow(), n = count(tokensHidden(hole)), settings = {}, curves = [], notes = [];
  let sound = true;
  for (const name of control("compare").checked ? "AB" : "A") {
    const one = settings[name] = setting(name), wrong = find(`#${name} .wrong`);
    wrong.textContent = "";
    try {
      const gamma = one.heights ? drawn(one.heights) : parse(one.formula);
      curves.push(curveOf(name, gamma, one, n));
      notes.push(...remarks(gamma).map((remark) => element("li", `${name}: ${remark}`)));
    } catch (error) {
      sound = false;
      wrong.textContent = `✗ ${error.message}`;
      if (error.place !== null) wrong.append(element("pre", `${one.formula}\n${" ".repeat(error.place)}▲`));
    }
  }
  chart.put("editable", Object.values(settings).some((one) => one.heights));
  chart.put("curves", curves);
  find("#notes").replaceChildren(...notes);
  find("#link").value = `${location.href.split("#")[0]}#${fragment()}`;
  if (sound) decodeAll({ picture: now().picture, hole, settings, pictures: true });
}

// ---- drawing

function canvas(pixels, width, label) {
  const height = pixels.length / 3 / width, image = new ImageData(width, height);
  const made = Object.assign(element("canvas"), { width, height, role: "img", ariaLabel: label });
  image.data.fill(255);
  for (let i = 0; i < pixels.length; i++) image.data[4 * Math.floor(i / 3) + (i % 3)] = pixels[i];
  made.getContext("2d").putImageData(image, 0, 0);
  return made;
}

const maskPicture = (mask) => mask.flatMap((hidden) => (hidden ? HIDDEN : KNOWN));
const confidencePicture = (confidence) => confidence.flatMap((value) => (Number.isNaN(value) ? KNOWN
  : colours[Math.round(Math.min(1, Math.max(0, value / 6 + 1)) * (colours.length - 1))]));

// A picture, four times as large, with the places of some tokens framed, and dimmed.
function framed(pixels, mask, label, dim = true) {
  const small = canvas(pixels, PIXELS, label), made = small.cloneNode(), size = made.width = made.height = 4 * PIXELS;
  const pen = made.getContext("2d"), tokens = new Path2D();
  mask.forEach((inside, i) => inside && tokens.rect(16 * (i % SIDE), 16 * Math.floor(i / SIDE), 16, 16));
  Object.assign(pen, { imageSmoothingEnabled: false, strokeStyle: FRAME, lineWidth: 4 });
  pen.stroke(tokens);
  pen.globalCompositeOperation = "destination-out"; // the lines between tokens go
  pen.fill(tokens);
  pen.globalCompositeOperation = "destination-over"; // what follows lies below
  pen.fillStyle = "rgb(128 128 128 / 50%)";
  if (dim) pen.fill(tokens);
  pen.drawImage(small, 0, 0, size, size);
  return made;
}

const figure = (picture) => element("figure", picture, element("figcaption", picture.ariaLabel));

function filmCell({ step, name, mask, confidence = Array(TOKENS).fill(NaN), picture }) {
  const title = step ? `step ${step}` : `${name}: hole`, hidden = count(mask);
  return element("li", canvas(maskPicture(mask), SIDE, `${title}: mask, ${hidden} tokens hidden`),
                 canvas(confidencePicture(confidence), SIDE, `${title}: confidence`),
                 canvas(picture, PIXELS, `${title}: picture`), title, element("br"), `${hidden} hidden`);
}

// ---- what is on show

let shown = {}, playing = null; // shown: a dict, name -> steps

async function decodeAll(request) {
  const began = performance.now();
  const clear = () => {
    shown = {};
    films.forEach((film) => film.replaceChildren());
  };
  stepSlider.max = stepSlider.value = Math.max(...Object.values(request.settings).map((one) => one.sweetSpot));
  status.textContent = "Decoding …";
  try {
    const steps = await ask(request, (one) => {
      if (one.name === "A" && one.step === 0) clear();
      (shown[one.name] ??= []).push(one);
      find(`#film-${one.name}`).append(filmCell(one));
      showStep();
    });
    status.textContent = `${count(steps[0].mask)} tokens hidden before the first step; decoded in ` +
      `${((performance.now() - began) / 1000).toFixed(1)} seconds. ${judged()}`;
  } catch (error) {
    status.textContent = `✗ ${error.message}`;
    clear(); // what is there belongs to other settings
    showStep();
  }
}

// PSNR of the filling in the hole, in dB.
function psnr(steps) {
  let sum = 0, n = 0;
  holeNow().forEach((inside, i) => {
    for (let c = 3 * i; inside && c < 3 * i + 3; c++, n++) sum += (steps.at(-1).picture[c] - now().picture[c]) ** 2;
  });
  return 10 * Math.log10(255 ** 2 / (sum / n || 1e-9));
}

function judged() {
  const goal = +control("goal").value;
  if (!goal || everything()) return "";
  return Object.entries(shown).map(([name, steps]) => {
    const found = psnr(steps);
    return `${name} ${found >= goal ? "reaches" : "misses"} the goal of ${goal} dB: ${found.toFixed(1)} dB ` +
           `in ${steps.length - 1} steps.`;
  }).join(" ");
}

function showStep() {
  const figures = [], complete = Object.entries(shown).filter(([, steps]) => steps.length > 1);
  stepSlider.nextElementSibling.value = stepSlider.value;
  for (const [name, steps] of Object.entries(shown)) {
    const one = steps[Math.min(stepSlider.value, steps.length - 1)];
    const words = `${name}, step ${one.step}: ${count(one.mask)} tokens hidden`;
    figures.push(framed(one.picture, one.step ? one.mask : [], words));
    [...find(`#film-${name}`).children].forEach((cell, i) => cell.toggleAttribute("aria-current", i === one.step));
  }
  for (const [name, steps] of complete) { // a cat drawn from nothing has no original
    const quality = everything() ? "" : `, PSNR in the hole ${psnr(steps).toFixed(1)} dB`;
    figures.push(canvas(steps.at(-1).picture, PIXELS, `${name} decoded${quality}`));
  }
  if (complete.length === 2) {
    const [a, b] = complete.map(([, steps]) => steps.at(-1)), differ = a.tokens.map((code, i) => code !== b.tokens[i]);
    figures.push(framed(b.picture, differ, `framed: ${count(differ)} tokens of A and B differ`, false));
  }
  if (figures.length && !everything()) figures.push(canvas(now().picture, PIXELS, "original"));
  find("#stage").replaceChildren(...figures.map(figure));
}

function play() {
  const move = () => {
    stepSlider.stepUp();
    showStep();
    if (stepSlider.value === stepSlider.max) play();
  };
  if (!playing && stepSlider.value === stepSlider.max) stepSlider.value = 0;
  clearInterval(playing);
  playing = playing ? null : setInterval(move, 600);
  showStep();
  find("#play").textContent = playing ? "⏸ Pause" : "▶ Play";
}

// ---- pictures

function addPicture(picture, hole) {
  const value = bank.push({ picture, hole }) - 1;
  const radio = Object.assign(element("input"), { type: "radio", name: "picture", value, checked: value === 0 });
  find(".pictures").append(element("label", radio, canvas(picture, PIXELS, `picture ${value + 1}`)));
  return radio;
}

function showPicture() {
  holePad.put("picture", canvas(now().picture, PIXELS, "").toDataURL());
  update();
}

async function takeFile({ target: { files: [file] } }) {
  if (!file) return;
  try {
    const image = await createImageBitmap(file), side = Math.min(image.width, image.height);
    const pen = Object.assign(element("canvas"), { width: PIXELS, height: PIXELS }).getContext("2d");
    pen.imageSmoothingQuality = "high";
    pen.drawImage(image, (image.width - side) / 2, (image.height - side) / 2, side, side, 0, 0, PIXELS, PIXELS);
    const picture = [...pen.getImageData(0, 0, PIXELS, PIXELS).data].filter((_, i) => i % 4 < 3);
    addPicture(picture, bank[0].hole).checked = true;
    showPicture();
  } catch {
    status.textContent = `✗ ${file.name}: not a picture that this browser can read. Choose a PNG, JPEG or WebP file.`;
  }
}

// ---- links: the form's values in the address's fragment

function fragment() {
  const values = new URLSearchParams(new FormData(form)), words = holePad.values.marked.match(/.{32}/g);
  if (control("hole").value === "painted")
    values.set("painted", words.map((bits) => parseInt(bits, 2).toString(36)).join("."));
  if (chart.values.editable) values.set("heights", chart.values.heights.join(" "));
  return values;
}

function follow() {
  const values = new URLSearchParams(location.hash.slice(1));
  for (const input of form.elements) if (input.type === "checkbox") input.checked = values.get(input.name) === "on";
  for (const [name, value] of values) {
    const input = control(name);
    if (input && input.type !== "checkbox") input.value = value;
    if (name.endsWith(".totalIter")) fit(name[0]);
  }
  const bits = (word) => parseInt(word, 36).toString(2).padStart(32, "0");
  const painted = (values.get("painted") ?? "").split(".").map(bits).join("");
  if (/^[01]{4096}$/.test(painted)) holePad.put("marked", painted);
  const heights = (values.get("heights") ?? "").split(" ").map(Number);
  if (heights.length === 9 && heights.every((one) => one >= 0 && one <= 1)) chart.put("heights", heights);
  showPicture();
}

// ---- beginning

const heights = [1, 0.98, 0.94, 0.86, 0.75, 0.61, 0.44, 0.23, 0];
const chart = model("#chart", curve, { curves: [], editable: false, heights }, update);
const holePad = model("#pad", paint, { side: PIXELS, picture: "", marked: NO_HOLE, brush: 8 }, update);
find("#scale").append(canvas(colours.flat(), colours.length, "scale of colours"));

// Keeps sweet_spot in 1 ... total_iter; all steps stay all steps.
function fit(letter) {
  const spot = control(`${letter}.sweetSpot`), all = spot.value === spot.max;
  spot.max = control(`${letter}.totalIter`).value;
  if (all) spot.value = spot.max;
}

function begin({ pictures, holes }) {
  const size = PIXELS * PIXELS, part = (all, n, i) => [...all.subarray(n * i, n * (i + 1))];
  for (let i = 0; i < holes.length / size; i++) addPicture(part(pictures, 3 * size, i), part(holes, size, i));
  form.oninput = ({ target: { id, name, value } }) => {
    if (name.endsWith(".totalIter")) fit(name[0]);
    if (id === "step") showStep();
    else if (id === "brush") holePad.put("brush", +value);
    else if (name === "picture") showPicture();
    else if (name) update();
  };
  form.onsubmit = (event) => event.preventDefault();
  find("#file").onchange = takeFile;
  find("#clear").onclick = () => {
    holePad.put("marked", NO_HOLE);
    update();
  };
  find("#play").onclick = play;
  onhashchange = follow;
  follow();
}

worker.onmessage = ({ data }) => {
  if (data.ready) begin(data);
  else status.textContent = `✗ ${data.error}`;
};
worker.postMessage({ weights: text("#weights"), wasm: text("#wasm") });
globalThis.lab3 = { ask, parse, drawn, remarks, setting, pictures: () => bank, hole: holeNow }; // for console and tests
