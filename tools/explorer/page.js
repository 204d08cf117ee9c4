"use strict";
// The page's only logic: look up what was computed, hand it to the charts' data sets, say it in words.
const read = (id) => JSON.parse(document.getElementById(id).textContent);
const data = read("page-data");
const specs = read("page-specs");
const at = (id) => document.getElementById(id);
const LISTED = 40; // so many pairs of a region are shown; the sentence says how many there are
const METHODS = {
  loo: ["Leave-one-out (LOO)", "The network is trained again without the training digit; τ is how much its loss on the test digit grows, in nats.", "nats"],
  ats: ["Additional step (ATS)", "The network takes one more training step on the training digit; τ is how much its loss on the test digit falls, in nats.", "nats"],
  influence: ["Influence (IF)", "An estimate of leave-one-out from gradients and the curvature of the loss, without training again.", ""],
  grad_dot: ["Grad-Dot (GD)", "The inner product of the loss gradients of the two digits: would a step on one lower the loss on the other?", ""],
  grad_cos: ["Grad-Cos (GC)", "The cosine of the angle between the loss gradients of the two digits, from −1 to 1.", ""],
  unrolled: ["Unrolled (UR)", "The derivative of the loss on the test digit by the weight of the training digit, through every step of training: leave-one-out to first order, in nats.", "nats"],
};
const PROTOCOLS = {
  paired: ["Paired: as the paper says", "Paired: leave-one-out compares two trainings that share initialisation and batch order, influence is solved to the end, and p is that of a t-test over members."],
  released: ["Released: as its code computes", "Released: leave-one-out goes on training from a finished network, influence stops at its start, and p is without the square root of the number of members. Signs are turned so that positive always helps."],
};
const VERDICTS = {
  2: ["●", "Repeats", "the rule for many tests finds it, so other networks would say the same; that does not make it right"],
  1: ["◐", "May be luck", "p is below 0.05, but the rule for many tests does not find it"],
  0: ["○", "Cannot tell", "these networks do not tell the mean from zero"],
  "-1": ["–", "No score", "a score of this pair is not a number (NaN)"],
};
const nTest = data.test.length;
const state = { ...data.start, region: null };
const views = {};

// ---------------- numbers and words
function number(value) {
  if (value === null) return "NaN";
  const size = Math.abs(value);
  const text = size !== 0 && (size < 1e-3 || size >= 1e4) ? value.toExponential(1) : String(Number(value.toPrecision(3)));
  return text.replaceAll("-", "−");
}
const signed = (value) => (value > 0 ? "+" : "") + number(value);
const pText = (p) => (p === null ? "p: NaN" : p < 0.001 ? "p < 0.001" : `p = ${p.toFixed(p < 0.1 ? 3 : 2)}`);
const result = (method = state.method) => data.results[state.protocol][method];
function pairOf(train, test, method = state.method) {
  const one = result(method);
  const i = train * nTest + test;
  const [mean, std, p, half, verdict] = ["mean", "std", "p", "half", "verdict"].map((name) => one[name][i]);
  const known = mean !== null && half !== null;
  return {
    train, test, mean, std, p, half, verdict, known,
    low: known ? mean - half : null, high: known ? mean + half : null,
    side: mean !== null && mean < 0 ? "hurts" : "helps",
    name: `${data.train[train].index} → ${data.test[test].index}`,
    chosen: train === state.train && test === state.test,
  };
}
function drawsOf(train, test) {
  const each = data.members * data.checkpoints;
  const from = (train * nTest + test) * each;
  const values = data.draws[result().draws].slice(from, from + each);
  const members = [];
  for (let m = 0; m < data.members; m++) {
    const own = values.slice(m * data.checkpoints, (m + 1) * data.checkpoints);
    members.push(own.includes(null) ? null : own.reduce((a, b) => a + b, 0) / own.length);
  }
  const rows = (list) => list.filter((tau) => tau !== null).map((tau) => ({ tau }));
  return { draws: rows(values), members: rows(members) };
}
// Two methods contradict each other where both repeat, with opposite signs.
function opponents(method, train, test) {
  const own = pairOf(train, test, method);
  if (own.verdict !== 2) return [];
  return Object.keys(data.labels).filter((other) => {
    const pair = pairOf(train, test, other);
    return pair.verdict === 2 && pair.side !== own.side;
  });
}
const names = (methods) => methods.map((method) => METHODS[method][0]).join(", ");
const digit = (kind, i) => `${kind} digit ${data[kind][i].index} (a ${data[kind][i].label})`;

