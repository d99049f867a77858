// The page: controls, chart, pad, player and films. It draws what the worker computes.
import curve from "../web/curve.js";
import paint from "../web/pad.js";
import { PIXELS, stays, tokensHidden } from "./decoding.js";
import { drawn, parse, POINTS, remarks } from "./formula.js";

const TYPED = "typed formula", DRAWN = "drawn curve";
const LOOKS = {
  A: { colour: "#0072B2", dash: "", shape: "circle" }, B: { colour: "#D55E00", dash: "7 4", shape: "square" },
};
const HIDDEN = [89, 89, 97], KNOWN = [237, 237, 230], FRAME = "#E69F00";
const find = (selector, inside = document) => inside.querySelector(selector);
const text = (id) => document.getElementById(id).textContent;
const { schedules, colours } = JSON.parse(text("options"));
const scene = (name) => find(`[name=${name}]`);

// What `curve.js` and `pad.js` take for a model: values, and who is told when they change.
function pad(place, module, values, changed) {
  const told = {};
  module.render({ el: find(place), model: {
    get: (name) => values[name],
    set: (name, value) => { values[name] = value; },
    save_changes: changed,
    on: (events, call) => events.split(" ").forEach((event) => (told[event.slice(7)] ??= []).push(call)),
    send: () => {},
  } });
  const put = (name, value) => {
    values[name] = value;
    told[name]?.forEach((call) => call());
  };
  return { get: (name) => values[name], put };
}

// ---- the worker

const worker = new Worker(URL.createObjectURL(new Blob([text("worker")], { type: "text/javascript" })));
let newest = 0, wanted = null;

// Asks for decodings, in place of what was asked before; `step` is called with each step. Resolves to all steps.
function ask(request, step = () => {}) {
  wanted?.reject(new Error("overtaken"));
  return new Promise((resolve, reject) => {
    wanted = { id: ++newest, steps: [], step, resolve, reject };
    worker.postMessage({ ...request, id: newest });
  });
}

worker.onmessage = ({ data }) => {
  if (data.ready) return begin(data);
  if (data.id === undefined && data.error) return status(`✗ ${data.error}`);
  if (data.id !== wanted?.id) return;
  if (data.error) wanted.reject(Object.assign(new Error(data.error), { place: data.place }));
  else if (data.done) wanted.resolve(wanted.steps);
  else {
    wanted.steps.push(data);
    wanted.step(data);
  }
};

// ---- settings

const status = (words) => { find("#status").textContent = words; };

function panel(name) {
  const form = find(`#${name}`);
  form.append(find("#setting").content.cloneNode(true));
  find("h2", form).textContent = `Setting ${name}`;
  const { schedule, totalIter, sweetSpot } = form.elements;
  for (const one of [...Object.keys(schedules), TYPED, DRAWN]) schedule.append(new Option(one));
  schedule.value = "cosine";
  form.onsubmit = (event) => event.preventDefault();
  let before = totalIter.value;
  const read = () => {
    const all = sweetSpot.value === before; // all steps stay all steps
    sweetSpot.max = totalIter.value;
    if (all) sweetSpot.value = totalIter.value;
    before = totalIter.value;
    const { temperature, sampling, order, seed, exact, formula } = form.elements;
    formula.parentElement.hidden = schedule.value !== TYPED;
    return {
      schedule: schedule.value, formula: schedules[schedule.value] ?? formula.value,
      heights: schedule.value === DRAWN ? chart.get("heights") : null, totalIter: +totalIter.value,
      sweetSpot: +sweetSpot.value, temperature: +temperature.value, sampling: sampling.value, order: order.value,
      seed: Math.trunc(+seed.value) || 0, exact: exact.checked,
    };
  };
  const wrong = (error, typed) => {
    const box = find(".wrong", form);
    box.textContent = error ? `✗ ${error.message}` : "";
    if (error?.place == null) return;
    box.append(element("pre", `${typed.trim()}\n${" ".repeat(error.place)}▲`));
  };
  return { form, read, wrong };
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
  return { name, ...LOOKS[name], line: POINTS.map((r) => [r, gamma(r)]), marks };
}

// ---- drawing

function canvas(pixels, width, label) {
  const height = pixels.length / 3 / width, image = new ImageData(width, height);
  const made = Object.assign(document.createElement("canvas"), { width, height });
  image.data.fill(255);
  for (let i = 0; i < pixels.length; i++) image.data[4 * Math.floor(i / 3) + (i % 3)] = pixels[i];
  made.getContext("2d").putImageData(image, 0, 0);
  made.setAttribute("role", "img");
  made.setAttribute("aria-label", label);
  return made;
}

