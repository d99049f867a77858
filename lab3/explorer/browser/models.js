// The transformer and the tokenizer, as lab3/model has them, on one picture.
import { CODES, SIDE, TOKENS } from "./sizes.js";
import {
  conv1, conv3, floats, gelu, grid, halve, layerNorm, linear, matmul, normSilu, panels, place, scoped,
} from "./tensors.js";

const part = (tensors, name) => ({ weight: tensors[`${name}.weight`], bias: tensors[`${name}.bias`] });

// Returns forward(tokens, rows, wanted): logits (wanted.length, 1024) of the places `wanted`. The places `rows` are
// computed; of all others keys, values and the convolution's inputs stay as an earlier call left them.
export function transformer(tensors, config) {
  const { dim, heads, hidden } = config, pre = config.norm === "pre", d = dim / heads, scale = d ** -0.5;
  const tokenEmbedding = tensors["token_embedding.weight"].data, placeEmbedding = tensors.place_embedding.data;
  const bias = tensors.bias.data;
  const norm = layerNorm(part(tensors, "norm")), lastNorm = pre ? layerNorm(part(tensors, "last_norm")) : null;
  const headLinear = linear(part(tensors, "head.0")), headNorm = layerNorm(part(tensors, "head.2"));
  const codes = panels(dim, CODES, (row, column) => tokenEmbedding[column * dim + row]);
  const layers = Array.from({ length: config.layers }, (_, number) => {
    const name = (end) => part(tensors, `layers.${number}.${end}`);
    return {
      query: linear(name("attention.query")), key: linear(name("attention.key")),
      value: linear(name("attention.value")), output: linear(name("attention.output")),
      norm1: layerNorm(name("norm1")), norm2: layerNorm(name("norm2")), wide: linear(name("perceptron.0")),
      narrow: linear(name("perceptron.2")), filter: config.conv ? name("conv").weight.data : null,
      // as the kernel takes them on its right: keys transposed, in panels of eight tokens; values of eight channels
      inputs: floats(TOKENS * dim), keys: floats(TOKENS * dim), values: floats(TOKENS * dim),
    };
  });
  const x = floats(TOKENS * dim), y = floats(TOKENS * dim), z = floats(TOKENS * dim);
  const wide = floats(TOKENS * hidden), scores = floats(TOKENS * TOKENS), logits = floats(TOKENS * CODES);

  function neighbours(layer, rows) { // x += a 3x3 convolution of each channel
    rows.forEach((token, i) => layer.inputs.set(x.subarray(i * dim, (i + 1) * dim), token * dim));
    rows.forEach((token, i) => {
      const row = Math.floor(token / SIDE), column = token % SIDE;
      for (let dy = -1; dy <= 1; dy++) for (let dx = -1; dx <= 1; dx++) {
        if (row + dy < 0 || row + dy >= SIDE || column + dx < 0 || column + dx >= SIDE) continue;
        const from = (token + dy * SIDE + dx) * dim, tap = 3 * (dy + 1) + dx + 1;
        for (let c = 0; c < dim; c++) x[i * dim + c] += layer.filter[9 * c + tap] * layer.inputs[from + c];
      }
    });
  }

  function attend(layer, from, rows) { // x += attention of `from`
    const m = rows.length;
    layer.key(from, m, z.fill(0));
    rows.forEach((token, i) => {
      for (let c = 0; c < dim; c++)
        layer.keys[(Math.floor(c / d) * TOKENS + (token & ~7)) * d + (c % d) * 8 + (token & 7)] = z[i * dim + c];
    });
    layer.value(from, m, z.fill(0));
    rows.forEach((token, i) => {
      for (let c = 0; c < dim; c++) layer.values[(c & ~7) * TOKENS + token * 8 + (c & 7)] = z[i * dim + c];
    });
    layer.query(from, m, z.fill(0));
    const mixed = y.fill(0);
    for (let head = 0; head < heads; head++) {
      matmul(z.subarray(head * d), dim, layer.keys.subarray(head * d * TOKENS), scores.fill(0), TOKENS, m, TOKENS, d);
      for (let i = 0; i < m; i++) softmax(scores.subarray(i * TOKENS, (i + 1) * TOKENS));
      matmul(scores, TOKENS, layer.values.subarray(head * d * TOKENS), mixed.subarray(head * d), dim, m, d, TOKENS);
    }
    layer.output(mixed, m, x);
  }

  function softmax(row) {
    let most = -Infinity, sum = 0;
    for (let i = 0; i < row.length; i++) if (row[i] > most) most = row[i];
    for (let i = 0; i < row.length; i++) sum += row[i] = Math.exp((row[i] - most) * scale);
    for (let i = 0; i < row.length; i++) row[i] /= sum;
  }

  function perceive(layer, from, m) { // x += the perceptron of `from`
    layer.wide(from, m, wide.fill(0));
    for (let i = 0; i < m * hidden; i++) wide[i] = gelu(wide[i]);
    layer.narrow(wide, m, x);
  }

  return function forward(tokens, rows, wanted) {
    rows.forEach((token, i) => {
      for (let c = 0; c < dim; c++)
        x[i * dim + c] = tokenEmbedding[tokens[token] * dim + c] + placeEmbedding[token * dim + c];
    });
    norm(x, rows.length, x);
    for (const layer of layers) {
      if (layer.filter) neighbours(layer, rows);
      if (pre) {
        layer.norm1(x, rows.length, y);
        attend(layer, y, rows);
        layer.norm2(x, rows.length, y);
        perceive(layer, y, rows.length);
      } else {
        attend(layer, x, rows);
        layer.norm1(x, rows.length, x);
        perceive(layer, x, rows.length);
        layer.norm2(x, rows.length, x);
      }
    }
    const index = new Map(rows.map((token, i) => [token, i]));
    wanted.forEach((token, i) => y.set(x.subarray(index.get(token) * dim, (index.get(token) + 1) * dim), i * dim));
    if (pre) lastNorm(y, wanted.length, y);
    headLinear(y, wanted.length, z.fill(0));
    for (let i = 0; i < wanted.length * dim; i++) z[i] = gelu(z[i]);
    headNorm(z, wanted.length, z);
    wanted.forEach((token, i) => {
      logits.set(bias.subarray(token * (CODES + 1), token * (CODES + 1) + CODES), i * CODES);
    });
    matmul(z, dim, codes, logits, CODES, wanted.length, CODES, dim);
    return logits;
  };
}

