
// ---- What is shown

const report = JSON.parse(document.getElementById("data").textContent);
const sections = document.getElementById("sections");
const MB = 1e6;

// Each method has one colour here and in comparison.png, the controls are grey. Markers tell apart those of one colour.
const styles = {};
report.methods.forEach(({ name, colour }, place) => {
  const control = colour === null, look = (control ? place : colour + 3 * Math.floor(colour / 8)) % 8;
  styles[name] = { name, cls: control ? "control" : `s${colour % 8}`, shape: SHAPES[look], dash: control ? "5 4" : DASHES[look] };
});
const styleOf = (name) => styles[name] || { name, cls: "control", shape: "star", dash: "1 4" };
const trainedMethods = report.methods.filter((method) => method.trained).map((method) => method.name);

function section(id, title, ...children) {
  const node = h("section", { "aria-labelledby": id }, h("h2", { id }, title), children);
  sections.append(node);
  document.querySelector("#contents ul").append(h("li", null, h("a", { href: `#${id}` }, title)));
  return node;
}
const quiet = (...text) => h("p", { class: "quiet" }, text);
const list = (names) => names.join(", ");

function select(label, options, chosen, changed) {
  const node = h("select", { on: { change: () => changed(node.value) } },
    options.map(([value, text]) => h("option", { value, selected: value === chosen }, text)));
  return h("label", null, label, node);
}

// ---- Heading: the verdict, and what speaks against it

function heading() {
  document.title = `${report.title} \u2013 gantune comparison`;
  document.getElementById("title").textContent = report.title;
  document.getElementById("verdict").append(
    quiet(report.setting.map(([, value]) => value).join(" \u00b7 ")), // as written: a path in capitals is another path
    h("ul", { class: "verdict", "aria-label": "Verdict" }, report.verdict.map((line) => h("li", null, line))));
  if (report.cautions.length) {
    document.getElementById("verdict").append(h("details", { class: "cautions", open: report.cautions.length <= 3 },
      h("summary", null, report.cautions.length === 1 ? "One caution" : `${report.cautions.length} cautions`),
      h("ul", { class: "notes", "aria-label": "Cautions" }, report.cautions.map((line) => h("li", null, line)))));
  }
  document.getElementById("contents").append(h("ul"));
}

// ---- Notes, and where the figures are from

function noted() {
  const groups = report.notes.filter(([, lines]) => lines.length);
  if (!groups.length) return;
  section("notes", "Notes", groups.map(([title, lines]) => [h("h3", null, title),
    h("ul", { class: "said", "aria-label": title }, lines.map((line) => h("li", null, line)))]));
}

function provenance() {
  const node = section("provenance", "Where the figures are from");
  node.append(h("dl", { class: "facts" }, report.facts.flatMap(([name, value]) => [h("dt", null, name), h("dd", null, value)])));
  if (report.command) {
    const code = h("code", null, report.command);
    const copied = h("span", { class: "hidden", role: "status" });
    const button = h("button", { type: "button", class: "screen", on: { click: copy } }, "Copy");
    async function copy() {
      try {
        await navigator.clipboard.writeText(report.command);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(code);
        button.textContent = "Selected";
      }
      copied.textContent = `Command ${button.textContent.toLowerCase()}`;
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    }
    node.append(h("div", { class: "command" }, h("pre", { "aria-label": "Command to reproduce" }, code), button, copied));
  } else node.append(quiet("Command to reproduce: not stored."));
  if (report.settings.length) {
    node.append(h("details", null, h("summary", null, `All ${report.settings.length} settings of tuning`),
      h("dl", { class: "facts" }, report.settings.map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value))))));
  }
}

// ---- Tables that sort by a click on a heading

