// The transformer and the tokenizer, as lab3/model has them, on one picture.
import { CODES, largest, PIXELS, SIDE, softmax, TOKENS } from "./decoding.js";
import {
  column, conv, floats, gelu, grid, layerNorm, linear, matmul, normSilu, pixels, place, scoped,
} from "./tensors.js";

// Returns forward(tokens, rows, wanted): logits (wanted.length, 1024) of the places `wanted`. The places `rows` are
// computed; of all others keys, values and the convolution's inputs stay as an earlier call left them.
export function transformer(part, { dim, heads, hidden, layers, norm, conv: convolved }) {
  const pre = norm === "pre", d = dim / heads, scale = d ** -0.5;
  const tokenEmbedding = part("token_embedding").weight, placeEmbedding = part("places").weight;
  const first = layerNorm(part("norm")), last = pre ? layerNorm(part("last_norm")) : null;
  const headLinear = linear(part("head.0")), headNorm = layerNorm(part("head.2")), codeBias = part("codes").bias;
  const x = floats(TOKENS * dim), y = floats(TOKENS * dim), z = floats(TOKENS * dim);
  const wide = floats(TOKENS * hidden), scores = floats(TOKENS * TOKENS), logits = floats(TOKENS * CODES);
  // where a product takes them on its right: a head's keys in panels of eight tokens, its values of eight channels
  const keyPlace = (token, c) => (c - (c % d)) * TOKENS + (token & ~7) * d + 8 * (c % d) + (token & 7);
  const valuePlace = (token, c) => (c & ~7) * TOKENS + 8 * token + (c & 7);
  const stack = Array.from({ length: layers }, (_, number) => {
    const of = (name) => part(`layers.${number}.${name}`);
    const [query, key, value, output, up, down] = ["attention.query", "attention.key", "attention.value",
      "attention.output", "perceptron.0", "perceptron.2"].map((name) => linear(of(name)));
    const inputs = floats(TOKENS * dim), filter = of("conv").weight;
    const keys = floats(TOKENS * dim), values = floats(TOKENS * dim);

    function neighbours(rows) { // x += a 3x3 convolution of each channel
      rows.forEach((token, i) => inputs.set(x.subarray(i * dim, (i + 1) * dim), token * dim));
      rows.forEach((token, i) => {
        const row = Math.floor(token / SIDE), left = token % SIDE;
        for (let dy = -1; dy <= 1; dy++) for (let dx = -1; dx <= 1; dx++) {
          if (row + dy < 0 || row + dy >= SIDE || left + dx < 0 || left + dx >= SIDE) continue;
          const from = (token + dy * SIDE + dx) * dim, tap = 3 * (dy + 1) + dx + 1;
          for (let c = 0; c < dim; c++) x[i * dim + c] += filter[9 * c + tap] * inputs[from + c];
        }
      });
    }

    function attend(from, rows) { // x += attention of `from`
      const m = rows.length;
      for (const [linear, into, place] of [[key, keys, keyPlace], [value, values, valuePlace]]) {
        linear(from, m, z.fill(0));
        rows.forEach((token, i) => { for (let c = 0; c < dim; c++) into[place(token, c)] = z[i * dim + c]; });
      }
      query(from, m, z.fill(0));
      y.fill(0);
      for (let head = 0; head < dim; head += d) {
        matmul(z.subarray(head), dim, keys.subarray(head * TOKENS), scores.fill(0), TOKENS, m, TOKENS, d);
        for (let i = 0; i < m; i++) softmax(scores.subarray(i * TOKENS, (i + 1) * TOKENS), scale);
        matmul(scores, TOKENS, values.subarray(head * TOKENS), y.subarray(head), dim, m, d, TOKENS);
      }
      output(y, m, x);
    }

    function perceive(from, rows) { // x += the perceptron of `from`
      up(from, rows.length, wide.fill(0));
      for (let i = 0; i < rows.length * hidden; i++) wide[i] = gelu(wide[i]);
      down(wide, rows.length, x);
    }

    const parts = [[layerNorm(of("norm1")), attend], [layerNorm(of("norm2")), perceive]];
    return (rows) => {
      if (convolved) neighbours(rows);
      for (const [norm, add] of parts) {
        if (pre) norm(x, rows.length, y);
        add(pre ? y : x, rows);
        if (!pre) norm(x, rows.length, x);
      }
    };
  });

  return function forward(tokens, rows, wanted) {
    rows.forEach((token, i) => {
      const embedded = column(tokenEmbedding, dim, tokens[token]);
      for (let c = 0; c < dim; c++) x[i * dim + c] = embedded[c] + placeEmbedding[token * dim + c];
    });
    first(x, rows.length, x);
    for (const layer of stack) layer(rows);
    const n = wanted.length, index = new Map(rows.map((token, i) => [token, i]));
    wanted.forEach((token, i) => y.set(x.subarray(index.get(token) * dim, (index.get(token) + 1) * dim), i * dim));
    last?.(y, n, y);
    headLinear(y, n, z.fill(0));
    for (let i = 0; i < n * dim; i++) z[i] = gelu(z[i]);
    headNorm(z, n, z);
    wanted.forEach((token, i) => logits.set(codeBias.subarray(token * CODES, (token + 1) * CODES), i * CODES));
    matmul(z, dim, tokenEmbedding, logits, CODES, n, CODES, dim);
    return logits;
  };
}

