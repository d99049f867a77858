// Schedules typed as a formula or drawn as a curve: the language and the sentences of lab3/explorer/formula.py.
// A formula is read word by word into functions of r; no text is ever run as code.
const LONGEST = 200, LARGEST = 1e9, HANDLES = 9;
export const POINTS = Array.from({ length: 201 }, (_, i) => (i === 200 ? 1 : i * 0.005));

// Tables without a prototype: `in` finds what is written here and nothing else.
const NAMES = { __proto__: null, r: (r) => r, pi: () => Math.PI, e: () => Math.E };
const FUNCTIONS = {
  __proto__: null, sin: Math.sin, cos: Math.cos, tan: Math.tan, arcsin: Math.asin, arccos: Math.acos,
  arctan: Math.atan, asin: Math.asin, acos: Math.acos, atan: Math.atan, exp: Math.exp, log: Math.log,
  sqrt: Math.sqrt, abs: Math.abs, floor: Math.floor, ceil: Math.ceil, min: Math.min, max: Math.max,
};
const OPERATORS = {
  __proto__: null, "+": (a, b) => a + b, "-": (a, b) => a - b, "*": (a, b) => a * b, "/": (a, b) => a / b,
  // as C and NumPy have them: a remainder has the divisor's sign; 1 to the power of anything is 1
  "%": (a, b) => (a % b && a % b < 0 !== b < 0 ? (a % b) + b : a % b),
  "^": (a, b) => (a === 1 || (a === -1 && Math.abs(b) === Infinity) ? 1 : a ** b),
};
const LEVEL = { __proto__: null, "+": 1, "-": 1, "*": 2, "/": 2, "%": 2, "^": 3 }; // a higher one binds more tightly
const SIGNS = { __proto__: null, "+": (a) => a, "-": (a) => -a };
const SPELLINGS = {
  __proto__: null, "**": ["^"], "²": ["^", "2"], "³": ["^", "3"], π: ["pi"], "−": ["-"], "×": ["*"], "·": ["*"],
};
const MODULES = ["np.", "numpy.", "math.", "torch."];
const NUMBER = /^\.?\d/; // how a word begins that is a number
const WORD = /(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|(np|numpy|math|torch)\.|[A-Za-z_]\w*|\*\*|[^ \t]/gu;

// An error. Its `place` is the character that is wrong, from 0; null where no single one is.
const wrong = (text, place = null) => Object.assign(new Error(text), { place });

// A schedule, a function of progress in [0, 1]. Throws what `wrong` gives.
export function parse(text) {
  const { length } = [...text];
  if (length > LONGEST) throw wrong(`a formula has at most ${LONGEST} characters, not ${length}`, LONGEST);
  const words = [...text.matchAll(WORD)].flatMap(({ 0: found, index }) =>
    (SPELLINGS[found] ?? [found]).map((word) => [word, index]));
  words.push(["", length]);
  if (words.length === 1) throw wrong("write a formula in r, such as 1 - r^3");
  checkWords(words, text);
  const gamma = expression(words);
  if (words[0][0]) throw misplaced(...words[0]);
  const bad = POINTS.find((r) => !(Math.abs(gamma(r)) <= LARGEST)); // NaN among them
  if (bad !== undefined)
    throw wrong(`it has no usable value at r = ${Number(bad.toPrecision(6))}: a root or a logarithm of something ` +
                "negative, a division by 0, or a number above 1e9");
  return gamma;
}

// Throws for unknown words and for habits from paper and Python: `2r`, `cos r`, `np.cos(r)`.
function checkWords(words, text) {
  const products = []; // where a * is missing
  words.slice(0, -1).forEach(([word, place], i) => {
    const [after, itsPlace] = words[i + 1], value = NUMBER.test(word) || word in NAMES;
    if (MODULES.includes(word)) throw wrong(`write functions without “${word}”, as in cos(r)`, place);
    if (!(value || word in FUNCTIONS || word in OPERATORS || "(,)".includes(word)))
      throw wrong(`“${word}” is not known. Progress is r; there are also pi, e, ` +
        `${Object.keys(OPERATORS).join(" ")} and the functions ${Object.keys(FUNCTIONS).join(", ")}`, place);
    if (word in FUNCTIONS && after !== "(")
      throw wrong(`${word} needs brackets, as in ${word}(r${", 1".repeat(FUNCTIONS[word].length - 1)})`, place);
    if ((value || word === ")") && (after in NAMES || after in FUNCTIONS || /^[(\d]/.test(after)))
      products.push(itsPlace);
  });
  if (!products.length) return;
  const cuts = [0, ...products, text.length];
  const right = cuts.slice(1).map((end, i) => text.slice(cuts[i], end).trim()).join(" * ");
  throw wrong(`a product needs its *: ${right}`, products[0]);
}

// A function of r from operands and the operators between them, as far as these have the level `lowest` or a higher
// one. Takes the words that it reads from the front.
function expression(words, lowest = 1) {
  let left = operand(words);
  while (LEVEL[words[0][0]] >= lowest) {
    const [operator] = words.shift(), right = expression(words, LEVEL[operator] + (operator === "^" ? 0 : 1));
    left = applied(OPERATORS[operator], left, right);
  }
  return left;
}

// A number, a name, a call, something in brackets, or one of these with a sign, as a function of r.
function operand(words) {
  const [word, place] = words.shift();
  if (word in SIGNS) return applied(SIGNS[word], expression(words, LEVEL["^"]));
  if (NUMBER.test(word)) return () => Number(word);
  if (word in NAMES) return NAMES[word];
  if (word in FUNCTIONS) words.shift(); // its bracket
  else if (word !== "(") throw wrong("something is missing " + (word ? `before “${word}”` : "at its end"), place);
  const values = [expression(words)];
  while (words[0][0] === ",") {
    words.shift();
    values.push(expression(words));
  }
  const [end, itsPlace] = words.shift(), of = FUNCTIONS[word] ?? SIGNS["+"];
  if (!end) throw wrong("this bracket is not closed", place);
  if (end !== ")") throw misplaced(end, itsPlace);
  if (values.length !== of.length) {
    const name = word.replace("(", "a bracket"), wanted = of.length === 1 ? "one value" : "two values";
    throw wrong(`${name} takes ${wanted}, not ${values.length}`, place);
  }
  return applied(of, ...values);
}

const applied = (of, ...parts) => (r) => of(...parts.map((part) => part(r)));

function misplaced(word, place) {
  const remedy = word === "," ? "write decimals with a point, as in 1.5" : "remove it";
  return wrong(`“${word}” does not belong here: ${remedy}`, place);
}

// A schedule from the heights of a curve at 9 handles, straight in between.
export function drawn(heights) {
  const last = HANDLES - 1;
  return (r) => {
    const i = Math.min(last - 1, Math.floor(r * last));
    return r >= 1 ? heights[last] : ((heights[i + 1] - heights[i]) / (1 / last)) * (r - i / last) + heights[i];
  };
}

// What is unusual about a schedule: a list of sentences.
export function remarks(gamma) {
  const values = POINTS.map(gamma), found = [], last = values.at(-1);
  const two = (number) => (Object.is(number, -0) ? "-" : "") + number.toFixed(2);
  if (Math.abs(values[0] - 1) > 1e-6)
    found.push(`It begins at ${two(values[0])} and not at 1: the first step reveals ` +
               `${values[0] < 1 ? "more than its share" : "one token only, as long as it lies above 1"}.`);
  if (Math.abs(last) > 1e-6)
    found.push(`It ends at ${two(last)} and not at 0: the last step reveals all that is left in any case.`);
  const rise = values.findIndex((one, i) => i < 200 && values[i + 1] - one > 1e-9);
  if (rise >= 0)
    found.push(`It rises after r = ${two(POINTS[rise])}: nothing is hidden again, each step there reveals one token.`);
  const negative = values.findIndex((one) => one < -1e-9);
  if (negative >= 0) found.push(`It is negative from r = ${two(POINTS[negative])} on: nothing stays hidden there.`);
  else if (values.slice(-3).every((one) => one <= 1e-9)) {
    const zero = POINTS[values.findLastIndex((one) => one > 1e-9) + 1];
    found.push(`It is 0 from r = ${two(zero)} on: the steps there reveal nothing, unless a token is left.`);
  }
  return found;
}