/* `columns`: {heading, better, text}; `rows`: a list of cells, each {value, node}. */
function sortableTable(caption, columns, rows) {
  const body = h("tbody");
  const order = { column: null, direction: 1 };
  const headings = columns.map((column, i) => {
    const arrow = { high: ["\u2191", "higher is better"], low: ["\u2193", "lower is better"] }[column.better];
    const button = h("button", { type: "button", on: { click: () => sort(i) } }, column.heading,
      arrow && [h("span", { "aria-hidden": "true" }, ` ${arrow[0]}`), h("span", { class: "hidden" }, `, ${arrow[1]}`)]);
    return h("th", { scope: "col", "aria-sort": "none", class: column.text && "text" }, button);
  });
  function show(ordered) {
    body.replaceChildren(...ordered.map((row) => h("tr", { "data-row": row[0].value, class: row[0].control && "control-row" }, row.map((cell) => cell.node))));
  }
  function sort(i) {
    const first = columns[i].text || columns[i].better === "low" ? 1 : -1;
    order.direction = order.column === i ? -order.direction : first;
    order.column = i;
    headings.forEach((th, j) => th.setAttribute("aria-sort", j !== i ? "none" : order.direction > 0 ? "ascending" : "descending"));
    const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b) : a - b);
    const missing = (row) => row[i].value === null;
    show([...rows.filter((row) => !missing(row)).sort((a, b) => order.direction * compare(a[i].value, b[i].value)), ...rows.filter(missing)]);
  }
  show(rows);
  return [quiet(caption), h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", { "aria-label": caption }, h("thead", null, h("tr", null, headings)), body))];
}

const cell = (value, text, extra = {}) => ({
  value: value ?? null,
  node: h("td", { class: extra.best ? "best" : known(value) || typeof value === "string" ? null : "none" }, text,
    extra.best && h("span", { class: "hidden" }, " (best)"), extra.small && h("small", null, extra.small)),
});
// A name may break after a colon.
const rowHeading = (text, small, control = false) => ({ value: text, control,
  node: h("th", { scope: "row" }, ...text.split(/(?<=:)/).flatMap((part) => [h("wbr"), part]), small && h("small", null, small)) });

function results() {
  const { columns, rows, reference } = report.table;
  const node = section("results", "Results");
  if (!rows.length) return void node.append(quiet("No run has ended yet."));
  const ended = (row) => row.runs.success || 0;
  const seeds = Math.max(...rows.map(ended));
  const heads = [{ heading: "method", text: true }, ...columns];
  const runs = (row) => ended(row) === seeds && Object.keys(row.runs).length === 1 ? null
    : Object.entries(row.runs).map(([status, count]) => (status === "success" ? `${count} of ${report.seeds.length} seeds` : `${count} ${status}`)).join(", ");
  const cells = rows.flatMap((row) => row.cells).filter(Boolean);
  const intervals = cells.some((one) => one.interval), marked = cells.some((one) => one.best);
  const few = seeds > 1 ? `Means over ${seeds} seeds, too few for an interval.` : "One seed: no interval.";
  node.append(...sortableTable(
    intervals ? `Means over ${seeds} seeds, below them half of the 95 % confidence interval (Student's t).` : few,
    heads,
    rows.map((row) => [rowHeading(row.method, runs(row), row.control), ...row.cells.map((one) =>
      one ? cell(one.mean, one.text, { small: one.interval, best: one.best }) : cell(null, "\u2013"))])));
  node.append(quiet(
    "\u2191 higher is better, \u2193 lower is better; memory is the peak above the loaded model. ",
    h("span", { class: "screen" }, "A click on a heading sorts. "),
    marked ? "Bold: the best mean, where its interval overlaps with no other."
      : intervals ? "No value is marked as the best: the intervals of the best overlap with others."
        : "No value is marked as the best without intervals."));
  if (reference && rows.length > 1) {
    node.append(h("details", { class: "screen" }, h("summary", null, `Ratio to ${reference}`), sortableTable(`Means divided by those of ${reference}.`, heads,
      rows.filter((row) => row.method !== reference).map((row) => [rowHeading(row.method, null, row.control), ...row.cells.map((one) =>
        one && known(one.ratio) ? cell(one.ratio, `${one.ratio.toFixed(2)} \u00d7`) : cell(null, "\u2013"))]))));
  }
}

// ---- The table of the task, and the published one