// Returns { encode, decode }: RGB bytes (64 * 64 * 3) to tokens and back. `config` lists the modules of both.
export function tokenizer(part, config) {
  const { weight: codebook } = part("codebook"), dim = codebook.length / CODES;
  const codes = Array.from({ length: CODES }, (_, code) => column(codebook, dim, code));
  const bias = Float32Array.from(codes, (code) => -code.reduce((sum, value) => sum + value * value, 0) / 2);
  const nearness = linear({ weight: codebook, bias }); // half the squared distance, up to a constant, negative

  const MODULES = {
    Conv2d: (name, size, stride) => conv(part(name), size, stride),
    GroupNorm: (name) => normSilu(part(name)),
    SiLU: () => (x) => x, // GroupNorm's
    PixelShuffle: () => shuffled,
    ResidualBlock(name) {
      const [norm1, norm2] = ["norm1", "norm2"].map((end) => normSilu(part(`${name}.${end}`)));
      const [conv1, conv2] = ["conv1", "conv2"].map((end) => conv(part(`${name}.${end}`), 3, 1));
      const own = part(`${name}.shortcut`), shortcut = own.weight && conv(own, 1, 1);
      return (x) => {
        const h = conv2(norm2(conv1(norm1(x))));
        if (shortcut) return shortcut(x, h);
        for (let i = 0; i < h.data.length; i++) h.data[i] += x.data[i];
        return h;
      };
    },
  };
  const [encoder, decoder] = [config.encoder, config.decoder].map((modules) => {
    const made = modules.map(([kind, ...options]) => MODULES[kind](...options));
    return (x) => made.reduce((value, module) => module(value), x);
  });

  function shuffled(x) {
    const out = grid(2 * x.h, 2 * x.w, x.c / 4);
    pixels(out, (to, row, left) => {
      const from = place(x, row >> 1, left >> 1) + 2 * (row & 1) + (left & 1);
      for (let c = 0; c < out.c; c++) out.data[to + c] = x.data[from + 4 * c];
    });
    return out;
  }

  const encode = (picture) => scoped(() => {
    const x = grid(PIXELS, PIXELS, 3), latents = floats(TOKENS * dim), near = floats(TOKENS * CODES).fill(0);
    pixels(x, (at, row, left) => {
      for (let c = 0; c < 3; c++) x.data[at + c] = picture[3 * (PIXELS * row + left) + c] / 127.5 - 1;
    });
    const found = encoder(x);
    pixels(found, (at, row, left) => latents.set(found.data.subarray(at, at + dim), dim * (SIDE * row + left)));
    nearness(latents, TOKENS, near);
    return Array.from({ length: TOKENS }, (_, i) => largest(near.subarray(i * CODES, (i + 1) * CODES)));
  });

  const decode = (tokens) => scoped(() => {
    const x = grid(SIDE, SIDE, dim), picture = new Uint8ClampedArray(3 * PIXELS * PIXELS);
    pixels(x, (at, row, left) => x.data.set(codes[tokens[SIDE * row + left]], at));
    const made = decoder(x);
    pixels(made, (at, row, left) => {
      for (let c = 0; c < 3; c++) picture[3 * (PIXELS * row + left) + c] = (made.data[at + c] + 1) * 127.5;
    });
    return picture;
  });
  return { encode, decode };
}