// ---------------- controls
function element(tag, attributes = {}, ...children) {
  const made = Object.assign(document.createElement(tag), attributes);
  made.append(...children);
  return made;
}
function picture(kind, i, alt = "") {
  return element("img", { src: data[kind][i].picture, alt });
}
function radio(name, value, checked, label, choose) {
  const input = element("input", { type: "radio", name, value, checked });
  input.setAttribute("aria-label", label);
  input.addEventListener("change", choose);
  return input;
}
function fillControls() {
  for (const method of Object.keys(data.labels)) {
    const input = radio("method", method, method === state.method, METHODS[method][0], () => update({ method }));
    at("methods").append(element("label", {}, input, METHODS[method][0]));
  }
  for (const protocol of Object.keys(data.results)) {
    const input = radio("protocol", protocol, protocol === state.protocol, PROTOCOLS[protocol][0], () => update({ protocol }));
    at("protocols").append(element("label", {}, input, PROTOCOLS[protocol][0]));
  }
  data.test.forEach((one, test) => {
    const input = radio("test", test, test === state.test, `Test digit ${one.index}, a ${one.label}`, () => update({ test }));
    at("tests").append(element("label", { title: `test digit ${one.index}` }, picture("test", test), input));
  });
}

// ---------------- what is drawn
function ranked() {
  const rows = data.train.map((_, train) => pairOf(train, state.test));
  rows.sort((a, b) => (a.known === b.known ? (b.mean ?? 0) - (a.mean ?? 0) || a.train - b.train : a.known ? -1 : 1));
  rows.forEach((row, i) => (row.rank = i + 1));
  return rows;
}
function showRanking(rebuild) {
  const rows = ranked();
  if (rebuild) {
    const old = at("trains").contains(document.activeElement);
    at("trains").querySelectorAll(".row").forEach((row) => row.remove());
    for (const row of rows) {
      const said = `Rank ${row.rank}: ${digit("train", row.train)}, mean ${signed(row.mean)}, ${pText(row.p)}, ${VERDICTS[row.verdict][1]}`;
      const input = radio("train", row.train, row.chosen, said, () => update({ train: row.train }));
      const line = element("label", { className: "row" }, input,
        element("span", { className: "rank", textContent: row.rank }), picture("train", row.train),
        element("span", { textContent: `${VERDICTS[row.verdict][0]} ${signed(row.mean)}` }),
        element("span", { className: "p", textContent: pText(row.p) }));
      line.style.height = `${data.rowHeight}px`;
      at("trains").append(line);
      if (old && row.chosen) input.focus();
    }
  }
  const members = rows.flatMap((row) => drawsOf(row.train, row.test).members.map(({ tau }) => ({ rank: row.rank, tau })));
  const drawn = rows.map((row) => (row.known ? row : { ...row, mean: null }));
  const small = rows.filter((row) => row.verdict > 0).length;
  at("ranking").setAttribute("aria-label", `Means and intervals of ${rows.length} training digits for ${digit("test", state.test)}; ${small} have p below 0.05. The list beside it has the numbers.`);
  return views.ranking.data("rows", drawn).data("members", members).data("zero", [{ at: 0 }]).runAsync().then(alignRows);
}
// Rows of the list and of the chart have one height; only the chart has an axis above them.
const headOfRanking = () => views.ranking.origin()[1] + views.ranking.padding().top;
function alignRows() {
  at("trains").style.paddingTop = `${headOfRanking()}px`;
}
function showAnswer(announce) {
  const pair = pairOf(state.train, state.test);
  const [symbol, word, reason] = VERDICTS[pair.verdict];
  const unit = METHODS[state.method][2] && ` ${METHODS[state.method][2]}`;
  const test = state.protocol === "paired" ? `t-test over ${data.members} members` : `released formula, ${data.members} members`;
  const does = pair.verdict > 0 ? (pair.side === "helps" ? "It helps. " : "It hurts. ") : "";
  at("verdict").textContent = `${symbol} ${word}: ${reason}.`;
  const numbers = pair.known
    ? `mean τ ${signed(pair.mean)}${unit}, 95 % interval ${signed(pair.low)} to ${signed(pair.high)}, standard deviation ${number(pair.std)}, ${pText(pair.p)} (${test}).`
    : "there is no mean and no p-value.";
  showMethods();
  at("sentence").textContent = `${does}${digit("train", state.train).replace("train", "Training")}, ${digit("test", state.test)}: ${numbers}`;
  const figure = (kind, title) => element("figure", {}, picture(kind, state[kind], digit(kind, state[kind])), element("figcaption", { textContent: `${title} ${data[kind][state[kind]].index}` }));
  at("pair").replaceChildren(figure("train", "train"), "→", figure("test", "test"));
  if (announce) at("live").textContent = `${METHODS[state.method][0]}, ${state.protocol}. ${word}. ${at("sentence").textContent}`;
  const { draws, members } = drawsOf(state.train, state.test);
  at("histogram").setAttribute("aria-label", `Histogram of ${draws.length} values of τ: ${members.filter(({ tau }) => tau > 0).length} of ${members.length} members are above zero. ${numbers}`);
  return views.histogram.data("draws", draws).data("members", members).data("zero", [{ at: 0 }])
    .data("mean", pair.known ? [{ at: pair.mean }] : []).runAsync();
}
function showMethods() {
  const rows = Object.keys(data.labels).map((method) => {
    const pair = pairOf(state.train, state.test, method);
    const against = opponents(method, state.train, state.test);
    const [symbol, word] = VERDICTS[pair.verdict];
    const said = against.length ? `≠ contradicts ${names(against)}` : "";
    const row = element("tr", { className: against.length ? "against" : "" },
      element("th", { scope: "row", textContent: METHODS[method][0] }),
      element("td", { textContent: `${symbol} ${word}` }),
      element("td", { textContent: pair.mean === null ? "" : pair.side }),
      element("td", { textContent: pText(pair.p) }),
      element("td", { textContent: said }));
    row.dataset.method = method;
    return row;
  });
  at("compared").replaceChildren(...rows);
  const found = data.contradictions[state.protocol];
  const worst = Object.entries(found.of_two).sort(([, a], [, b]) => b[1] - a[1])[0];
  const all = `In ${found.pairs} of ${data.train.length * nTest} pairs two methods repeat opposite signs.`;
  at("contradictions").textContent = worst && worst[1][1]
    ? `${all} Most often ${names(worst[0].split(","))}: of ${worst[1][0]} pairs that both repeat, ${worst[1][1]} are opposite.`
    : all;
}
function allPairs() {
  return data.train.flatMap((_, train) => data.test.map((__, test) => pairOf(train, test)));
}
function inRegion(pair) {
  const { region } = state;
  if (!region || pair.p === null) return false;
  if (region.kind === "p") return pair.p >= region.from && pair.p <= region.to;
  const within = ([a, b], value) => value >= Math.min(a, b) && value <= Math.max(a, b);
  return drawable(pair) && within(region.size, Math.abs(pair.mean)) && within(region.std, pair.std);
}
const drawable = (pair) => pair.known && pair.mean !== 0 && pair.std > 0;
function showScatter() {
  const everything = allPairs();
  const pairs = everything.filter(drawable).map((pair) => ({ ...pair, size: Math.abs(pair.mean), listed: inRegion(pair) }));
  const missing = everything.length - pairs.length;
  at("unseen-pairs").textContent = missing ? `${missing} pairs are not drawn: their mean or standard deviation is zero, or not a number.` : "";
  const threshold = data.thresholds[state.protocol];
  const stds = pairs.map((pair) => pair.std);
  const sizes = pairs.map((pair) => pair.size);
  // As far as the pairs reach in either direction, so that the line does not widen the axes.
  const low = Math.max(Math.min(...sizes), threshold * Math.min(...stds));
  const high = Math.min(Math.max(...sizes), threshold * Math.max(...stds));
  const line = pairs.length && low < high ? [low, high].map((size) => ({ size, std: size / threshold })) : [];
  const small = everything.filter((pair) => pair.verdict > 0).length;
  at("scatter").setAttribute("aria-label", `Mean against standard deviation of ${pairs.length} pairs; ${small} have p below 0.05. The chosen pair: ${at("sentence").textContent}`);
  return views.scatter.signal("filtering", state.region !== null).data("pairs", pairs).data("line", line).runAsync();
}
function showRegion() {
  const found = allPairs().filter(inRegion).sort((a, b) => a.p - b.p || a.train - b.train || a.test - b.test);
  const words = state.region && (state.region.kind === "p" ? `with p from ${number(state.region.from)} to ${number(state.region.to)}` : "in the box");
  const more = found.length > LISTED ? ` The ${LISTED} with the smallest p are shown.` : "";
  at("region-text").textContent = state.region ? `${found.length} of ${data.train.length * nTest} pairs ${words}.${more}` : "No region is selected.";
  at("region-list").replaceChildren(...found.slice(0, LISTED).map((pair) => {
    const said = `${VERDICTS[pair.verdict][0]} ${VERDICTS[pair.verdict][1]}: ${pair.side}, ${signed(pair.mean)}, ${pText(pair.p)}`;
    const button = element("button", { type: "button" }, picture("train", pair.train, digit("train", pair.train)), "→",
      picture("test", pair.test, digit("test", pair.test)), element("span", { textContent: said }));
    button.dataset.pair = `${pair.train},${pair.test}`;
    button.setAttribute("aria-pressed", pair.chosen);
    button.addEventListener("click", () => update({ train: pair.train, test: pair.test }));
    return element("li", {}, button);
  }));
}
function markListed() {
  for (const button of at("region-list").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", button.dataset.pair === `${state.train},${state.test}`);
  }
}
function showWords() {
  at("about").textContent = `${METHODS[state.method][1]} ${PROTOCOLS[state.protocol][1]}`;
  at("interval").textContent = state.protocol === "paired"
    ? "Here the interval says where the mean lies." : "Here the interval says where the score of one network lies.";
  const fraction = data.noise[state.protocol];
  at("noise").textContent = `From pure noise, ${number(100 * fraction)} % of pairs would have a p below 0.05 under the protocol chosen above.`;
  const lost = result().verdict.filter((verdict) => verdict === -1).length;
  at("nan").textContent = lost ? `Here that is so for ${lost} pairs.` : "Here no pair is affected.";
}

