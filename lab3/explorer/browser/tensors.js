// Tensors in WebAssembly's memory: unpacking them, products, norms and convolutions.
// A matrix is a Float32Array, row by row. A grid (h, w, c) holds pixels with a border of one pixel, channels last.
let memory, kernel, top;

export async function open(wasm, bytes) {
  memory = new WebAssembly.Memory({ initial: Math.ceil(bytes / 65536) });
  kernel = (await WebAssembly.instantiate(wasm, { env: { memory } })).instance.exports.matmul;
  top = 0;
}

export function floats(n) {
  const made = new Float32Array(memory.buffer, top, n);
  top += 16 * Math.ceil(n / 4);
  return made;
}

// Runs work and frees what it allocated.
export function scoped(work) {
  const mark = top;
  try { return work(); } finally { top = mark; }
}

// What write.py packs: a length, JSON { config, tensors: [{ name, shape, kind }] }, the tensors' bytes.
// Returns { config, tensors }, a dict of { shape, data }.
export function unpack(bytes) {
  const length = new DataView(bytes.buffer).getUint32(0, true);
  const about = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length)));
  const tensors = {};
  let at = 4 + length;
  const take = (n) => bytes.subarray(at, (at += n));
  for (const { name, shape, kind } of about.tensors) {
    const n = shape.reduce((a, b) => a * b, 1);
    let data;
    if (kind === "uint8") data = take(n);
    else if (kind === "float16") { // all low bytes, then all high bytes
      const low = take(n), high = take(n);
      data = new Float32Array(n);
      for (let i = 0; i < n; i++) data[i] = HALF[(high[i] << 8) | low[i]];
    } else { // int8: a float32 scale for each row, then the rows
      const scales = new Float32Array(take(4 * shape[0]).slice().buffer), rows = new Int8Array(take(n).slice().buffer);
      data = new Float32Array(n);
      for (let i = 0; i < n; i++) data[i] = rows[i] * scales[Math.floor((i * shape[0]) / n)];
    }
    tensors[name] = { shape, data };
  }
  return { config: about.config, tensors };
}

const HALF = Float32Array.from({ length: 65536 }, (_, bits) => {
  const exponent = (bits >> 10) & 31, fraction = bits & 1023;
  const size = exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24;
  return bits & 32768 ? -size : size;
});

// B (k, n), given by a function of row and column, in the kernel's panels of eight columns.
export function panels(k, n, value) {
  const made = floats(k * 8 * Math.ceil(n / 8)).fill(0);
  for (let column = 0; column < n; column++)
    for (let row = 0, at = (column >> 3) * 8 * k + (column & 7); row < k; row++, at += 8) made[at] = value(row, column);
  return made;
}

// C (m, n) += A (m, k) B; lda and ldc are the floats from one row to the next.
export function matmul(a, lda, b, c, ldc, m, n, k) {
  kernel(a.byteOffset, 4 * lda, b.byteOffset, c.byteOffset, 4 * ldc, (m + 3) & ~3, n, k);
}

// A function of one number, from a table: within 1e-6 on [-8, 8], and its asymptotes 0 and x beyond.
function tabulated(f) {
  const table = Float32Array.from({ length: 16386 }, (_, i) => f(i / 1024 - 8));
  return (x) => {
    if (!(x > -8)) return 0;
    if (x >= 8) return x;
    const place = (x + 8) * 1024, i = place | 0;
    return table[i] + (place - i) * (table[i + 1] - table[i]);
  };
}

// Error function: its series near 0, its continued fraction (Lentz) further out.
function erf(x) {
  if (x < 0) return -erf(-x);
  if (x > 3) {
    let fraction = x;
    for (let n = 40; n > 0; n--) fraction = x + n / 2 / fraction;
    return 1 - Math.exp(-x * x) / fraction / Math.sqrt(Math.PI);
  }
  let sum = x, part = x;
  for (let n = 1; n < 60; n++) sum += (part *= (-x * x) / n) / (2 * n + 1);
  return (2 / Math.sqrt(Math.PI)) * sum;
}

export const gelu = tabulated((x) => (x / 2) * (1 + erf(x / Math.SQRT2)));
const silu = tabulated((x) => x / (1 + Math.exp(-x)));

export function linear({ weight, bias }) {
  const [n, k] = weight.shape;
  const right = panels(k, n, (row, column) => weight.data[column * k + row]);
  // out (m, n) += x (m, k) W^T + b
  return (x, m, out) => {
    for (let row = 0; row < m; row++) for (let i = 0, at = row * n; i < n; i++) out[at + i] += bias.data[i];
    matmul(x, k, right, out, n, m, n, k);
  };
}

