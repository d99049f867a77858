// Schedules typed as a formula or drawn as a curve: the language and the sentences of lab3/explorer/formula.py.
// A formula is parsed and computed piece by piece; no text is ever run as code.
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
const has = (table, name) => Object.hasOwn(table, name);
// Python's binary operators by how tightly they bind; those that a formula lacks are parsed to be named.
const BINDING = [["or"], ["and"], ["<", ">", "<=", ">=", "==", "!=", "in", "is"], ["|"], ["&"], ["<<", ">>"], ["+", "-"],
                 ["*", "/", "//", "%", "@"]];
const KEYWORDS = new Set(["or", "and", "not", "in", "is", "if", "else", "lambda", "for", "await", "yield", "import",
                          "from", "as", "def", "class", "return", "del", "pass", "raise", "try", "while", "with"]);
const TOKEN = new RegExp([
  /(?<space>[ ]+|#.*)/, /(?<number>(?:0[xob][\da-f_]+|(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:e[+-]?\d+)?)j?)/,
  /(?<name>[a-z_]\w*)/, /(?<string>'[^']*'|"[^"]*")/, /(?<operator>\*\*|\/\/|<<|>>|[<>=!]=|.)/,
].map((one) => one.source).join("|"), "giy");

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
  const placed = (offset) => (offset < places.length ? places[offset] : characters.length);
  const from = (place) => characters.slice(place, place + 12).join("");
  checkWords(code, characters, places);
  const tree = treeOf(code, (offset) => {
    const place = placed(offset), end = place >= characters.length;
    const where = end ? ": something is missing at its end" : `, from “${from(place)}” on`;
    throw new FormulaError(`this is no formula${where}`, place);
  });
  const nodes = [tree];
  for (const node of nodes) nodes.push(...node.parts);
  const size = nodes.reduce((sum, node) => sum + SIZES[node.kind], 0);
  if (size > LARGEST) throw new FormulaError(`a formula has at most ${LARGEST} parts, not ${size}`);
  for (const node of nodes) check(node, placed(node.at), from);
  const gamma = (r) => value(tree, r);
  const bad = POINTS.find((r) => !Number.isFinite(gamma(r)));
  if (bad !== undefined)
    throw new FormulaError(`it has no finite value at r = ${short(bad)}: a root or a logarithm of something negative, ` +
                           "a division by 0, or too large a number");
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
      const example = name === "min" || name === "max" ? "r, 1" : "r";
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

const short = (number) => String(Number(number.toPrecision(6)));
// As Python counts parts: an operator and the reading of a name are parts of their own.
const SIZES = { number: 1, constant: 1, name: 2, unary: 2, binary: 2, call: 1, called: 2, other: 2, pair: 1 };

function treeOf(code, wrong) {
  const tokens = [...code.matchAll(TOKEN)].filter((match) => !match.groups.space).map((match) => {
    const [kind, text] = Object.entries(match.groups).find(([, found]) => found !== undefined);
    return { kind: KEYWORDS.has(text) ? "operator" : kind, text, at: match.index };
  });
  tokens.push({ kind: "end", text: "", at: code.length });
  const open = [];
  tokens.forEach(({ kind, text, at }, i) => { // brackets without a partner, 2r, 007: found before all else
    const next = tokens[i + 1];
    if (kind === "operator" && "([".includes(text)) open.push(at);
    if (kind === "operator" && ")]".includes(text) && code[open.pop()] !== (text === ")" ? "(" : "[")) wrong(at);
    if (kind === "number" && next.kind === "name" && next.at === at + text.length) wrong(next.at - 1);
    if (kind === "number" && /^0\d+$/.test(text) && +text) wrong(at);
  });
  let now = 0;
  const token = () => tokens[now];
  const is = (...texts) => token().kind === "operator" && texts.includes(token().text);
  const eat = (text) => is(text) && tokens[now++];
  const unexpected = () => wrong(token().kind === "end" && open.length ? open.at(-1) : token().at);
  const node = (kind, at, parts = [], more = {}) => ({ kind, at, parts, ...more });

  function expression() {
    const first = binary(0);
    if (!eat("if")) return first;
    const condition = binary(0);
    if (!eat("else")) unexpected();
    return node("other", first.at, [condition, first, expression()]);
  }

  function binary(level) {
    if (level === BINDING.length) return unary();
    if (level === 2 && is("not")) return node("unary", tokens[now++].at, [binary(2)], { sign: "not" });
    let left = binary(level + 1);
    while (is(...BINDING[level])) {
      const operator = tokens[now++].text, right = binary(level + 1);
      left = node(level < 3 ? "other" : "binary", left.at, [left, right], { operator });
    }
    return left;
  }

  function unary() {
    if (!is("+", "-", "~")) return power();
    const { text, at } = tokens[now++];
    return node("unary", at, [unary()], { sign: text });
  }

  function power() {
    const base = primary();
    return eat("**") ? node("binary", base.at, [base, unary()], { operator: "**" }) : base;
  }

  function primary() {
    let made = atom();
    for (;;) {
      if (is("(")) {
        const { parts, names } = list("(", ")");
        if (made.kind === "name") made.kind = "called";
        made = node("call", made.at, [made, ...parts], { names });
      } else if (is("[")) made = node("other", made.at, [made, ...list("[", "]").parts]);
      else if (eat(".")) {
        if (token().kind !== "name") unexpected();
        now++;
        made = node("other", made.at, [made]);
      } else return made;
    }
  }

  function list(left, right) { // after a bracket, up to its partner
    const parts = [];
    now++;
    let names = false, comma = false;
    while (!is(right)) {
      if (token().kind === "name" && tokens[now + 1].text === "=" && left === "(") names = !!(now += 2);
      const star = left === "(" && (eat("*") || eat("**")), first = expression();
      names ||= star.text === "**";
      parts.push(star ? node("other", star.at, [first]) : first);
      if (!is(",", right) && ["name", "number", "string"].includes(token().kind)) {
        expression();
        if (token().kind === "end") unexpected();
        wrong(first.at); // a comma is missing
      }
      if (!(comma = !!eat(",")) && !is(right)) unexpected();
    }
    now++;
    return { parts, names, tuple: comma || parts.length !== 1 };
  }

  function atom() {
    const { kind, text, at } = token();
    if (is("(")) {
      const { parts, tuple } = list("(", ")");
      return tuple ? node("other", at, parts) : parts[0];
    }
    if (is("[")) return node("other", at, list("[", "]").parts);
    if (!["number", "name", "string"].includes(kind)) unexpected();
    now++;
    if (kind === "string" || /^(True|False|None)$|^\d.*j$/i.test(text)) return node("constant", at, [], { text });
    return node(kind, at, [], { text, value: Number(text.replaceAll("_", "")) });
  }

  const trees = [expression()];
  let comma = false;
  while ((comma = !!eat(",")) && token().kind !== "end") trees.push(expression());
  if (token().kind !== "end") unexpected();
  return comma || trees.length > 1 ? node("other", trees[0].at, trees) : trees[0];
}

// Throws for a node that a formula must not hold.
function check(node, place, from) {
  const { kind, text, parts } = node;
  if (kind === "constant") throw new FormulaError(`${text} is no number`, place);
  if (kind === "number" && node.value > 1e9) throw new FormulaError("numbers may go up to 1e9", place);
  if (kind === "name" && text !== "r" && !has(NAMES, text))
    throw new FormulaError(`${text} is not known. Progress is r; there are also ${Object.keys(NAMES).join(", ")} and ` +
                           `the functions ${Object.keys(FUNCTIONS).join(", ")}`, place);
  if (kind === "call") {
    const { kind: called, text: name } = parts[0];
    if (called !== "called" || !has(FUNCTIONS, name))
      throw new FormulaError(`“${from(place)}” does not call one of the functions ${Object.keys(FUNCTIONS).join(", ")}`,
                             place);
    const wanted = name === "min" || name === "max" ? 2 : 1;
    if (node.names || parts.length - 1 !== wanted)
      throw new FormulaError(`${name} takes ${wanted === 1 ? "one value" : "two values"}, not ` +
                             `${node.names ? "names" : parts.length - 1}`, place);
  }
  if ((kind === "binary" && !OPERATORS[node.operator]) || (kind === "unary" && !"+-".includes(node.sign)))
    throw new FormulaError("the operators are + - * / % ^", place);
  if (kind === "other")
    throw new FormulaError("a formula has numbers, r, operators and functions, and nothing else", place);
}

function value({ kind, parts, ...node }, r) {
  if (kind === "number") return node.value;
  if (kind === "name") return node.text === "r" ? r : NAMES[node.text];
  if (kind === "unary") return node.sign === "-" ? -value(parts[0], r) : value(parts[0], r);
  if (kind === "binary") return OPERATORS[node.operator](value(parts[0], r), value(parts[1], r));
  return FUNCTIONS[parts[0].text](...parts.slice(1).map((part) => value(part, r)));
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