const maskPicture = (mask) => mask.flatMap((hidden) => (hidden ? HIDDEN : KNOWN));
const confidencePicture = (confidence) => confidence.flatMap((value) => (Number.isNaN(value) ? KNOWN
  : colours[Math.round(Math.min(1, Math.max(0, value / 6 + 1)) * (colours.length - 1))]));

// A picture, four times as large, with the places of some tokens dimmed and framed.
function framed(pixels, mask, label, dim = true) {
  const small = canvas(pixels, PIXELS, label), made = small.cloneNode(), pen = made.getContext("2d");
  made.width = made.height = 4 * PIXELS;
  pen.imageSmoothingEnabled = false;
  pen.drawImage(small, 0, 0, 4 * PIXELS, 4 * PIXELS);
  mask.forEach((inside, i) => {
    if (!inside) return;
    const x = 16 * (i % 16), y = 16 * (i >> 4);
    pen.fillStyle = "rgb(128 128 128 / 50%)";
    if (dim) pen.fillRect(x, y, 16, 16);
    pen.fillStyle = FRAME;
    if (i < 16 || !mask[i - 16]) pen.fillRect(x, y, 16, 2);
    if (i > 239 || !mask[i + 16]) pen.fillRect(x, y + 14, 16, 2);
    if (i % 16 === 0 || !mask[i - 1]) pen.fillRect(x, y, 2, 16);
    if (i % 16 === 15 || !mask[i + 1]) pen.fillRect(x + 14, y, 2, 16);
  });
  return made;
}

const element = (tag, words) => Object.assign(document.createElement(tag), { textContent: words });

function figure(picture) {
  const made = element("figure", "");
  made.append(picture, element("figcaption", picture.getAttribute("aria-label")));
  return made;
}

const hiddenIn = ({ mask }) => mask.filter(Boolean).length;

function filmCell({ name: setting, step, mask, confidence, picture }, hidden) {
  const cell = document.createElement("li"), name = step ? `step ${step}` : `${setting}: hole`;
  cell.append(canvas(maskPicture(mask), 16, `${name}: mask, ${hidden} tokens hidden`),
              canvas(confidencePicture(confidence ?? Array(256).fill(NaN)), 16, `${name}: confidence`),
              canvas(picture, PIXELS, `${name}: picture`), name, document.createElement("br"), `${hidden} hidden`);
  return cell;
}

// ---- what is on show

let bank, number = 0, shown = {}, playing = null; // bank: pictures with their holes
const panels = {}, now = () => bank[number];

function holeNow() {
  const kind = scene("hole").value;
  if (kind === "everything") return Array(PIXELS * PIXELS).fill(1);
  return kind === "painted" ? Array.from(holePad.get("marked"), Number) : now().hole;
}

function update() {
  if (!bank) return;
  for (const input of document.querySelectorAll("input[type=range]"))
    if (find("output", input.parentElement)) find("output", input.parentElement).textContent = input.value;
  for (const one of document.querySelectorAll(".painted")) one.hidden = scene("hole").value !== "painted";
  find("#B").hidden = !scene("compare").checked;
  const inside = holeNow(), n = tokensHidden(inside).filter(Boolean).length, settings = {}, curves = [], notes = [];
  let sound = true;
  for (const name of scene("compare").checked ? ["A", "B"] : ["A"]) {
    const setting = panels[name].read();
    try {
      const gamma = setting.heights ? drawn(setting.heights) : parse(setting.formula);
      panels[name].wrong(null);
      curves.push(curveOf(name, gamma, setting, n));
      notes.push(...remarks(gamma).map((remark) => `${name}: ${remark}`));
      settings[name] = setting;
    } catch (error) {
      panels[name].wrong(error, setting.formula);
      sound = false;
    }
  }
  chart.put("curves", curves);
  chart.put("editable", Object.values(settings).some((one) => one.heights));
  find("#notes").replaceChildren(...notes.map((note) => element("li", note)));
  link();
  if (sound) decodeAll({ picture: now().picture, hole: inside, settings, pictures: true });
}

