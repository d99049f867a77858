// The explorer's drawing pad: a hole, painted over a picture with the mouse, a finger or the keyboard.
// In: picture (a data URL), hole (64 x 64 characters, 1 in the hole), brush. Out: hole, after each stroke.
const SIDE = 64;

function render({ model, el }) {
  const root = document.createElement("div");
  root.className = "l3-pad";
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 4 * SIDE;
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "application");
  canvas.setAttribute("aria-label", "Hole. Arrows move the brush, space paints, E erases, Delete clears.");
  const status = document.createElement("div");
  status.setAttribute("aria-live", "polite");
  root.append(canvas, status);
  el.append(root);
  const image = new Image();
  let hole = Array.from(model.get("hole"), Number), at = [SIDE / 2, SIDE / 2], stroke = null;

  function draw() {
    const pen = canvas.getContext("2d");
    pen.imageSmoothingEnabled = false;
    if (image.complete && image.naturalWidth) pen.drawImage(image, 0, 0, 4 * SIDE, 4 * SIDE);
    pen.fillStyle = "rgb(128 128 128)";
    hole.forEach((inside, i) => { if (inside) pen.fillRect(4 * (i % SIDE), 4 * Math.floor(i / SIDE), 4, 4); });
    if (document.activeElement === canvas) {
      const size = 4 * model.get("brush");
      pen.lineWidth = 2;
      for (const [colour, inset] of [["#000", 0], ["#fff", 2]]) {
        pen.strokeStyle = colour;
        pen.strokeRect(4 * at[0] - size / 2 + inset, 4 * at[1] - size / 2 + inset, size - 2 * inset, size - 2 * inset);
      }
    }
    const share = hole.reduce((sum, one) => sum + one, 0) / hole.length;
    status.textContent = `${(100 * share).toFixed(0)} % of the picture is hole.`;
  }

  function dab(x, y, value) {
    const half = model.get("brush") / 2;
    for (let row = Math.max(0, Math.round(y - half)); row < Math.min(SIDE, Math.round(y + half)); row++)
      for (let column = Math.max(0, Math.round(x - half)); column < Math.min(SIDE, Math.round(x + half)); column++)
        hole[row * SIDE + column] = value;
  }

  function line(from, to, value) {
    const steps = Math.max(1, Math.ceil(Math.hypot(to[0] - from[0], to[1] - from[1])));
    for (let i = 0; i <= steps; i++)
      dab(from[0] + (i / steps) * (to[0] - from[0]), from[1] + (i / steps) * (to[1] - from[1]), value);
  }

  function send() {
    model.set("hole", hole.join(""));
    model.save_changes();
  }

  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * SIDE, ((event.clientY - box.top) / box.height) * SIDE];
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    at = place(event);
    stroke = event.shiftKey || event.button === 2 ? 0 : 1;
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
    const moves = { ArrowLeft: [-2, 0], ArrowRight: [2, 0], ArrowUp: [0, -2], ArrowDown: [0, 2] };
    if (moves[event.key]) {
      at = at.map((value, axis) => Math.min(SIDE, Math.max(0, Math.round(value) + moves[event.key][axis])));
    } else if (event.key === " " || event.key.toLowerCase() === "e") {
      dab(...at, event.key === " " ? 1 : 0);
      send();
    } else if (event.key === "Delete" || event.key === "Backspace") {
      hole.fill(0);
      send();
    } else return;
    event.preventDefault();
    event.stopPropagation();
    draw();
  });
  model.on("change:hole", () => { hole = Array.from(model.get("hole"), Number); draw(); });
  model.on("change:picture", () => { image.src = model.get("picture"); });
  model.on("change:brush", draw);
  image.onload = draw;
  image.src = model.get("picture");
  draw();
}

export default { render };