export function layerNorm({ weight, bias }) {
  const n = weight.data.length;
  return (x, m, out) => {
    for (let row = 0; row < m; row++) {
      const at = row * n;
      let sum = 0, square = 0;
      for (let i = at; i < at + n; i++) sum += x[i];
      const mean = sum / n;
      for (let i = at; i < at + n; i++) square += (x[i] - mean) ** 2;
      const scale = 1 / Math.sqrt(square / n + 1e-5);
      for (let i = 0; i < n; i++) out[at + i] = (x[at + i] - mean) * scale * weight.data[i] + bias.data[i];
    }
  };
}

export function grid(h, w, c) {
  return { h, w, c, data: floats((h + 4) * (w + 2) * c).fill(0) }; // with a row to spare above and below the border
}

export const place = ({ w, c }, y, x) => ((y + 2) * (w + 2) + x + 1) * c;
const at = (x, row, column) => x.data.subarray(place(x, row, column));

// Zero the border that a product with all columns has filled.
function border(x) {
  for (let y = 0; y < x.h; y++) {
    x.data.fill(0, place(x, y, -1), place(x, y, 0));
    x.data.fill(0, place(x, y, x.w), place(x, y, x.w + 1));
  }
  return x;
}

function biased(h, w, bias) {
  const out = grid(h, w, 8 * Math.ceil(bias.data.length / 8));
  for (let i = place(out, 0, -1); i < place(out, h, -1); i += out.c) out.data.set(bias.data, i);
  return out;
}

// A 3x3 convolution, padding 1: three pixels of a row lie side by side, so each row of the filter is one product.
export function conv3({ weight, bias }) {
  const [n, c] = weight.shape;
  const right = [0, 1, 2].map((dy) => panels(3 * c, n, (row, column) =>
    weight.data[((column * c + (row % c)) * 3 + dy) * 3 + Math.floor(row / c)]));
  return (x) => {
    const out = biased(x.h, x.w, bias);
    right.forEach((one, dy) =>
      matmul(at(x, dy - 1, -2), c, one, at(out, 0, -1), out.c, x.h * (x.w + 2), out.c, 3 * c));
    return border(out);
  };
}

// A 4x4 convolution, padding 1, of every other pixel.
export function halve({ weight, bias }) {
  const [n, c] = weight.shape;
  const right = [0, 1, 2, 3].map((dy) => panels(4 * c, n, (row, column) =>
    weight.data[((column * c + (row % c)) * 4 + dy) * 4 + Math.floor(row / c)]));
  return (x) => {
    const out = biased(x.h / 2, x.w / 2, bias);
    for (let y = 0; y < out.h; y++)
      right.forEach((one, dy) =>
        matmul(at(x, 2 * y + dy - 1, -1), 2 * c, one, at(out, y, 0), out.c, out.w, out.c, 4 * c));
    return border(out);
  };
}

// A 1x1 convolution, added to out.
export function conv1({ weight, bias }) {
  const add = linear({ weight, bias });
  return (x, out) => {
    add(at(x, 0, -1), x.h * (x.w + 2), at(out, 0, -1));
    return border(out);
  };
}

// GroupNorm with 8 groups, then SiLU.
export function normSilu({ weight, bias }) {
  return (x) => {
    const out = grid(x.h, x.w, x.c), size = x.c / 8, scale = new Float64Array(x.c), shift = new Float64Array(x.c);
    const each = (visit) => {
      for (let y = 0; y < x.h; y++) for (let i = place(x, y, 0); i < place(x, y, x.w); i += x.c) visit(i);
    };
    const sums = new Float64Array(x.c), squares = new Float64Array(x.c);
    each((first) => {
      for (let i = 0; i < x.c; i++) {
        const value = x.data[first + i];
        sums[i] += value;
        squares[i] += value * value;
      }
    });
    for (let i = 0; i < x.c; i++) {
      const first = i - (i % size), total = (all) => all.subarray(first, first + size).reduce((a, b) => a + b, 0);
      const mean = total(sums) / (size * x.h * x.w);
      const variance = total(squares) / (size * x.h * x.w) - mean * mean;
      scale[i] = weight.data[i] / Math.sqrt(variance + 1e-5);
      shift[i] = bias.data[i] - mean * scale[i];
    }
    each((first) => {
      for (let i = 0; i < x.c; i++) out.data[first + i] = silu(x.data[first + i] * scale[i] + shift[i]);
    });
    return out;
  };
}