async function decodeAll(request) {
  const began = performance.now(), fresh = {};
  const slider = scene("step");
  slider.max = Math.max(...Object.values(request.settings).map((one) => one.sweetSpot));
  slider.value = slider.max;
  status("Decoding …");
  try {
    const steps = await ask(request, (step) => {
      (fresh[step.name] ??= []).push(step);
      shown = fresh;
      showFilms();
      showStep();
    });
    const own = steps.filter((one) => one.stepMs), mean = own.reduce((sum, one) => sum + one.stepMs, 0) / own.length;
    status(`${hiddenIn(steps[0])} tokens hidden before the first step; decoded in ` +
           `${Math.round(performance.now() - began)} ms, ${Math.round(mean)} ms a step of the model. ${judged()}`);
  } catch (error) {
    if (error.message === "overtaken") return;
    status(`✗ ${error.message}`);
    shown = {}; // what is there belongs to other settings
    showFilms();
    find("#stage").replaceChildren();
  }
}

// PSNR of the filling in the hole, in dB; of a hole over everything none, since the cat is a new one.
function psnr(steps) {
  let sum = 0, n = 0;
  holeNow().forEach((inside, i) => {
    for (let c = 3 * i; inside && c < 3 * i + 3; c++, n++) sum += (steps.at(-1).picture[c] - now().picture[c]) ** 2;
  });
  return 10 * Math.log10(255 ** 2 / (sum / n || 1e-9));
}

function judged() {
  const goal = +scene("goal").value;
  if (!goal || scene("hole").value === "everything") return "";
  return Object.entries(shown).map(([name, steps]) => {
    const found = psnr(steps);
    return `${name} ${found >= goal ? "reaches" : "misses"} the goal of ${goal} dB: ${found.toFixed(1)} dB ` +
           `in ${steps.length - 1} steps.`;
  }).join(" ");
}

function showFilms() {
  const all = Object.entries(shown), films = find("#films");
  for (const [name, steps] of all) {
    let list = find(`#film-${name}`);
    if (!list) {
      films.append(list = element("ol", ""));
      Object.assign(list, { id: `film-${name}`, tabIndex: 0, ariaLabel: `Film of ${name}` });
    }
    const from = steps.length - 1;
    if (list.children.length > from) [...list.children].slice(from).forEach((old) => old.remove());
    if (list.children.length < steps.length) list.append(filmCell(steps[from], hiddenIn(steps[from])));
  }
  for (const list of [...films.children]) if (!all.some(([name]) => list.id === `film-${name}`)) list.remove();
}

function showStep() {
  const at = +scene("step").value, figures = [], everything = scene("hole").value === "everything";
  find("output", scene("step").parentElement).textContent = at;
  for (const [name, steps] of Object.entries(shown)) {
    const one = steps[Math.min(at, steps.length - 1)];
    const words = `${name}, step ${one.step}: ${hiddenIn(one)} tokens hidden`;
    figures.push(figure(framed(one.picture, one.step ? one.mask : Array(256).fill(false), words)));
    [...find(`#film-${name}`).children].forEach((cell, i) => cell.toggleAttribute("aria-current", i === one.step));
  }
  const complete = Object.entries(shown).filter(([, steps]) => steps.length > 1);
  for (const [name, steps] of complete) {
    const quality = everything ? "" : `, PSNR in the hole ${psnr(steps).toFixed(1)} dB`;
    figures.push(figure(canvas(steps.at(-1).picture, PIXELS, `${name} decoded${quality}`)));
  }
  if (complete.length === 2) {
    const [a, b] = complete.map(([, steps]) => steps.at(-1).tokens), differ = a.map((code, i) => code !== b[i]);
    figures.push(figure(framed(complete[1][1].at(-1).picture, differ,
                               `framed: ${differ.filter(Boolean).length} tokens of A and B differ`, false)));
  }
  if (!everything) figures.push(figure(canvas(now().picture, PIXELS, "original")));
  find("#stage").replaceChildren(...figures);
}

function play() {
  clearInterval(playing);
  if (playing) playing = null;
  else {
    const slider = scene("step");
    if (slider.value === slider.max) slider.value = 0;
    playing = setInterval(() => {
      slider.value = +slider.value + 1;
      showStep();
      if (slider.value === slider.max) play();
    }, 600);
    showStep();
  }
  find("#play").textContent = playing ? "⏸ Pause" : "▶ Play";
}

// ---- pictures

function choose(i) {
  number = i;
  [...find(".pictures").children].forEach((button, at) => button.setAttribute("aria-pressed", at === i));
  holePad.put("picture", canvas(now().picture, PIXELS, "").toDataURL());
  update();
}

function thumbnail(picture, i) {
  const button = Object.assign(document.createElement("button"), { type: "button" });
  button.append(canvas(picture, PIXELS, `picture ${i + 1}`));
  button.onclick = () => choose(i);
  find(".pictures").append(button);
}

