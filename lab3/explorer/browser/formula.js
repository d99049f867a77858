// Schedules typed as a formula or drawn as a curve: the language and the sentences of lab3/explorer/formula.py.
// A formula is parsed and computed piece by piece; no text is ever run as code. Python expressions that a student
// might try are parsed so that the message can name them; anything else is refused as a formula.
const LONGEST = 200, LARGEST = 200;
export const POINTS = Array.from({ length: 201 }, (_, i) => (i === 200 ? 1 : i * 0.005));
const HANDLES = 9;

const NAMES = { pi: Math.PI, e: Math.E };
const SPELLINGS = { "^": "**", "π": "pi ", "−": "-", "×": "*", "·": "*", "²": "**2", "³": "**3", "\t": " " };
const FUNCTIONS = {
  sin: Math.sin, cos: Math.cos, tan: Math.tan, arcsin: Math.asin, arccos: Math.acos, arctan: Math.atan,
  asin: Math.asin, acos: Math.acos, atan: Math.atan, exp: Math.exp, log: Math.log, sqrt: Math.sqrt,
  abs: Math.abs, floor: Math.floor, ceil: Math.ceil, min: Math.min, max: Math.max,
};
const OPERATORS = {
  "+": (a, b) => a + b, "-": (a, b) => a - b, "*": (a, b) => a * b, "/": (a, b) => a / b,
  // as C and NumPy have them: 1 to the power of anything is 1; a remainder has the divisor's sign
  "**": (a, b) => (a === 1 || (a === -1 && Math.abs(b) === Infinity) ? 1 : a ** b),
  "%": (a, b) => (a % b && a % b < 0 !== b < 0 ? (a % b) + b : a % b),
};
const WORDS = /(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|[a-z_]\w*|\S/gi;
const MODULES = ["np", "numpy", "math", "torch"];
// Python's binary operators by how tightly they bind; signs come between the last two.
const LEVELS = [[","], ["if", "else"], ["or"], ["and"], ["<", ">", "<=", ">=", "==", "!=", "in", "is"], ["|"], ["&"],
                ["<<", ">>"], ["+", "-"], ["*", "/", "//", "%", "@"], ["**"]];
const POWER = LEVELS.length - 1, ARGUMENT = 1, BITS = 5;
const TOKEN = new RegExp([
  /(?<space>[ ]+|#.*)/, /(?<number>(?:0[xob][\da-f_]+|(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:e[+-]?\d+)?)j?)/,
  /(?<name>[a-z_]\w*)/, /(?<string>'[^']*'|"[^"]*")/, /(?<operator>\*\*|\/\/|<<|>>|[<>=!]=|.)/,
].map((one) => one.source).join("|"), "gi");
const has = (table, name) => Object.hasOwn(table, name);
const values = (name) => (name === "min" || name === "max" ? 2 : 1);
const known = Object.keys(FUNCTIONS).join(", ");

class FormulaError extends Error {
  constructor(text, place = null) {
    super(text);
    this.place = place;
  }
}

// A schedule, a function of progress in [0, 1]. Throws a FormulaError.
export function parse(typed) {
  const text = typed.trim(), characters = [...text];
  if (!text) throw new FormulaError("write a formula in r, such as 1 - r^3");
  if (characters.length > LONGEST)
    throw new FormulaError(`a formula has at most ${LONGEST} characters, not ${characters.length}`, LONGEST);
  const written = characters.map((one) => SPELLINGS[one] ?? one);
  const strange = written.findIndex((one) => !/^[ -~]+$/.test(one));
  if (strange >= 0) throw new FormulaError(`“${characters[strange]}” has no place in a formula`, strange);
  const code = written.join(""), places = written.flatMap((one, place) => [...one].map(() => place));
  checkWords(code, characters, places);
  const nodes = [treeOf(code, (offset) => {
    const place = places[offset] ?? characters.length, from = characters.slice(place, place + 12).join("");
    return { place, from };
  })];
  for (const { parts } of nodes) nodes.push(...parts);
  const size = nodes.reduce((sum, node) => sum + node.size, 0), wrong = nodes.find((node) => node.wrong);
  if (size > LARGEST) throw new FormulaError(`a formula has at most ${LARGEST} parts, not ${size}`);
  if (wrong) throw new FormulaError(wrong.wrong, wrong.place);
  const gamma = nodes[0].value, bad = POINTS.find((r) => !Number.isFinite(gamma(r)));
  if (bad !== undefined)
    throw new FormulaError(`it has no finite value at r = ${Number(bad.toPrecision(6))}: a root or a logarithm of ` +
                           "something negative, a division by 0, or too large a number");
  return gamma;
}

// Throws for habits from paper and from Python: `2r`, `cos r`, `np.cos(r)`.
function checkWords(code, characters, places) {
  const words = [...code.matchAll(WORDS)], products = []; // where a * is missing
  words.forEach(({ 0: name, index }, i) => {
    const after = words[i + 1], following = after?.[0] ?? "", place = places[index];
    if (MODULES.includes(name) && following === ".")
      throw new FormulaError(`write functions without “${name}.”, as in cos(r)`, place);
    if (has(FUNCTIONS, name)) {
      const example = values(name) === 2 ? "r, 1" : "r";
      if (following !== "(") throw new FormulaError(`${name} needs brackets, as in ${name}(${example})`, place);
    } else if ((has(NAMES, name) || ["r", ")"].includes(name) || /^[\d.]/.test(name)) && (has(NAMES, following)
               || has(FUNCTIONS, following) || ["r", "("].includes(following) || /^\d/.test(following)))
      products.push(places[after.index]);
  });
  if (!products.length) return;
  const cuts = [0, ...products, characters.length];
  const right = cuts.slice(1).map((end, i) => characters.slice(cuts[i], end).join("").trim()).join(" * ");
  throw new FormulaError(`a product needs its *: ${right}`, products[0]);
}

// A tree of nodes { at, place, size, parts, value, wrong }: where it begins in the code and in the text, how many parts
// Python counts in it besides those below, what it comes to, a function of r, or what is wrong with it.
function treeOf(code, placed) {
  const tokens = [...code.matchAll(TOKEN)].filter((match) => !match.groups.space).map((match) => {
    const [kind, text] = Object.entries(match.groups).find(([, found]) => found !== undefined);
    return { kind: LEVELS.flat().includes(text) ? "operator" : kind, text, at: match.index };
  });
  tokens.push({ kind: "end", text: "", at: code.length });
  const open = [];
  let now = 0;
  const is = (text) => tokens[now].kind === "operator" && tokens[now].text === text;
  const node = (at, size, value, wrong, parts = []) => ({ at, place: placed(at).place, size, parts, value, wrong });

  function unexpected(at = tokens[now].at) { // at the end it is the bracket that was not closed
    const { place, from } = placed(at === code.length ? open.at(-1) ?? at : at);
    const where = from ? `, from “${from}” on` : ": something is missing at its end";
    throw new FormulaError(`this is no formula${where}`, place);
  }

  function expression(lowest) {
    let left = operand();
    for (;;) {
      const { kind, text } = tokens[now], level = LEVELS.findIndex((one) => kind === "operator" && one.includes(text));
      if (level < lowest || level < 0) return left;
      now++;
      const a = left, b = expression(level === POWER ? level : level + 1), operator = OPERATORS[text];
      const wrong = level < BITS ? "a formula has numbers, r, operators and functions, and nothing else"
        : operator ? null : "the operators are + - * / % ^";
      left = node(a.at, 2, (r) => operator(a.value(r), b.value(r)), wrong, [a, b]);
    }
  }

  function operand() {
    const { kind, text, at } = tokens[now++], next = tokens[now];
    if (kind === "operator" && "+-~".includes(text)) {
      const of = expression(POWER), sign = text === "-" ? -1 : 1;
      return node(at, 2, (r) => sign * of.value(r), text === "~" ? "the operators are + - * / % ^" : null, [of]);
    }
    if (kind === "operator" && text === "(") {
      const [inside] = bracketed(at, 0);
      return inside ?? unexpected(at);
    }
    if (kind === "number" && next.kind === "name" && next.at === at + text.length) unexpected(next.at - 1);
    if (kind === "number" && /^0+[1-9]\d*$/.test(text)) unexpected(at);
    if (kind === "string" || /^(True|False|None)$|^\d.*j$/i.test(text))
      return node(at, 1, null, `${text} is no number`);
    if (kind === "number") {
      const number = Number(text.replaceAll("_", ""));
      return node(at, 1, () => number, number > 1e9 ? "numbers may go up to 1e9" : null);
    }
    if (kind !== "name") unexpected(at);
    if (is("(")) return call(text, at);
    if (text === "r") return node(at, 2, (r) => r);
    const others = `${Object.keys(NAMES).join(", ")} and the functions ${known}`;
    return node(at, 2, () => NAMES[text], has(NAMES, text) ? null
      : `${text} is not known. Progress is r; there are also ${others}`);
  }

  function call(name, at) {
    const parts = bracketed(tokens[now++].at, ARGUMENT), of = FUNCTIONS[name], wanted = values(name);
    let wrong = null;
    if (!has(FUNCTIONS, name)) wrong = `“${placed(at).from}” does not call one of the functions ${known}`;
    else if (parts.length !== wanted)
      wrong = `${name} takes ${wanted === 1 ? "one value" : "two values"}, not ${parts.length}`;
    return node(at, 3, (r) => of(...parts.map((part) => part.value(r))), wrong, parts);
  }

  // The expressions after a bracket that was just read, up to its partner, with commas between.
  function bracketed(at, lowest) {
    const parts = [];
    open.push(at);
    while (!is(")")) {
      parts.push(expression(lowest));
      if (["name", "number"].includes(tokens[now].kind)) unexpected(parts.at(-1).at); // a comma is missing
      if (is(",")) now++;
      else if (!is(")")) unexpected();
    }
    now++;
    open.pop();
    return parts;
  }

  const tree = expression(0);
  if (tokens[now].kind !== "end") unexpected();
  return tree;
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