function task() {
  if (!report.task) return;
  const [title, [heads, ...rows]] = report.task;
  const number = (text) => (Number.isNaN(parseFloat(text)) ? text : parseFloat(text));
  section("task", title).append(...sortableTable(`${title}.`, heads.map((heading, i) => ({ heading, text: i < 2 })),
    rows.map(([method, ...texts]) => [rowHeading(method), ...texts.map((text) => cell(number(text), text))])));
}

function published() {
  if (!report.published) return;
  const { title, grid: [heads, ...rows], notes } = report.published;
  const number = (text) => (Number.isNaN(parseFloat(text)) ? null : parseFloat(text));
  section("published", title).append(...sortableTable(`${title}.`, heads.map((heading, i) => ({ heading, text: i === 0 })),
    rows.map(([name, ...texts]) => [rowHeading(name), ...texts.map((text) => cell(number(text), text))])),
  h("ul", { class: "said" }, notes.map((line) => h("li", null, line))));
}

// ---- What is known after tuning

function forgetting() {
  if (!report.forgetting) return;
  const { tables, notes } = report.forgetting;
  const node = section("forgetting", "Forgetting");
  const cells = tables.flatMap((table) => table.rows.flatMap((row) => row.cells)).filter(Boolean);
  node.append(h("div", { class: "tables" }, tables.map(({ title, columns, rows }) => {
    const [, scroll] = sortableTable(title, [{ heading: "method", text: true }, ...columns],
      rows.map((row) => [rowHeading(row.method), ...row.cells.map((one) =>
        one ? cell(one.mean, one.text, { small: one.interval, best: one.best }) : cell(null, "\u2013"))]));
    scroll.classList.add("wrapped");
    return h("div", { class: "together" }, h("h3", null, title[0].toUpperCase() + title.slice(1)), scroll);
  })));
  node.append(quiet(cells.some((one) => one.interval) ? "Means over seeds, below them half of the 95 % confidence interval. " : "One seed: no interval. ",
    cells.some((one) => one.best) ? "Bold: the best mean, where its interval overlaps with no other." : "No value is marked as the best."));
  node.append(h("ul", { class: "said" }, notes.map((line) => h("li", null, line))));
}

// ---- What a judge said of the answers

function judging() {
  if (!report.judged.length) return;
  const node = section("judge", "Judged by a model");
  const number = (text) => (Number.isNaN(parseFloat(text)) ? null : parseFloat(text));
  for (const { title, grid: [heads, ...rows], cautions, lines } of report.judged) {
    const [caption, scroll] = sortableTable(title, heads.map((heading, i) => ({ heading, text: i === 0 })),
      rows.map(([name, ...texts]) => [rowHeading(name), ...texts.map((text) => cell(number(text), text))]));
    node.append(h("div", { class: "together" }, h("h3", null, caption.textContent),
      cautions.map((line) => h("p", null, h("strong", null, line))), scroll),
    h("ul", { class: "said" }, lines.map((line) => h("li", null, line))));
  }
}

// ---- Paired differences

function differences() {
  const rows = report.differences.map((row) => ({ ...row, name: `${row.method} \u2212 ${row.rival}`, ...pick(styleOf(row.method)) }));
  if (!rows.length) return;
  const node = section("differences", "Paired differences");
  const p = (value) => (value < 0.001 ? "< 0.001" : value.toFixed(3));
  const columns = [
    ["difference", "difference", (value, row) => `${signed(value)}${known(row.p_holm) && row.p_holm < 0.05 ? " *" : ""}`], ["95 % interval", "low", (_, row) => (known(row.high) ? `${signed(row.low)} to ${signed(row.high)}` : "\u2013")],
    ["p", "p", p], ["p (Holm)", "p_holm", p], ["could be shown", "detectable", (value) => value.toFixed(3)], ["seeds", "seeds", String],
    ["questions", "questions", String],
  ].filter(([, key]) => rows.some((row) => known(row[key])));
  node.append(...sortableTable("Differences between methods on the same questions and seeds.",
    [{ heading: "methods", text: true }, { heading: "metric", text: true }, ...columns.map(([heading]) => ({ heading }))],
    rows.map((row) => [
      rowHeading(row.name), { value: row.metric, node: h("td", { class: "text" }, row.metric) },
      ...columns.map(([, key, write]) => cell(row[key], known(row[key]) ? write(row[key], row) : "\u2013")),
    ])));
  node.append(h("ul", { class: "said" }, report.reading.map((line) => h("li", null, line))));
  node.append(h("div", { class: "charts wide" }, [...new Set(rows.map((row) => row.metric))].map((metric) => forestChart({
    title: `${metric}: difference and 95 % interval`, x: `difference in ${metric}`,
    rows: rows.filter((row) => row.metric === metric && known(row.difference)),
  }))));
}
const pick = ({ cls, shape }) => ({ cls, shape });