async function takeFile({ target: { files: [file] } }) {
  if (!file) return;
  try {
    const image = await createImageBitmap(file), side = Math.min(image.width, image.height);
    const pen = Object.assign(document.createElement("canvas"), { width: PIXELS, height: PIXELS }).getContext("2d");
    pen.imageSmoothingQuality = "high";
    pen.drawImage(image, (image.width - side) / 2, (image.height - side) / 2, side, side, 0, 0, PIXELS, PIXELS);
    const picture = [...pen.getImageData(0, 0, PIXELS, PIXELS).data].filter((_, i) => i % 4 < 3);
    bank.push({ picture, hole: bank[0].hole });
    thumbnail(picture, bank.length - 1);
    choose(bank.length - 1);
  } catch {
    status(`✗ ${file.name}: not a picture that this browser can read. Choose a PNG, JPEG or WebP file.`);
  }
}

// ---- links: the settings in the address's fragment

const NAMED = [...document.querySelectorAll(".scene select, [name=compare], [name=goal]")];

function link() {
  const values = new URLSearchParams({ picture: number });
  const add = (key, input) => values.set(key, input.type === "checkbox" ? +input.checked : input.value);
  for (const input of NAMED) add(input.name, input);
  if (scene("hole").value === "painted")
    values.set("painted", holePad.get("marked").match(/.{32}/g).map((bits) => parseInt(bits, 2).toString(36)).join("."));
  for (const name of scene("compare").checked ? ["A", "B"] : ["A"])
    for (const input of panels[name].form.elements) if (input.name) add(`${name}.${input.name}`, input);
  if (chart.get("editable")) values.set("heights", chart.get("heights").join(" "));
  find("#link").value = `${location.href.split("#")[0]}#${values}`;
}

function follow(fragment) {
  const values = new URLSearchParams(fragment);
  const put = (input, value) => (input.type === "checkbox" ? input.checked = value === "1" : input.value = value);
  for (const input of NAMED) if (values.has(input.name)) put(input, values.get(input.name));
  for (const name of ["A", "B"])
    for (const input of panels[name].form.elements) {
      const value = values.get(`${name}.${input.name}`);
      if (input.name === "sweetSpot") input.max = panels[name].form.elements.totalIter.value;
      if (value !== null && input.name) put(input, value);
    }
  const bits = (word) => parseInt(word, 36).toString(2).padStart(32, "0");
  const painted = (values.get("painted") ?? "").split(".").map(bits).join("");
  if (/^[01]{4096}$/.test(painted)) holePad.put("marked", painted);
  const heights = (values.get("heights") ?? "").split(" ").map(Number);
  if (heights.length === 9 && heights.every((one) => one >= 0 && one <= 1)) chart.put("heights", heights);
  return Math.min(bank.length - 1, Math.max(0, Math.trunc(+values.get("picture")) || 0));
}

// ---- beginning

const heights = [1, 0.98, 0.94, 0.86, 0.75, 0.61, 0.44, 0.23, 0];
const chart = pad("#chart", curve, { curves: [], editable: false, heights }, update);
const holePad = pad("#pad", paint, { side: PIXELS, picture: "", marked: "0".repeat(PIXELS * PIXELS), brush: 8 }, update);
for (const name of ["A", "B"]) panels[name] = panel(name);
find("#scale").append(canvas(colours.flat(), colours.length, "scale of colours"));

function begin({ pictures, holes }) {
  const size = PIXELS * PIXELS;
  bank = Array.from({ length: holes.length / size }, (_, i) => ({
    picture: [...pictures.subarray(3 * size * i, 3 * size * (i + 1))],
    hole: [...holes.subarray(size * i, size * (i + 1))],
  }));
  bank.forEach(({ picture }, i) => thumbnail(picture, i));
  document.addEventListener("input", ({ target }) => {
    if (target.name === "step") showStep();
    else if (target.name === "brush") holePad.put("brush", +target.value);
    else if (target.name !== "file" && target.id !== "link") update();
  });
  scene("file").onchange = takeFile;
  find("#clear").onclick = () => { holePad.put("marked", "0".repeat(PIXELS * PIXELS)); update(); };
  find("#play").onclick = play;
  choose(follow(location.hash.slice(1)));
  onhashchange = () => choose(follow(location.hash.slice(1)));
}

worker.postMessage({ weights: text("weights"), wasm: text("wasm") });
// for the console, and for tests
globalThis.lab3 = {
  ask, parse, drawn, remarks, pictures: () => bank, hole: holeNow, setting: (name) => panels[name].read(),
};
