// Iterative decoding, as notebook 05 describes it, step by step, and the generator of all that is drawn.
// The sizes of lab3/presets.py: tokens along a side of a picture, tokens of a picture, codes; pixels along a side.
export const SIDE = 16;
export const TOKENS = SIDE * SIDE;
export const CODES = 1024;
export const PIXELS = 64;

// The tokens that a hole hides, of which not all pixels are known: 64 x 64 truths to 16 x 16.
export function tokensHidden(hole) {
  const mask = Array(TOKENS).fill(false);
  hole.forEach((inside, i) => { if (inside) mask[(i >> 8) * SIDE + ((i & 63) >> 2)] = true; });
  return mask;
}

export const largest = (row) => row.reduce((best, value, i) => (value > row[best] ? i : best), 0);

// Softmax of scale * row, in its place.
export function softmax(row, scale = 1) {
  let most = -Infinity, sum = 0;
  for (let i = 0; i < row.length; i++) if (row[i] > most) most = row[i];
  for (let i = 0; i < row.length; i++) sum += row[i] = Math.exp((row[i] - most) * scale);
  for (let i = 0; i < row.length; i++) row[i] /= sum;
  return row;
}

// Uniform numbers in (0, 1), a function of seed and position alone: Wellons' "lowbias32" hash of a counter.
export function generator(seed) {
  let position = 0;
  return () => {
    let x = (Math.imul(seed, 0x9e3779b9) + position++) | 0;
    x = Math.imul(x ^ (x >>> 16), 0x21f0aaad);
    x = Math.imul(x ^ (x >>> 15), 0x735a2d97);
    return (((x ^ (x >>> 15)) >>> 8) + 0.5) / 2 ** 24;
  };
}

const exponential = (uniform) => Math.fround(-Math.log(uniform()));

// The counting rule: how many of n tokens stay hidden after step t (from 0) of a schedule.
export function stays(gamma, t, totalIter, n, hiddenNow) {
  const share = t + 1 < totalIter ? gamma((t + 1) / totalIter) : 0;
  return Math.max(0, Math.min(Math.floor(share * n), hiddenNow - 1));
}

// Yields a step's { tokens, mask, confidence }: every hidden token predicted, what stays hidden, log p (NaN: known).
export function* decode(forward, tokens, mask, setting) {
  const { gamma, totalIter, sweetSpot, temperature, sampling, order, exact, seed, halton } = setting;
  const all = [...tokens.keys()], n = mask.filter(Boolean).length, uniform = generator(seed);
  let rows = all;
  for (let t = 0; t < sweetSpot; t++) {
    const hidden = all.filter((i) => mask[i]), ratio = (t + 1) / totalIter;
    const confidence = new Array(TOKENS).fill(NaN), sure = new Map();
    tokens = [...tokens];
    if (hidden.length) {
      const logits = forward(tokens.map((code, i) => (mask[i] ? CODES : code)), rows, hidden);
      hidden.forEach((place, i) => {
        const p = softmax(logits.subarray(i * CODES, (i + 1) * CODES));
        // the likeliest code, or one drawn: the largest of p / exponential noise
        tokens[place] = largest(sampling === "argmax" ? p : p.map((value) => value / exponential(uniform)));
        confidence[place] = Math.log(p[tokens[place]]);
      });
      for (const place of hidden) {
        const gumbel = -Math.log(Math.max(exponential(uniform), 1e-20));
        sure.set(place, confidence[place] + temperature * (1 - ratio) * gumbel);
      }
    }
    const stay = stays(gamma, t, totalIter, n, hidden.length);
    if (order === "random") for (const i of all) sure.set(i, -uniform());
    else if (order === "halton") for (const i of all) sure.set(i, -halton[i]);
    const least = [...hidden].sort((a, b) => sure.get(a) - sure.get(b)).slice(0, stay);
    mask = all.map((i) => least.includes(i));
    if (!exact) rows = hidden; // known tokens keep their keys and values
    yield { tokens, mask, confidence };
  }
}