// ---- Quality against cost

function quality() {
  const { points, fronts, heading: metric, better, bounds } = report.quality;
  const node = section("cost", "Quality against cost");
  const chart = (title, cost, scale, x) => scatterChart({
    title, x, y: metric, front: fronts[cost], better, bounds,
    points: points.filter((point) => known(point[cost][0]) && known(point.quality[0])).map((point) => ({
      ...styleOf(point.method), quality: point.quality, cost: point[cost].map((value) => (known(value) ? value / scale : null)),
    })),
  });
  node.append(h("div", { class: "charts wide" },
    chart(`${metric} against training time`, "train_seconds", 1, "training time (s)"),
    chart(`${metric} against peak memory`, "peak_memory_bytes", MB, "peak memory (MB)")));
  const drawn = points.filter((point) => known(point.train_seconds[0]) && known(point.quality[0]));
  if (drawn.length < 2) return;
  const intervals = drawn.some((point) => known(point.quality[1]));
  node.append(legend(drawn.map((point) => styleOf(point.method)), true));
  node.append(quiet(intervals ? "Whiskers: 95 % intervals over seeds. " : "",
    "Dotted: the methods that no other beats in both; any other is beaten in quality by one that costs no more."));
}

// ---- Training

const entries = (seed, kind) => Object.entries(report.runs[seed] || {}).filter(([, run]) => run[kind]);
const series = (phase, key) => (phase[key] ? phase.step.map((step, i) => [step, phase[key][i]]) : []);

function training() {
  const node = section("training", "Training");
  if (!report.seeds.length) return void node.append(quiet("No run has ended yet."));
  if (!trainedMethods.length) return void node.append(quiet("No method was trained."));
  if (report.compact) return void node.append(quiet("Learning curves, weights and memory: not stored. Only rows and answers were kept, as --compact does; the folders of the runs are not there."));
  const view = h("div");
  const draw = (seed) => view.replaceChildren(...[curves, health, weights, memory].flatMap((part) => part(seed)));
  node.append(h("div", { class: "controls" }, select("Seed of the curves", report.seeds.map((seed) => [seed, seed]), report.seeds[0], draw)), view);
  draw(report.seeds[0]);
}

function missing(what, seed, kind) {
  const without = trainedMethods.filter((name) => report.runs[seed][name] && !report.runs[seed][name][kind]);
  return without.length ? quiet(`${what} not stored for ${list(without)}.`) : null;
}

