// Tensors in WebAssembly's memory: unpacking them, products, norms and convolutions.
// A matrix is a Float32Array, row by row. A grid (h, w, c) holds pixels with a border of one pixel, channels last.
const SCRATCH = 96 << 20; // bytes for what one picture needs on its way; pages that are not touched cost nothing
let memory, kernel, top = 0;

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
// Returns { config, tensors }, a dict of Float32Arrays.
export async function unpack(bytes, wasm) {
  memory = new WebAssembly.Memory({ initial: (4 * bytes.length + SCRATCH) >> 16 });
  kernel = (await WebAssembly.instantiate(wasm, { env: { memory } })).instance.exports.matmul;
  const length = new DataView(bytes.buffer).getUint32(0, true), tensors = {};
  const about = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length)));
  let at = 4 + length;
  const take = (n) => bytes.subarray(at, (at += n));
  for (const { name, shape, kind } of about.tensors) {
    const n = shape.reduce((a, b) => a * b, 1), data = tensors[name] = floats(n);
    if (kind === "uint8") data.set(take(n));
    else if (kind === "float16") { // all low bytes, then all high bytes; float32 has the same bits, another exponent
      const low = take(n), high = take(n), bits = new Int32Array(memory.buffer, data.byteOffset, n);
      for (let i = 0; i < n; i++) {
        bits[i] = ((high[i] & 128) << 24) | ((((high[i] & 127) << 8) | low[i]) << 13);
        data[i] *= 2 ** 112;
      }
    } else { // int8: a float32 scale for each column of a panel, then the panels
      const scales = new Float32Array(take((4 * n) / shape.at(-2)).slice().buffer);
      const values = new Int8Array(take(n).slice().buffer), panel = 8 * shape.at(-2);
      for (let i = 0; i < n; i++) data[i] = values[i] * scales[8 * Math.floor(i / panel) + (i & 7)];
    }
  }
  return { config: about.config, tensors };
}

// C (m, n) += A (m, k) B, with B in panels of eight columns, each (k, 8); lda and ldc: floats from a row to the next.
export function matmul(a, lda, b, c, ldc, m, n, k) {
  kernel(a.byteOffset, 4 * lda, b.byteOffset, c.byteOffset, 4 * ldc, (m + 3) & ~3, n, k);
}

// Column i of a matrix (k, n) in panels.
export const column = (panels, k, i) =>
  Float32Array.from({ length: k }, (_, row) => panels[(i & ~7) * k + 8 * row + (i & 7)]);

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

// The error function, by a series whose terms all have one sign.
function erf(x) {
  let sum = 0;
  for (let n = 1, term = x; n < 300; n += 2, term *= (2 * x * x) / n) sum += term;
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}

export const gelu = tabulated((x) => (x / 2) * (1 + erf(x / Math.SQRT2)));
const silu = tabulated((x) => x / (1 + Math.exp(-x)));

// out (m, n) += x (m, k) W^T + b
export const linear = ({ weight, bias }) => (x, m, out) => {
  const n = bias.length, k = weight.length / n;
  for (let row = 0; row < m; row++) for (let i = 0; i < n; i++) out[row * n + i] += bias[i];
  matmul(x, k, weight, out, n, m, n, k);
};

export const layerNorm = ({ weight, bias }) => (x, m, out) => {
  const n = weight.length;
  for (let at = 0; at < m * n; at += n) {
    let sum = 0, square = 0;
    for (let i = at; i < at + n; i++) sum += x[i];
    const mean = sum / n;
    for (let i = at; i < at + n; i++) square += (x[i] - mean) ** 2;
    const scale = 1 / Math.sqrt(square / n + 1e-5);
    for (let i = 0; i < n; i++) out[at + i] = (x[at + i] - mean) * scale * weight[i] + bias[i];
  }
};

export const grid = (h, w, c) => ({ h, w, c, data: floats((h + 2) * (w + 2) * c).fill(0) });

export const place = ({ w, c }, y, x) => ((y + 1) * (w + 2) + x + 1) * c;

// Calls visit with the place, the row and the column of each pixel.
export function pixels(x, visit) {
  for (let row = 0; row < x.h; row++) for (let left = 0; left < x.w; left++) visit(place(x, row, left), row, left);
}

// A convolution with filters of size x size, added to out. The pixels under a row of the filters lie side by side, so
// each row is one product.
export const conv = ({ weight, bias }, size, stride) => (x, out = grid(x.h / stride, x.w / stride, bias.length)) => {
  const before = (size - 1) >> 1, rows = weight.length / size;
  const at = (of, y, left) => of.data.subarray(place(of, y, left));
  pixels(out, (to) => { for (let c = 0; c < out.c; c++) out.data[to + c] += bias[c]; });
  for (let y = 0; y < out.h; y++)
    for (let row = 0; row < size; row++)
      matmul(at(x, y * stride + row - before, -before), stride * x.c, weight.subarray(row * rows), at(out, y, 0), out.c,
             out.w, out.c, size * x.c);
  return out;
};

// GroupNorm with 8 groups, then SiLU.
export const normSilu = ({ weight, bias }) => (x) => {
  const out = grid(x.h, x.w, x.c), size = x.c / 8, n = size * x.h * x.w;
  const sums = new Float64Array(8), squares = new Float64Array(8);
  pixels(x, (at) => {
    for (let i = 0; i < x.c; i++) {
      const value = x.data[at + i], group = (i / size) | 0;
      sums[group] += value;
      squares[group] += value * value;
    }
  });
  const mean = sums.map((sum) => sum / n);
  const scale = squares.map((sum, i) => 1 / Math.sqrt(sum / n - mean[i] ** 2 + 1e-5));
  pixels(x, (at) => {
    for (let i = 0; i < x.c; i++) {
      const group = (i / size) | 0;
      out.data[at + i] = silu((x.data[at + i] - mean[group]) * scale[group] * weight[i] + bias[i]);
    }
  });
  return out;
};
