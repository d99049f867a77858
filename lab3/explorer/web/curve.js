// The explorer's chart: gamma with a marker a step, the tokens that each step reveals, and handles to drag a curve by.
// In: curves (name, colour, dash, shape, line, marks), heights, editable. Out: heights, as they are dragged.
const SVG = "http://www.w3.org/2000/svg";
const W = 360, H = 236, LEFT = 44, RIGHT = 10, TOP = 24, BOTTOM = 40;

function node(parent, name, attributes = {}, text = null) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== null) made.textContent = text;
  parent.append(made);
  return made;
}

function frame(parent, title, xTitle, yTitle, xs, ys, x, y) {
  const svg = node(parent, "svg", { viewBox: `0 0 ${W} ${H}`, role: "group", "aria-label": title });
  node(svg, "text", { x: LEFT, y: 15, class: "title" }, title);
  for (const tick of ys) {
    node(svg, "line", { x1: LEFT, x2: W - RIGHT, y1: y(tick), y2: y(tick), class: "grid" });
    node(svg, "text", { x: LEFT - 5, y: y(tick) + 4, "text-anchor": "end" }, tick);
  }
  for (const tick of xs) node(svg, "text", { x: x(tick), y: H - BOTTOM + 15, "text-anchor": "middle" }, tick);
  node(svg, "text", { x: (LEFT + W - RIGHT) / 2, y: H - 7, "text-anchor": "middle" }, xTitle);
  node(svg, "text", { x: 11, y: (TOP + H - BOTTOM) / 2, "text-anchor": "middle",
                      transform: `rotate(-90 11 ${(TOP + H - BOTTOM) / 2})` }, yTitle);
  return svg;
}

function marker(svg, shape, x, y, colour, filled) {
  const look = { fill: filled ? colour : "var(--jp-layout-color0, Canvas)", stroke: colour, "stroke-width": 1.6 };
  if (shape === "square") return node(svg, "rect", { x: x - 4, y: y - 4, width: 8, height: 8, ...look });
  return node(svg, "circle", { cx: x, cy: y, r: 4.2, ...look });
}

function nice(most) {
  const step = [1, 2, 5, 10, 20, 25, 50, 100].find((one) => most / one <= 5) || 100;
  return Array.from({ length: Math.floor(most / step) + 1 }, (_, i) => i * step);
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

function render({ model, el }) {
  const root = document.createElement("div");
  root.className = "l3-chart";
  el.append(root);
  let held = null;

  function draw() {
    nameControls();
    if (held !== null) return; // what is dragged draws itself
    const focused = root.contains(document.activeElement) ? document.activeElement.dataset.handle : undefined;
    root.replaceChildren();
    const curves = model.get("curves");
    const all = curves.flatMap((curve) => curve.line.map((point) => point[1]));
    const low = Math.min(0, ...all), high = Math.max(1, ...all);
    const x = (r) => LEFT + r * (W - LEFT - RIGHT);
    const y = (g) => H - BOTTOM - ((g - low) / (high - low)) * (H - TOP - BOTTOM);
    const ticks = low < 0 || high > 1 ? [low, 0, 1, high].map((v) => Math.round(v * 100) / 100) : [0, 0.25, 0.5, 0.75, 1];
    const svg = frame(root, "gamma: the share that stays hidden", "progress r", "gamma(r)", [0, 0.25, 0.5, 0.75, 1],
                      [...new Set(ticks)], x, y);
    curves.forEach((curve, place) => {
      node(svg, "polyline", { points: curve.line.map(([r, g]) => `${x(r)},${y(g)}`).join(" "), fill: "none",
                              stroke: curve.colour, "stroke-width": 2, "stroke-dasharray": curve.dash });
      for (const mark of curve.marks) {
        const dot = marker(svg, curve.shape, x(mark.r), y(mark.g), curve.colour, mark.made);
        node(dot, "title", {}, `${curve.name}, step ${mark.step}: ${mark.hidden} hidden`);
      }
      marker(svg, curve.shape, W - 120, TOP + 8 + 16 * place, curve.colour, true);
      node(svg, "text", { x: W - 110, y: TOP + 12 + 16 * place }, curve.name);
    });
    if (model.get("editable")) handles(svg, x, y, low, high);

    const steps = Math.max(...curves.map((curve) => curve.marks.length));
    const most = Math.max(1, ...curves.flatMap((curve) => curve.marks.map((mark) => mark.revealed + mark.rest)));
    const width = (W - LEFT - RIGHT) / steps;
    const across = (step) => LEFT + (step - 0.5) * width;
    const up = (n) => H - BOTTOM - (n / most) * (H - TOP - BOTTOM);
    const every = Math.ceil(steps / 11);
    const bars = frame(root, "tokens that each step reveals", "step", "tokens",
                       Array.from({ length: steps }, (_, i) => i + 1).filter((i) => (i - 1) % every === 0), nice(most),
                       across, up);
    curves.forEach((curve, place) => {
      const wide = (0.8 * width) / curves.length;
      for (const { step, revealed, rest } of curve.marks.filter((one) => one.made)) {
        const x = across(step) - 0.4 * width + place * wide;
        const bar = (from, to, look, title) => {
          const box = { x, width: wide * 0.92, y: up(to), height: up(from) - up(to) };
          node(node(bars, "rect", { ...box, ...look }), "title", {}, `${curve.name}${title}`);
        };
        bar(0, revealed, { fill: curve.colour }, `, step ${step}: ${revealed} revealed`);
        if (rest) bar(revealed, revealed + rest, { fill: "none", stroke: curve.colour, "stroke-dasharray": "3 2" },
                      `: ${rest} taken all at once, as the decoding stops`);
      }
    });
    if (focused) root.querySelector(`[data-handle="${focused}"]`)?.focus();
  }

  function handles(svg, x, y, low, high) {
    const heights = [...model.get("heights")];
    heights.forEach((height, i) => {
      const r = i / (heights.length - 1);
      const handle = node(svg, "circle", {
        cx: x(r), cy: y(height), r: 8, class: "handle", tabindex: 0, role: "slider", "data-handle": i,
        "aria-label": `gamma at r = ${r}`, "aria-valuemin": 0, "aria-valuemax": 1, "aria-valuenow": height,
        "aria-orientation": "vertical" });
      const put = (value) => {
        heights[i] = Math.round(100 * Math.min(1, Math.max(0, value))) / 100;
        handle.setAttribute("cy", y(heights[i]));
        handle.setAttribute("aria-valuenow", heights[i]);
        model.set("heights", [...heights]);
        model.save_changes();
      };
      handle.onpointerdown = (event) => {
        held = i;
        handle.setPointerCapture(event.pointerId);
      };
      handle.onpointermove = (event) => {
        if (held !== i) return;
        const place = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
        put(low + ((H - BOTTOM - place.y) / (H - TOP - BOTTOM)) * (high - low));
      };
      handle.onpointerup = handle.onpointercancel = () => {
        held = null;
        draw();
      };
      handle.onkeydown = (event) => {
        const step = { ArrowUp: 0.05, ArrowRight: 0.05, ArrowDown: -0.05, ArrowLeft: -0.05, PageUp: 0.2, PageDown: -0.2,
                       Home: -2, End: 2 }[event.key];
        if (step === undefined) return;
        event.preventDefault();
        event.stopPropagation();
        put(heights[i] + step);
      };
    });
  }

  model.on("change:curves change:editable", draw);
  draw();
  setTimeout(nameControls, 500); // once the widgets around this one are there
  model.send({ shown: true }); // a page that was just being put together has missed what came meanwhile
}

export default { render };