function curves(seed) {
  const stored = entries(seed, "history");
  const title = h("h3", null, `Learning curves, seed ${seed}`);
  if (!stored.length) return [title, quiet("Training histories: not stored.")];
  const lines = (key) => stored.map(([name, { history }]) => {
    const all = merged(history, key);
    return { ...styleOf(name), points: series(all, key), smooth: true, dots: true };
  });
  const losses = lines("likelihood_loss").flatMap((line) => line.points.map((point) => point[1])).filter(known);
  const log = Math.min(...losses) > 0 && Math.max(...losses) > 10 * Math.min(...losses);
  const block = Math.max(...stored.flatMap(([, { history }]) => Object.values(history).map((phase) => phase.block)));
  const names = stored.map(([name]) => name);
  const validated = lines("eval_loss");
  const validation = validated.some((line) => line.points.some((point) => known(point[1])))
    ? [lineChart({ title: "Loss on held-out pairs", note: "at the end of an epoch; chooses the weights",
      series: validated, x: "step", y: "nats a token", width: WIDE })] : [];
  const begins = stored.filter(([, { history }]) => history.adversarial && history.likelihood)
    .map(([name, { history }]) => `${name} from step ${Math.floor(history.adversarial.step[0])}`);
  return [title, legend(names.map(styleOf)), h("div", { class: "charts wide" },
    lineChart({ title: "Loss on the true answers", note: "adversarial steps without their policy gradient; bold: running mean",
      series: lines("likelihood_loss"), x: "step", y: log ? "nats a token, logarithmic" : "nats a token", log, width: WIDE }),
    ...validation,
    lineChart({ title: "Reward", note: "mean over the sampled answers of an adversarial step", series: lines("reward"), x: "step", y: "reward", width: WIDE })),
    begins.length ? quiet(`Adversarial steps: ${begins.join("; ")}.`) : null,
    block > 1 ? quiet(`Thinned out: a point is the mean of up to ${block} steps.`) : null,
    missing("Training history", seed, "history")].filter(Boolean);
}

// Names of figures: those of gantune.diagnostics.health.
function health(seed) {
  const adversarial = entries(seed, "history").filter(([, { history }]) => history.adversarial);
  const title = (name) => `Health of adversarial training: ${name}, seed ${seed}`;
  if (!adversarial.length) return [h("h3", null, "Health of adversarial training"), quiet("No adversarial run is stored.")];
  const head = h("h3"), view = h("div");
  const draw = (name) => {
    head.textContent = title(name);
    view.replaceChildren(h("div", { class: "charts" }, healthCharts(report.runs[seed][name].history)));
  };
  draw(adversarial[0][0]);
  const choice = adversarial.length > 1
    && h("div", { class: "controls" }, select("Adversarial method", adversarial.map(([name]) => [name, name]), adversarial[0][0], draw));
  return [head, choice, view].filter(Boolean);
}

function healthCharts(history) {
  const phase = history.adversarial, warmup = history.discriminator;
  const styled = (i, name) => ({ cls: `s${i}`, shape: SHAPES[i], dash: DASHES[i], name });
  const chart = (title, y, lines, more = {}) => {
    const drawn = lines.map(([key, name, from], i) => ({ ...styled(i, name), points: series(from || phase, key), smooth: true }))
      .filter((one) => one.points.length);
    const node = lineChart({ title, series: drawn.map((one) => ({ ...one, ...(more.band && { band: more.band }) })), x: "step", y, ...more });
    if (drawn.length > 1) node.append(legend(drawn));
    return node;
  };
  const shares = { low: -0.03, high: 1.03 };
  const reward = series(phase, "reward"), deviation = series(phase, "reward_std");
  const band = reward.map(([x, mean], i) => [x, mean - (deviation[i] || [])[1], mean + (deviation[i] || [])[1]]).filter((b) => known(b[1]));
  const norms = Object.entries(history).filter(([kind]) => kind !== "discriminator").map(([kind, of]) => ["grad_norm", `generator, ${kind}`, of]).filter(([key, , of]) => of[key]);
  return [
    chart("Reward (band: \u00b1 one standard deviation)", "reward of an answer", [["reward", "mean"]], { band }),
    chart("Spread of a rollout", "share", [["no_spread_share", "questions without reward spread"], ["distinct_answers", "distinct answers"],
      ["most_common_answer", "most common answer"]], shares),
    chart("Entropy and KL to the base", "nats a token", [["entropy", "entropy"], ["kl", "KL"]]),
    chart("Discriminator accuracy", "share", [["discriminator_accuracy_real", "real"], ["discriminator_accuracy_generated", "generated"],
      ["held_out_discriminator_accuracy_real", "real, held out"], ["held_out_discriminator_accuracy_generated", "generated, held out"]], { ...shares, level: 0.5 }),
    chart("Length of answers", "tokens", [["answer_length", "mean length"]]),
    chart("Answers that end by themselves", "share", [["ended", "ended"]], shares),
    chart("Loss of the generator, adversarial steps", "loss", [["loss", "whole"], ["policy_gradient", "policy gradient"]]),
    chart("Loss of the discriminator", "nats", [["discriminator_loss", "discriminator"]]),
    ...(warmup ? [chart("Loss of the discriminator in its warm-up", "nats", [["discriminator_loss", "discriminator", warmup]], { x: "step of the warm-up" })] : []),
    chart("Gradient norms", "L2 norm, logarithmic", [...norms,
      ["discriminator_grad_norm", "discriminator"]], { log: true }),
  ];
}