// ---------------- one way for every change
let done = Promise.resolve();
function update(change) {
  const anew = "method" in change || "protocol" in change;
  Object.assign(state, change);
  if (anew && state.region && state.region.kind === "box") {
    clearBox(); // the axes change, so a box would hold other pairs than the ones chosen
    state.region = null;
  }
  for (const name of ["method", "protocol", "test", "train"]) {
    const chosen = document.querySelector(`input[name="${name}"][value="${state[name]}"]`);
    if (chosen) chosen.checked = true;
  }
  showWords();
  done = Promise.all([showRanking(anew || "test" in change), showAnswer(true), showScatter()]);
  if (anew || "region" in change) showRegion();
  else markListed();
  return done;
}
function clearBox() {
  views.scatter.signal("brush_x", [0, 0]).signal("brush_y", [0, 0]).run();
}
function listen() {
  views.ranking.addEventListener("click", (event) => {
    const top = at("ranking").getBoundingClientRect().top + headOfRanking();
    const row = ranked()[Math.floor((event.clientY - top) / data.rowHeight)];
    if (row) update({ train: row.train });
  });
  views.scatter.addEventListener("click", (_, item) => {
    if (item && item.datum && "train" in item.datum) update({ train: item.datum.train, test: item.datum.test });
  });
  views.scatter.addSignalListener("brush", (_, box) => {
    const full = box.size && box.std && box.size[0] !== box.size[1] && box.std[0] !== box.std[1];
    if (full) update({ region: { kind: "box", size: box.size, std: box.std } });
    else if (state.region && state.region.kind === "box") update({ region: null });
  });
  at("region").addEventListener("submit", (event) => {
    event.preventDefault();
    const [from, to] = ["p-from", "p-to"].map((id) => at(id).valueAsNumber);
    if (!(from <= to)) {
      at("region-text").textContent = "Give two numbers from 0 to 1, the smaller one first.";
      return;
    }
    state.region = null;
    clearBox();
    update({ region: { kind: "p", from, to } });
  });
  at("clear").addEventListener("click", () => {
    state.region = null;
    clearBox();
    update({ region: null });
  });
}
function colour(dark) {
  for (const view of Object.values(views)) {
    for (const [name, value] of Object.entries(data.themes[dark ? "dark" : "light"])) view.signal(name, value);
  }
}
async function start() {
  fillControls();
  specs.ranking.height = data.rowHeight * data.train.length;
  // Errors alone: that a chart has no extent yet, before its data sets are filled, is no news.
  const options = { actions: false, renderer: "svg", mode: "vega-lite", logLevel: 1 };
  for (const [name, spec] of Object.entries(specs)) {
    views[name] = (await window.vegaEmbed(at(name), spec, options)).view;
    // The chart's own box is the picture, and its label says what is in it; marks one by one would only be noise.
    at(name).querySelector("svg").setAttribute("aria-hidden", "true");
  }
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  colour(scheme.matches);
  scheme.addEventListener("change", () => {
    colour(scheme.matches);
    Object.values(views).forEach((view) => view.runAsync());
  });
  listen();
  showWords();
  showRegion();
  await Promise.all([showRanking(true), showAnswer(false), showScatter()]);
  new ResizeObserver(alignRows).observe(at("ranking"));
  window.explorer = { views, state, settled: () => done.then(() => {}) };
  document.body.dataset.ready = "true";
}
start();