// Returns { encode, decode }: RGB bytes (64 * 64 * 3) to tokens and back.
export function tokenizer(tensors, config) {
  const { data: codebook, shape: [, codeDim] } = tensors.codebook;
  const nearest = panels(codeDim, CODES, (row, column) => codebook[column * codeDim + row]);
  const half = Float64Array.from({ length: CODES }, (_, code) =>
    codebook.subarray(code * codeDim, (code + 1) * codeDim).reduce((sum, value) => sum + value * value, 0) / 2);

  function block(name) {
    const of = (end) => part(tensors, `${name}.${end}`);
    const norm1 = normSilu(of("norm1")), first = conv3(of("conv1")), norm2 = normSilu(of("norm2"));
    const second = conv3(of("conv2")), shortcut = of("shortcut").weight && conv1(of("shortcut"));
    return (x) => {
      const h = second(norm2(first(norm1(x))));
      if (shortcut) return shortcut(x, h);
      for (let i = 0; i < h.data.length; i++) h.data[i] += x.data[i];
      return h;
    };
  }

  function network(name, widths, change, last) { // the modules of lab3/model/tokenizer.py, in their order
    let number = 0;
    const next = () => `${name}.${number++}`, modules = [conv3(part(tensors, next()))];
    widths.forEach((stage, i) => {
      if (i) modules.push(change(next));
      for (const _ of stage) modules.push(block(next()));
    });
    modules.push(normSilu(part(tensors, next())));
    number++; // SiLU
    modules.push(last(part(tensors, next())));
    return (x) => modules.reduce((value, module) => module(value), x);
  }

  const encoder = network("encoder", config.encoder, (next) => halve(part(tensors, next())), (own) => {
    const add = conv1(own);
    return (x) => add(x, grid(x.h, x.w, codeDim));
  });
  const decoder = network("decoder", config.decoder, (next) => {
    const conv = conv3(part(tensors, next()));
    next(); // PixelShuffle
    return (x) => shuffled(conv(x));
  }, conv3);

  function shuffled(x) {
    const out = grid(2 * x.h, 2 * x.w, x.c / 4);
    for (let row = 0; row < out.h; row++) for (let column = 0; column < out.w; column++) {
      const from = place(x, row >> 1, column >> 1) + 2 * (row & 1) + (column & 1), to = place(out, row, column);
      for (let c = 0; c < out.c; c++) out.data[to + c] = x.data[from + 4 * c];
    }
    return out;
  }

  const encode = (picture) => scoped(() => {
    const x = grid(64, 64, 3), latents = floats(TOKENS * codeDim), products = floats(TOKENS * CODES).fill(0);
    for (let i = 0; i < 4096; i++)
      for (let c = 0; c < 3; c++) x.data[place(x, i >> 6, i & 63) + c] = picture[3 * i + c] / 127.5 - 1;
    const found = encoder(x);
    for (let i = 0; i < TOKENS; i++) {
      const from = place(found, i >> 4, i & 15);
      latents.set(found.data.subarray(from, from + codeDim), i * codeDim);
    }
    matmul(latents, codeDim, nearest, products, CODES, TOKENS, CODES, codeDim);
    return Array.from({ length: TOKENS }, (_, i) => {
      let best = 0;
      const value = (code) => products[i * CODES + code] - half[code];
      for (let code = 1; code < CODES; code++) if (value(code) > value(best)) best = code;
      return best;
    });
  });

  const decode = (tokens) => scoped(() => {
    const x = grid(SIDE, SIDE, codeDim), picture = new Uint8ClampedArray(64 * 64 * 3);
    tokens.forEach((code, i) => {
      x.data.set(codebook.subarray(code * codeDim, (code + 1) * codeDim), place(x, i >> 4, i & 15));
    });
    const made = decoder(x);
    for (let i = 0; i < 4096; i++)
      for (let c = 0; c < 3; c++) picture[3 * i + c] = (made.data[place(made, i >> 6, i & 63) + c] + 1) * 127.5;
    return picture;
  });
  return { encode, decode };
}
