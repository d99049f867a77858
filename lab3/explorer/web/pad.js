// The explorer's pad: places of a picture, marked with the mouse, a finger or the keyboard. Two uses: painting a hole
// (64 x 64 pixels, a brush), and choosing tokens (16 x 16, one at a time, so many and among so many).
// In: side, picture (a data URL), marked (side x side characters, 1 where marked), brush; to choose tokens also free (as
// marked, 1 where a place can be chosen) and most (how many). Out: marked, after each stroke.
const SIZE = 512; // of the canvas, whatever its size on the page

function render({ model, el }) {
  const side = model.get("side"), cell = SIZE / side, choosing = side === 16;
  const root = document.createElement("div");
  root.className = choosing ? "l3-pad l3-tokens" : "l3-pad";
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = SIZE;
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "application");
  canvas.setAttribute("aria-label", choosing
    ? "Tokens to keep. Arrows move, space chooses a token or takes it back, Delete takes all back."
    : "Hole. Arrows move the brush, space paints, E erases, Delete clears.");
  const status = document.createElement("div");
  status.setAttribute("aria-live", "polite");
  root.append(canvas, status);
  el.append(root);
  const image = new Image(), read = (name) => Array.from(model.get(name), Number);
  let marked = read("marked"), at = [side / 2, side / 2], stroke = null;
  const count = () => marked.reduce((sum, one) => sum + one, 0);
  const index = ([x, y]) => Math.min(side - 1, Math.floor(y)) * side + Math.min(side - 1, Math.floor(x));

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
      if (!choosing) inside && pen.fillRect(x, y, cell, cell);
      else if (inside) frame(x, y, cell, [["#E69F00", 5, 3.5], ["#000", 1.5, 6.5]]);
      else if (free[i]) frame(x, y, cell, [["rgb(90 90 90 / 0.6)", 1, 1], ["rgb(255 255 255 / 0.5)", 1, 2]]);
    });
    if (focused) {
      const size = cell * model.get("brush"), corner = (v) => (choosing ? cell * v : cell * v - size / 2);
      frame(corner(at[0]), corner(at[1]), size, [["#000", 4, 2], ["#fff", 4, 6]]);
    }
    if (!choosing) {
      status.textContent = `${((100 * count()) / marked.length).toFixed(0)} % of the picture is hole.`;
      return;
    }
    const place = index(at), state = marked[place] ? "chosen" : free[place] ? "hidden" : "known";
    status.textContent = `${count()} of ${model.get("most")} chosen.`
      + (focused ? ` Row ${at[1] + 1}, column ${at[0] + 1}: ${state}.` : "");
  }

  function dab(x, y, value) {
    if (choosing) {
      const place = index([x, y]);
      if (read("free")[place] && (!value || marked[place] || count() < model.get("most"))) marked[place] = value;
      return;
    }
    const half = model.get("brush") / 2;
    for (let row = Math.max(0, Math.round(y - half)); row < Math.min(side, Math.round(y + half)); row++)
      for (let column = Math.max(0, Math.round(x - half)); column < Math.min(side, Math.round(x + half)); column++)
        marked[row * side + column] = value;
  }

  function line(from, to, value) {
    const steps = Math.max(1, Math.ceil(Math.hypot(to[0] - from[0], to[1] - from[1])));
    for (let i = 0; i <= steps; i++)
      dab(from[0] + (i / steps) * (to[0] - from[0]), from[1] + (i / steps) * (to[1] - from[1]), value);
  }

  function send() {
    model.set("marked", marked.join(""));
    model.save_changes();
  }

  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [[event.clientX - box.left, box.width], [event.clientY - box.top, box.height]].map(([from, length]) => {
      const value = Math.min(side, Math.max(0, (from / length) * side));
      return choosing ? Math.min(side - 1, Math.floor(value)) : value;
    });
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    at = place(event);
    stroke = event.shiftKey || event.button === 2 || (choosing && marked[index(at)]) ? 0 : 1;
    dab(...at, stroke);
    draw();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (stroke === null) return;
    const next = place(event);
    line(at, next, stroke);
    at = next;
    draw();
  });
  const release = () => { if (stroke !== null) { stroke = null; send(); } };
  canvas.addEventListener("pointerup", release);
  canvas.addEventListener("pointercancel", release);
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("focus", draw);
  canvas.addEventListener("blur", draw);
  canvas.addEventListener("keydown", (event) => {
    const far = choosing ? 1 : 2, last = choosing ? side - 1 : side;
    const moves = { ArrowLeft: [-far, 0], ArrowRight: [far, 0], ArrowUp: [0, -far], ArrowDown: [0, far] };
    if (moves[event.key]) {
      at = at.map((value, axis) => Math.min(last, Math.max(0, Math.round(value) + moves[event.key][axis])));
    } else if (event.key === " " || (event.key.toLowerCase() === "e" && !choosing)) {
      dab(...at, event.key !== " " || (choosing && marked[index(at)]) ? 0 : 1);
      send();
    } else if (event.key === "Delete" || event.key === "Backspace") {
      marked.fill(0);
      send();
    } else return;
    event.preventDefault();
    event.stopPropagation();
    draw();
  });
  model.on("change:marked change:free change:most", () => { marked = read("marked"); draw(); });
  model.on("change:picture", () => { image.src = model.get("picture"); });
  model.on("change:brush", draw);
  image.onload = draw;
  image.src = model.get("picture");
  draw();
}

export default { render };