// A figure over the steps of the generator, which those of the discriminator's warm-up are not.
function merged(history, key) {
  const points = Object.entries(history).filter(([name]) => name !== "discriminator").flatMap(([, phase]) => series(phase, key)).sort((a, b) => a[0] - b[0]);
  return { step: points.map((point) => point[0]), [key]: points.length ? points.map((point) => point[1]) : null };
}

function weights(seed) {
  const stored = entries(seed, "weights");
  const title = h("h3", null, `Weight trajectories, seed ${seed}`);
  if (!stored.length) return [title, quiet("Weight trajectories: not stored.")];
  const charts = stored.map(([name, { weights: found }]) => {
    const flat = found.frozen ? [{ cls: "control", name: "frozen", shape: "cross", points: found.epochs.map((epoch) => [epoch, 0]) }] : [];
    const shown = found.lines.length < found.trained ? `${found.lines.length} of ${found.trained} trained parameters` : `${found.trained} trained parameters`;
    const frozen = found.frozen ? found.frozen_change === 0 ? `; all ${found.frozen} frozen ones (grey) stayed as they were`
      : `; an entry of the ${found.frozen} frozen ones moved by ${short(found.frozen_change)}` : "";
    return lineChart({
      title: name, note: shown + frozen, x: "epoch", y: "change of norm (% of largest)",
      series: [...found.lines.map((line) => ({
        cls: styleOf(name).cls, thin: true, name: line.name, dash: line.name.endsWith("bias") ? "4 3" : null,
        points: line.change.map((change, i) => [found.epochs[i], change]),
      })), ...(found.frozen_change === 0 ? flat : [])],
    });
  });
  return [title, h("div", { class: "charts" }, charts),
    quiet("Change of the L2 norm of each parameter since the start, in per cent of the largest norm that it reached; biases dashed. The name of a line appears under the pointer."),
    missing("Weight trajectory", seed, "weights")].filter(Boolean);
}

function memory(seed) {
  const stored = entries(seed, "memory");
  const title = h("h3", null, `Memory, seed ${seed}`);
  const timed = stored.filter(([, { memory: found }]) => found.bytes);
  const snapshots = stored.filter(([, { memory: found }]) => found.snapshot);
  const said = snapshots.length ? quiet(`PyTorch's memory snapshot is stored for ${list(snapshots.map(([name]) => name))} (${snapshots[0][1].memory.snapshot}); its memory_viz page shows it.`) : null;
  if (!timed.length) return [title, said || quiet("Memory timelines: not stored (--memory-snapshot true records them).")];
  return [title, legend(timed.map(([name]) => styleOf(name))), h("div", { class: "charts wide" }, lineChart({
    title: "Resident memory above the state at the start", note: "each point is the highest of its neighbours", x: "time (s)", y: "MB", width: WIDE,
    series: timed.map(([name, { memory: found }]) => ({
      ...styleOf(name), points: found.bytes.map((bytes, i) => [found.seconds[i], (bytes - found.bytes[0]) / MB]),
    })),
  })), said, missing("Memory timeline", seed, "memory")].filter(Boolean);
}

// ---- Questions and answers

