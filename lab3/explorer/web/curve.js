// The explorer's chart: gamma with a marker a step, the tokens that each step reveals, and handles to drag a curve by.
// In: curves (name, line, marks), heights, editable. Out: heights, as they are dragged. pads.css has the colours.
const SVG = "http://www.w3.org/2000/svg";
const W = 360, H = 236, LEFT = 44, TOP = 24, WIDE = 306, HIGH = 172; // of an <svg>, and of the field within its axes

function node(parent, name, attributes, text = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  parent.append(made);
  return made;
}

// An <svg> with axes, in place of an older one, and where values lie in it.
function frame(parent, [title, xTitle, yTitle], [left, right], [low, high], xTicks, yTicks) {
  parent.querySelector("svg")?.remove();
  const svg = node(parent, "svg", { viewBox: `0 0 ${W} ${H}`, role: "group", "aria-label": title });
  const x = (value) => LEFT + ((value - left) / (right - left)) * WIDE;
  const y = (value) => TOP + ((high - value) / (high - low)) * HIGH;
  node(svg, "text", { x: LEFT, y: 15, class: "title" }, title);
  for (const tick of yTicks) {
    node(svg, "line", { x1: LEFT, x2: LEFT + WIDE, y1: y(tick), y2: y(tick), class: "grid" });
    node(svg, "text", { x: LEFT - 5, y: y(tick) + 4, "text-anchor": "end" }, tick);
  }
  for (const tick of xTicks) node(svg, "text", { x: x(tick), y: TOP + HIGH + 15, "text-anchor": "middle" }, tick);
  node(svg, "text", { x: LEFT + WIDE / 2, y: H - 7, "text-anchor": "middle" }, xTitle);
  node(svg, "text", { transform: `translate(11 ${TOP + HIGH / 2}) rotate(-90)`, "text-anchor": "middle" }, yTitle);
  return { svg, x, y };
}

// A group for what belongs to a curve; the first letter of its name, A or B, decides how it looks.
const group = (svg, { name }) => node(svg, "g", { class: name[0] });

function marker(parent, x, y, filled) {
  const look = { class: filled ? "mark" : "open mark", rx: parent.matches(".A") ? 4 : 0 };
  return node(parent, "rect", { x: x - 4, y: y - 4, width: 8, height: 8, ...look });
}

// ipywidgets gives the handles of its sliders and the buttons of Play no name that a screen reader could say.
function nameControls() {
  for (const slider of document.querySelectorAll(".widget-slider")) {
    const label = slider.querySelector("label")?.textContent.trim();
    if (label) slider.querySelectorAll(".noUi-handle").forEach((handle) => handle.setAttribute("aria-label", label));
  }
  for (const play of document.querySelectorAll(".widget-play"))
    play.querySelectorAll("button").forEach((button, i) => {
      button.title = button.ariaLabel = ["play or pause", "stop", "repeat"][i];
    });
}

function drawCurves(root, curves) {
  const all = curves.flatMap((curve) => curve.line.map(([, g]) => g));
  const low = Math.min(0, ...all), high = Math.max(1, ...all), quarters = [0, 0.25, 0.5, 0.75, 1];
  const ticks = low < 0 || high > 1 ? new Set([low, 0, 1, high].map((g) => Math.round(g * 100) / 100)) : quarters;
  const axes = frame(root, ["gamma: the share that stays hidden", "progress r", "gamma(r)"], [0, 1], [low, high],
                     quarters, ticks);
  curves.forEach((curve, place) => {
    const of = group(axes.svg, curve), height = TOP + 8 + 16 * place;
    node(of, "polyline", { points: curve.line.map(([r, g]) => `${axes.x(r)},${axes.y(g)}`).join(" ") });
    for (const { r, g, made, step, hidden } of curve.marks)
      node(marker(of, axes.x(r), axes.y(g), made), "title", {}, `${curve.name}, step ${step}: ${hidden} hidden`);
    marker(of, W - 120, height, true);
    node(of, "text", { x: W - 110, y: height + 4 }, curve.name);
  });
  return axes;
}

function drawBars(root, curves) {
  const steps = Math.max(1, ...curves.map((curve) => curve.marks.length)), every = Math.ceil(steps / 11);
  const most = Math.max(1, ...curves.flatMap((curve) => curve.marks.map((mark) => mark.revealed + mark.rest)));
  const apart = [1, 2, 5, 10, 20, 25, 50].find((one) => most / one <= 5) ?? 100;
  const range = (from, to, by) => Array.from({ length: 1 + Math.floor((to - from) / by) }, (_, i) => from + i * by);
  const { svg, x, y } = frame(root, ["tokens that each step reveals", "step", "tokens"], [0.5, steps + 0.5], [0, most],
                              range(1, steps, every), range(0, most, apart));
  curves.forEach((curve, place) => {
    const of = group(svg, curve), width = 0.8 / curves.length;
    for (const { step, revealed, rest } of curve.marks.filter((mark) => mark.made)) {
      const left = x(step - 0.4 + place * width), wide = 0.92 * (x(width) - x(0));
      const bar = (from, to, look, title) => {
        const box = node(of, "rect", { x: left, width: wide, y: y(to), height: y(from) - y(to), class: look });
        node(box, "title", {}, `${curve.name}, step ${step}: ${title}`);
      };
      bar(0, revealed, "", `${revealed} revealed`);
      if (rest) bar(revealed, revealed + rest, "rest", `${rest} taken all at once, as the decoding stops`);
    }
  });
}

function render({ model, el }) {
  const [root, plot, bars] = Array.from({ length: 3 }, () => document.createElement("div"));
  root.className = "l3-chart";
  root.append(plot, bars);
  el.append(root);
  const sliders = model.get("heights").map((_, i, { length }) => {
    const slider = document.createElement("input");
    Object.assign(slider, { type: "range", max: 1, step: 0.01, ariaLabel: `gamma at r = ${i / (length - 1)}` });
    slider.oninput = () => {
      model.set("heights", sliders.map(({ value }) => +value));
      model.save_changes();
    };
    slider.onkeydown = (event) => event.stopPropagation(); // the arrows are not for the notebook
    plot.append(slider);
    return slider;
  });

  function draw() {
    nameControls();
    const { x, y } = drawCurves(plot, model.get("curves"));
    drawBars(bars, model.get("curves"));
    sliders.forEach((slider, i) => {
      slider.hidden = !model.get("editable");
      slider.value = model.get("heights")[i];
      const place = { left: x(i / (sliders.length - 1)) / W, top: y(1) / H, height: (y(0) - y(1)) / H };
      for (const [name, part] of Object.entries(place)) slider.style.setProperty(`--${name}`, `${100 * part}%`);
    });
  }

  model.on("change:curves change:editable", draw);
  draw();
  setTimeout(nameControls, 500); // once the widgets around this one are there
  model.send({ shown: true }); // a page that was just being put together has missed what came meanwhile
}

export default { render };
