// The explorer's pad: places of a picture, marked with the mouse, a finger or the keyboard. Two uses: painting a hole
// (64 x 64 pixels, a brush), and choosing tokens (16 x 16, one at a time, so many and among so many).
// In: side, picture (a data URL), marked (side x side characters, 1 where marked), brush; to choose tokens also free (as
// marked, 1 where a place can be chosen) and most (how many). Out: marked, after each stroke.
const SIZE = 512; // of the canvas, whatever its size on the page

function render({ model, el }) {
  const side = model.get("side"), cell = SIZE / side, choosing = side === 16;
  const root = document.createElement("div"), canvas = document.createElement("canvas");
  const status = document.createElement("div"), image = new Image();
  root.className = choosing ? "l3-pad l3-tokens" : "l3-pad";
  Object.assign(canvas, { width: SIZE, height: SIZE, tabIndex: 0, role: "application", ariaLabel: choosing
    ? "Tokens to keep. Arrows move, space chooses a token or takes it back, Delete takes all back."
    : "Hole. Arrows move the brush, space paints, E erases, Delete clears." });
  status.ariaLive = "polite";
  root.append(canvas, status);
  el.append(root);
  const read = (name) => Array.from(model.get(name), Number);
  const middle = choosing ? 0.5 : 0; // of a token, or between two pixels
  let marked = read("marked"), at = [side / 2 + middle, side / 2 + middle], stroke = null;
  const count = () => marked.reduce((sum, one) => sum + one, 0);
  const here = () => Math.floor(at[1]) * side + Math.floor(at[0]);

  function draw() {
    const pen = canvas.getContext("2d"), free = choosing && read("free"), focused = document.activeElement === canvas;
    const frame = (x, y, size, colours) => colours.forEach(([colour, width, inset]) => {
      pen.strokeStyle = colour;
      pen.lineWidth = width;
      pen.strokeRect(x + inset, y + inset, size - 2 * inset, size - 2 * inset);
    });
    pen.imageSmoothingEnabled = false;
    if (image.complete && image.naturalWidth) pen.drawImage(image, 0, 0, SIZE, SIZE);
    pen.fillStyle = "rgb(128 128 128)";
    marked.forEach((inside, i) => {
      const x = cell * (i % side), y = cell * Math.floor(i / side);
      if (inside && !choosing) pen.fillRect(x, y, cell, cell);
      else if (inside) frame(x, y, cell, [["#E69F00", 5, 3.5], ["#000", 1.5, 6.5]]);
      else if (free[i]) frame(x, y, cell, [["rgb(90 90 90 / 0.6)", 1, 1], ["rgb(255 255 255 / 0.5)", 1, 2]]);
    });
    const size = cell * model.get("brush"), [left, top] = at.map((value) => cell * value - size / 2);
    if (focused) frame(left, top, size, [["#000", 4, 2], ["#fff", 4, 6]]);
    if (choosing) {
      const state = marked[here()] ? "chosen" : free[here()] ? "hidden" : "known";
      status.textContent = `${count()} of ${model.get("most")} chosen.`
        + (focused ? ` Row ${Math.ceil(at[1])}, column ${Math.ceil(at[0])}: ${state}.` : "");
    } else status.textContent = `${((100 * count()) / marked.length).toFixed(0)} % of the picture is hole.`;
  }

  function dab([x, y], value) {
    const half = model.get("brush") / 2, free = choosing && read("free");
    const full = choosing && count() >= model.get("most");
    const range = (from) => [Math.max(0, Math.round(from - half)), Math.min(side, Math.round(from + half))];
    const [[left, right], [top, bottom]] = [x, y].map(range);
    for (let row = top; row < bottom; row++) for (let column = left; column < right; column++) {
      const i = row * side + column;
      if (!choosing || (free[i] && !(value && full))) marked[i] = value;
    }
  }

  function send() {
    model.set("marked", marked.join(""));
    model.save_changes();
  }

  const limited = (value) => Math.min(side - middle, Math.max(middle, value));
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    const shares = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    return shares.map((share) => limited(choosing ? Math.floor(share * side) + middle : share * side));
  };
  const release = () => {
    if (stroke !== null) send();
    stroke = null;
  };
  const keydown = (event) => {
    const far = choosing ? 1 : 2, erases = event.key.toLowerCase() === "e" && !choosing;
    const move = { ArrowLeft: [-far, 0], ArrowRight: [far, 0], ArrowUp: [0, -far], ArrowDown: [0, far] }[event.key];
    if (move) at = at.map((value, axis) => limited(value + move[axis]));
    else if (event.key === " " || erases) dab(at, erases || (choosing && marked[here()]) ? 0 : 1);
    else if (event.key === "Delete" || event.key === "Backspace") marked.fill(0);
    else return;
    if (!move) send();
    event.preventDefault();
    event.stopPropagation();
    draw();
  };
  const events = {
    pointerdown(event) {
      canvas.setPointerCapture(event.pointerId);
      at = place(event);
      stroke = event.shiftKey || event.button === 2 || (choosing && marked[here()]) ? 0 : 1;
      dab(at, stroke);
      draw();
    },
    pointermove(event) {
      if (stroke === null) return;
      const from = at;
      at = place(event);
      const steps = Math.ceil(Math.hypot(at[0] - from[0], at[1] - from[1]));
      for (let i = 1; i <= steps; i++) dab(from.map((value, axis) => value + (i / steps) * (at[axis] - value)), stroke);
      draw();
    },
    contextmenu: (event) => event.preventDefault(),
    pointerup: release, pointercancel: release, focus: draw, blur: draw, keydown,
  };
  for (const [name, call] of Object.entries(events)) canvas.addEventListener(name, call);
  model.on("change:marked change:free change:most change:brush", () => { marked = read("marked"); draw(); });
  model.on("change:picture", () => { image.src = model.get("picture"); });
  image.onload = draw;
  image.src = model.get("picture");
  draw();
}

export default { render };