const PAGE = 10;
// As gantune.data.words: of scripts that write no blanks each character by itself, of others runs of letters, digits and marks.
const UNSPACED = String.raw`[\p{scx=Han}\p{scx=Hira}\p{scx=Kana}\p{scx=Bopo}\p{sc=Thai}\p{sc=Laoo}\p{sc=Mymr}\p{sc=Khmr}]`;
const LETTER = String.raw`(?!${UNSPACED})[\p{L}\p{N}]`;
const WORD = new RegExp(String.raw`(?=[\p{L}\p{N}])${UNSPACED}\p{M}*|${LETTER}(?:${LETTER}|\p{M})*`, "gu");
const words = (text) => [...text.matchAll(WORD)].map((found) => ({ word: found[0].normalize("NFC").toLowerCase(), start: found.index, end: found.index + found[0].length }));

// Where the words of `answer` lie that are in its longest common subsequence with `reference`.
function commonWords(answer, reference) {
  const a = words(answer), b = words(reference);
  const lengths = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      lengths[i][j] = a[i].word === b[j].word ? 1 + lengths[i + 1][j + 1] : Math.max(lengths[i + 1][j], lengths[i][j + 1]);
    }
  }
  const common = [];
  for (let i = 0, j = 0; i < a.length && j < b.length;) {
    if (a[i].word === b[j].word) { common.push(a[i]); i++; j++; }
    else if (lengths[i + 1][j] >= lengths[i][j + 1]) i++;
    else j++;
  }
  return common;
}

function marked(answer, reference) {
  if (!answer) return [h("span", { class: "quiet" }, "(empty)")];
  const parts = [];
  let end = 0;
  for (const word of commonWords(answer, reference)) {
    parts.push(answer.slice(end, word.start), h("mark", null, answer.slice(word.start, word.end)));
    end = word.end;
  }
  return [...parts, answer.slice(end)];
}

function questions() {
  const node = section("answers", "Questions and answers");
  const seeds = Object.keys(report.questions).sort((a, b) => a - b);
  if (!seeds.length) return void node.append(quiet("Answers: not stored, neither in the folders of the runs nor as answers.parquet."));
  const methods = [...new Set(seeds.flatMap((seed) => Object.keys(report.questions[seed].answers)))];
  const better = methods.find((name) => name === "gan" || name.startsWith("gan:")) || trainedMethods.find((name) => methods.includes(name)) || methods[0];
  const rival = methods.includes("lora") && better !== "lora" ? "lora" : methods.find((name) => name !== better) || better;
  const state = { seed: seeds[0], text: "", a: better, b: rival, order: "stored", methods: new Set(methods), count: PAGE };

  const orderNames = () => [["stored", "as in the test set"], ["largest", "largest difference first"], ["wins", `${state.a} better, first`], ["losses", `${state.b} better, first`]];
  const order = select("Order", orderNames(), state.order, (value) => change({ order: value }));
  const rename = () => order.querySelectorAll("option").forEach((option, i) => { option.textContent = orderNames()[i][1]; });
  const search = h("input", { type: "search", on: { input: () => change({ text: search.value }) } });
  const options = methods.map((name) => [name, name]);
  const controls = h("div", { class: "controls" },
    select("Seed of the questions", seeds.map((seed) => [seed, seed]), state.seed, (seed) => change({ seed })),
    h("label", null, "Text in question, reference or answers shown", search),
    methods.length > 1 && [select("Compare", options, state.a, (a) => change({ a })), select("with", options, state.b, (b) => change({ b })), order],
    h("fieldset", null, h("legend", null, "Methods shown"), h("div", null, methods.map((name) => {
      const box = h("input", { type: "checkbox", checked: true, value: name, on: { change: () => {
        state.methods[box.checked ? "add" : "delete"](name);
        change({});
      } } });
      return h("label", null, box, name);
    }))));
  const status = h("p", { role: "status" }), duel = quiet(), cards = h("div", { id: "cards" });
  const more = h("button", { type: "button", class: "screen", on: { click: () => show(state.count, state.count + PAGE) } });
  node.append(controls, status, duel,
    quiet("Marked words: the longest common subsequence with the reference, which ROUGE-L counts (ROUGE-L also matches words of one stem, which are not marked)."),
    cards, more);
  let found = [];

  const score = (of, name, i) => { const answer = (of.answers[name] || [])[i]; return answer && known(answer[1]) ? answer[1] : null; };
  function delta(of, i) {
    const [a, b] = [score(of, state.a, i), score(of, state.b, i)];
    return a === null || b === null ? null : a - b;
  }

  function change(changes) {
    Object.assign(state, changes);
    rename();
    const of = report.questions[state.seed], text = state.text.trim().toLowerCase();
    const shown = methods.filter((name) => state.methods.has(name));
    const matches = (i) => !text || [...of.pairs[i], ...shown.map((name) => ((of.answers[name] || [])[i] || [""])[0])].some((one) => one.toLowerCase().includes(text));
    found = of.pairs.map((_, i) => i).filter(matches).map((i) => ({ i, delta: delta(of, i) }));
    const rank = { largest: (d) => Math.abs(d), wins: (d) => d, losses: (d) => -d }[state.order];
    if (rank) found.sort((p, q) => (q.delta === null ? -Infinity : rank(q.delta)) - (p.delta === null ? -Infinity : rank(p.delta)) || p.i - q.i);
    const deltas = found.map((one) => one.delta).filter((one) => one !== null);
    const share = (test) => deltas.filter(test).length;
    duel.textContent = state.a === state.b || !deltas.length ? "" :
      `Of these, ${state.a} has the higher ROUGE-L on ${share((d) => d > 0)}, ${state.b} on ${share((d) => d < 0)}, ` +
      `equal on ${share((d) => d === 0)}; mean difference ${signed(deltas.reduce((sum, d) => sum + d, 0) / deltas.length)}.`;
    cards.replaceChildren();
    show(0, PAGE);
  }

  function show(from, to) {
    const of = report.questions[state.seed];
    cards.append(...found.slice(from, to).map((one) => card(of, one)));
    state.count = Math.min(to, found.length);
    const kept = of.pairs.length < of.total ? ` (this page holds the first ${of.pairs.length} of ${of.total})` : "";
    status.textContent = found.length ? `${found.length} of ${of.pairs.length} questions${kept}, ${state.count} on the page.` : `No question of ${of.pairs.length} matches${kept}.`;
    const left = found.length - state.count;
    more.hidden = left === 0;
    more.textContent = `Show ${Math.min(PAGE, left)} more`;
  }

  function card(of, { i, delta: difference }) {
    const [question, reference] = of.pairs[i];
    const answers = methods.filter((name) => state.methods.has(name) && (of.answers[name] || [])[i]).map((name) => {
      const [text, value] = of.answers[name][i], style = styleOf(name);
      const bar = h("div");
      bar.style.width = `${100 * (value || 0)}%`;
      return h("div", { class: style.cls, "data-method": name },
        h("dt", null, s("svg", { class: `key point ${style.cls}`, viewBox: "10 0 14 14", "aria-hidden": "true" }, marker(style.shape, 17, 7, 4.5)), name,
          h("span", { class: "score" }, known(value) ? [h("span", { class: "hidden" }, "ROUGE-L "), value.toFixed(2)] : "")),
        known(value) && h("dd", { class: "bar", "aria-hidden": "true" }, bar),
        h("dd", null, marked(text, reference)));
    });
    const showDelta = difference !== null && state.a !== state.b;
    return h("article", null,
      h("h3", null, question, showDelta && h("span", { class: "delta" }, `  ${state.a} \u2212 ${state.b}: ${signed(difference, 2)}`)),
      h("p", { class: "reference" }, h("b", null, "Reference "), reference),
      h("dl", { class: "answers" }, answers));
  }
  change({});
}

// ---- The page

heading();
results();
quality();
questions();
differences();
task();
published();
forgetting();
judging();
training();
noted();
provenance();

const closed = [];
addEventListener("beforeprint", () => {
  closed.push(...document.querySelectorAll("details:not([open])"));
  closed.forEach((details) => { details.open = true; });
});
addEventListener("afterprint", () => {
  closed.splice(0).forEach((details) => { details.open = false; });
});
