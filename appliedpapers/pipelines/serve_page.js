"use strict";
const page = JSON.parse(document.getElementById("page-data").textContent);
const find = (id) => document.getElementById(id);
const make = (name, attributes = {}, ...children) => {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
};
const shape = (name, attributes, ...children) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
};
const column = (name) => page.output.find((item) => item.name === name) || {};
let dropped = null;

// request

async function base64(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  let text = "";
  for (let start = 0; start < bytes.length; start += 32768) {
    text += String.fromCharCode(...bytes.subarray(start, start + 32768));
  }
  return btoa(text);
}

async function cell(field) {
  const kind = field.dataset.kind;
  if (kind === "file") {
    if (field.files.length) return { b64: await base64(field.files[0]) };
    const path = document.querySelector(`[data-path="${CSS.escape(field.dataset.column)}"]`).value.trim();
    return path || page.files[field.dataset.column] || null;
  }
  const text = field.value.trim();
  if (text === "") return field.validity.badInput ? "?" : null;
  if (kind === "number") return Number(text);
  if (kind === "bool") return text === "true";
  if (kind === "array") {
    try { return JSON.parse(text); } catch { return text; }
  }
  return text;
}

async function request() {
  if (dropped !== null) return { type: dropped.type, body: dropped.body, name: dropped.name };
  if (page.tabular) return { type: "text/csv", body: find("csv").value };
  const record = {};
  for (const field of document.querySelectorAll("[data-column]")) {
    const about = page.columns.find((item) => item.name === field.dataset.column);
    const value = await cell(field);
    if (value !== null || about.required !== false) record[field.dataset.column] = value;
  }
  return { type: "application/json", body: JSON.stringify({ dataframe_records: await manyOf(record) }) };
}

// several files in one field are several rows, alike but for the file
async function manyOf(record) {
  const field = document.querySelector("[data-kind=file][multiple]");
  if (!field || field.files.length < 2) return [record];
  return Promise.all([...field.files].map(async (file) => ({ ...record, [field.dataset.column]: { b64: await base64(file) } })));
}

const quoted = (text) => "'" + text.replaceAll("'", "'\\''") + "'";

async function curl() {
  const { type, body, name } = await request();
  const long = name !== undefined || body.length > 1500;
  const file = name ?? (type === "text/csv" ? "rows.csv" : "request.json");
  const data = long ? `@${file}` : quoted(body.trimEnd());
  find("curl").textContent =
    `curl -s ${location.origin}${page.url} -H 'Content-Type: ${type}' --data-binary ${data}`;
  const link = find("body");
  URL.revokeObjectURL(link.href);
  link.hidden = !long || name !== undefined;
  if (!link.hidden) Object.assign(link, { href: URL.createObjectURL(new Blob([body], { type })), download: file, textContent: file });
}

// answer

function number(value) {
  if (Number.isInteger(value)) return String(value);
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e7)) return value.toExponential(3);
  return String(Number(value.toPrecision(5)));
}

function shown(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "number") return number(value);
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (Array.isArray(value)) {
    const text = JSON.stringify(value, (key, item) => (typeof item === "number" ? Number(number(item)) : item));
    return text.length <= 60 ? text : `${text.slice(0, 56)} …]`;
  }
  return typeof value === "string" ? value.replace("T", value.match(/^\d{4}-\d\d-\d\dT/) ? " " : "T") : JSON.stringify(value);
}

const LOW = /(^|[_-])(lo|low|lower|min)(?=$|[_-]|\d)/;
const HIGH = { lo: "hi", low: "high", lower: "upper", min: "max" };

// [low, high] pairs of columns: y_lo_80 and y_hi_80, lower and upper, q10 and q90
function bands(names) {
  const pairs = [];
  for (const name of names) {
    const low = name.match(LOW);
    const quantile = name.match(/(^|[_-])([qp])[_-]?(\d\d)$/);
    if (low) {
      const high = name.replace(LOW, (_, before, word) => before + HIGH[word]);
      if (names.includes(high)) pairs.push([name, high]);
    } else if (quantile && Number(quantile[3]) < 50) {
      const opposite = String(100 - Number(quantile[3])).padStart(2, "0");
      const high = name.slice(0, -2) + opposite;
      if (names.includes(high)) pairs.push([name, high]);
    }
  }
  return pairs;
}

const ORDINAL = /^(step|horizon|h|t|time|ds|date|index|sample|row|frame|hours|timestamp)$/i;

function reading(rows) {
  const names = Object.keys(rows[0]);
  const numeric = names.filter((name) => !page.keys.includes(name)
    && rows.some((row) => typeof row[name] === "number"));
  const pairs = bands(numeric);
  const x = page.orderBy && names.includes(page.orderBy) ? page.orderBy
    : names.find((name) => column(name).dtype === "timestamp") || names.find((name) => ORDINAL.test(name));
  const values = numeric.filter((name) => !pairs.flat().includes(name) && name !== x && !/(_std|_se|_n|count)$/.test(name));
  return { names, pairs, x, values };
}

function headline(row, about) {
  const class_ = shares(row).length > 1 && about.names.find((item) => column(item).categories && typeof row[item] === "string");
  const name = class_ || about.values[0] || about.names.find((item) => !page.keys.includes(item) && typeof row[item] === "string");
  if (!name) return null;
  const unit = column(name).unit ? ` ${column(name).unit}` : "";
  const pair = about.pairs.find(([low]) => low.startsWith(name)) || (about.values.length === 1 ? about.pairs[0] : null);
  const spread = about.names.find((item) => item === `${name}_std` || item === `${name}_se`);
  let tail = "";
  if (pair) tail = ` between ${shown(row[pair[0]])} and ${shown(row[pair[1]])}`;
  else if (spread) tail = ` ± ${shown(row[spread])}`;
  return make("p", { class: "headline" }, shown(row[name]), make("small", {}, `${unit}${tail}  ${column(name).description || name}`));
}

function table(rows) {
  const names = Object.keys(rows[0]);
  const numeric = (name) => rows.some((row) => typeof row[name] === "number");
  const head = names.map((name) => {
    const cellOf = make("th", { scope: "col", class: numeric(name) ? "num" : "" }, name);
    if (column(name).unit) cellOf.append(make("small", {}, column(name).unit));
    return cellOf;
  });
  const body = rows.slice(0, 200).map((row) => make("tr", {},
    ...names.map((name) => make("td", { class: numeric(name) ? "num" : "" }, shown(row[name])))));
  const box = make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Predictions" },
    make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...body)));
  const more = rows.length > 200 ? [make("p", { class: "dim" }, `The first 200 of ${rows.length} rows.`)] : [];
  return [box, ...more];
}

// plot: one line a group, bands behind it

function groups(rows, about) {
  const keys = page.keys.filter((name) => name !== about.x && name in rows[0]);
  const found = new Map();
  for (const row of rows) {
    const key = keys.map((name) => shown(row[name])).join(", ");
    if (!found.has(key)) found.set(key, []);
    found.get(key).push(row);
  }
  return [...found].filter(([, members]) => members.length > 2).slice(0, 4);
}

function arrays(rows) {
  const name = Object.keys(rows[0]).find((key) => Array.isArray(rows[0][key])
    && rows[0][key].length > 2 && rows[0][key].every((item) => typeof item === "number" || item === null));
  if (!name) return null;
  const lines = rows.slice(0, 4).map((row) => [page.keys.map((key) => shown(row[key])).join(", "),
    row[name].map((value, index) => ({ index, [name]: value }))]);
  return { lines, about: { x: "index", values: [name], pairs: [] } };
}

function ticks(low, high, count) {
  const raw = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((item) => item * power).find((item) => item >= raw);
  const marks = [];
  for (let mark = Math.ceil(low / step) * step; mark <= high + step * 1e-9; mark += step) marks.push(mark);
  return marks;
}

// drawn as wide as it is shown, so that letters keep their size on a phone
const room = () => Math.max(300, Math.min(720, find("answer").clientWidth));

const COLOURS = ["var(--ours)", "#d55e00", "#009e73", "#cc79a7"];

function plot(lines, about) {
  const value = about.values[0];
  const pairs = about.pairs.filter(([low]) => about.values.length === 1 || low.includes(value));
  const timed = column(about.x).dtype === "timestamp";
  const place = (row, index) => {
    const given = row[about.x];
    return timed ? Date.parse(given) : typeof given === "number" ? given : index;
  };
  const all = lines.flatMap(([, rows]) => rows);
  const xs = lines.flatMap(([, rows]) => rows.map(place));
  const ys = all.flatMap((row) => [value, ...pairs.flat()].map((name) => row[name])).filter(Number.isFinite);
  if (!ys.length) return null;
  const width = room(), height = 260, left = 52, right = lines.length > 1 ? 96 : 16, top = 22, bottom = 34;
  const [x0, x1] = [Math.min(...xs), Math.max(...xs)];
  let [y0, y1] = [Math.min(...ys), Math.max(...ys)];
  const pad = (y1 - y0) * 0.06 || Math.abs(y0) * 0.1 || 1;
  [y0, y1] = [y0 - pad, y1 + pad];
  const px = (x) => (left + (x1 === x0 ? 0.5 : (x - x0) / (x1 - x0)) * (width - left - right)).toFixed(1);
  const py = (y) => (top + (1 - (y - y0) / (y1 - y0)) * (height - top - bottom)).toFixed(1);
  const unit = column(value).unit ? ` (${column(value).unit})` : "";
  const drawn = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img",
    "aria-label": `${value}${unit} from ${number(ys[0])}, between ${number(Math.min(...ys))} and ${number(Math.max(...ys))}, over ${all.length} points` });
  drawn.append(shape("text", { x: 0, y: 12, fill: "var(--dim)" }, value + unit));
  for (const mark of ticks(y0, y1, 4)) {
    drawn.append(shape("line", { x1: left, x2: width - right, y1: py(mark), y2: py(mark), stroke: "var(--line)" }));
    drawn.append(shape("text", { x: left - 8, y: Number(py(mark)) + 4, "text-anchor": "end", fill: "var(--dim)" }, number(Number(mark.toPrecision(12)))));
  }
  const span = x1 - x0;
  const [from, to] = span >= 2 * 86400e3 ? [0, 10] : span >= 600e3 ? [5, 16] : [11, 19];
  const label = (x) => !timed ? number(x) : new Date(x - new Date(x).getTimezoneOffset() * 60e3).toISOString().replace("T", " ").slice(from, to);
  const marks = timed ? (width < 500 ? [0, 0.5, 1] : [0, 0.25, 0.5, 0.75, 1]).map((part) => x0 + part * (x1 - x0)) : ticks(x0, x1, 6);
  marks.forEach((mark, index) => {
    const anchor = !timed ? "middle" : index === 0 ? "start" : index === marks.length - 1 ? "end" : "middle";
    drawn.append(shape("text", { x: px(mark), y: height - 12, "text-anchor": anchor, fill: "var(--dim)" }, label(mark)));
  });
  lines.forEach(([name, rows], index) => {
    const points = rows.map((row, at) => [place(row, at), row]).sort((a, b) => a[0] - b[0]);
    const colour = COLOURS[index];
    for (const [low, high] of pairs) {
      const edge = (side) => points.filter(([, row]) => Number.isFinite(row[low]) && Number.isFinite(row[high])).map(([x, row]) => `${px(x)},${py(row[side])}`);
      drawn.append(shape("polygon", { points: [...edge(low), ...edge(high).reverse()].join(" "), fill: colour, "fill-opacity": 0.18 }));
    }
    // a missing value interrupts the line
    const runs = [[]];
    for (const [x, row] of points) {
      if (Number.isFinite(row[value])) runs.at(-1).push([x, row[value]]);
      else runs.push([]);
    }
    for (const run of runs.filter((item) => item.length)) {
      drawn.append(shape("polyline", { points: run.map(([x, y]) => `${px(x)},${py(y)}`).join(" "), fill: "none", stroke: colour, "stroke-width": 2, "stroke-linejoin": "round" }));
    }
    const last = runs.flat().at(-1);
    if (lines.length > 1 && last) drawn.append(shape("text", { x: width - right + 6, y: Number(py(last[1])) + 4, fill: colour }, name.slice(0, 14)));
  });
  return drawn;
}

function answer(document_) {
  const rows = document_.predictions;
  const box = find("answer");
  box.replaceChildren();
  if (!rows.length) {
    box.append(make("p", {}, "The answer has no rows."));
    return;
  }
  const about = reading(rows);
  if (rows.length === 1) {
    const line = headline(rows[0], about);
    if (line) box.append(line);
  }
  const lines = about.values.length ? groups(rows, about) : [];
  const series = lines.length && (about.x || page.keys.length === 0 || lines.length < rows.length) && about.x ? { lines, about } : arrays(rows);
  const drawn = series ? plot(series.lines, series.about) : still(rows, about);
  if (drawn) box.append(drawn);
  box.append(...table(rows));
  for (const file of document_.files || []) {
    const line = make("p", {}, make("a", { href: file.url, download: "" }, file.path));
    box.append(line);
    if (/\.(png|jpe?g)$/i.test(file.path)) show(file, line);
  }
}

async function show(file, line) {
  const image = await (await fetch(file.url)).blob();
  line.after(make("img", { src: URL.createObjectURL(image), alt: file.path }));
}

function problem(document_) {
  const box = find("answer");
  const listed = document_.violations || [];
  const items = listed.length > 1 ? [make("ul", {}, ...listed.map((item) =>
    make("li", {}, `${item.row ? `row ${item.row}, ` : ""}${item.column}: ${item.rule}`)))] : [];
  const hint = document_.hint ? [make("p", { class: "dim" }, document_.hint)] : [];
  box.replaceChildren(make("div", { class: "problem", role: "alert" }, make("p", {}, document_.detail), ...items, ...hint));
  for (const item of listed) mark(item.column, item.rule);
}

function mark(name, rule) {
  const field = document.querySelector(`[data-column="${CSS.escape(name)}"]`) || find("csv");
  if (!field || dropped !== null) return;
  field.setAttribute("aria-invalid", "true");
  const line = field.closest(".field")?.querySelector(".wrong");
  if (line) { line.textContent = rule; line.hidden = false; }
}

function unmark() {
  for (const field of document.querySelectorAll("[aria-invalid]")) field.removeAttribute("aria-invalid");
  for (const line of document.querySelectorAll(".wrong")) line.hidden = true;
}

// a job answers 202 and says where to ask again
async function settled(response) {
  while (response.status === 202) {
    const job = await response.json();
    find("status").textContent = `${job.status} …`;
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const state = await (await fetch(job.links.self)).json();
    if (state.status === "done" || state.status === "failed") return fetch(job.links.result);
    response = new Response(JSON.stringify(state), { status: 202 });
  }
  return response;
}

async function send(event) {
  event?.preventDefault();
  unmark();
  find("send").disabled = true;
  find("status").textContent = "computing …";
  const started = performance.now();
  try {
    const { type, body } = await request();
    const response = await settled(await fetch(page.url, { method: "POST", headers: { "Content-Type": type }, body }));
    const document_ = await response.json();
    (response.ok ? answer : problem)(document_);
    find("status").textContent = response.ok ? `${Math.round(performance.now() - started)} ms` : `refused (${response.status})`;
  } catch (error) {
    problem({ detail: "The server could not be reached.", hint: String(error) });
    find("status").textContent = "";
  }
  find("send").disabled = false;
}

async function take(file) {
  const ending = file.name.split(".").at(-1).toLowerCase();
  const type = page.types[ending] || page.types.csv;
  if (page.tabular && type === page.types.csv) {
    find("csv").value = await file.text();
    forget();
  } else {
    dropped = { type, name: file.name, body: type === page.types.csv || type === page.types.json ? await file.text() : await file.arrayBuffer() };
    find("chosen").textContent = `${file.name} is sent instead of what stands above.`;
    find("chosen").hidden = false;
  }
  await curl();
}

function forget() {
  dropped = null;
  find("chosen").hidden = true;
}

function preview(field) {
  const box = document.querySelector(`[data-preview="${CSS.escape(field.dataset.column)}"]`);
  for (const old of box.querySelectorAll("img")) URL.revokeObjectURL(old.src);
  const images = [...field.files].filter((file) => /^image\/(png|jpeg|bmp|gif|webp)$/.test(file.type)).slice(0, 12);
  box.replaceChildren(...images.map((file) => make("img", { src: URL.createObjectURL(file), alt: file.name })));
}

// what is dropped anywhere on the zone: a table, or the files of the one file field
function dropAll(files) {
  const field = document.querySelector("[data-kind=file][multiple]");
  const tables = [...files].filter((file) => file.name.split(".").at(-1).toLowerCase() in page.types);
  if (field && !tables.length) {
    field.files = files;
    field.dispatchEvent(new Event("change", { bubbles: true }));
  } else take(tables[0] || files[0]);
}

find("form").addEventListener("submit", send);
find("form").addEventListener("input", curl);
find("form").addEventListener("reset", () => {
  forget();
  unmark();
  for (const box of document.querySelectorAll(".preview")) box.replaceChildren();
  setTimeout(curl);
});
find("file").addEventListener("change", (event) => event.target.files.length && take(event.target.files[0]));
for (const field of document.querySelectorAll("[data-kind=file]")) {
  field.addEventListener("change", () => { preview(field); curl(); });
}
const zone = find("drop");
zone.addEventListener("dragover", (event) => { event.preventDefault(); zone.classList.add("over"); });
zone.addEventListener("dragleave", () => zone.classList.remove("over"));
zone.addEventListener("drop", (event) => {
  event.preventDefault();
  zone.classList.remove("over");
  if (event.dataTransfer.files.length) dropAll(event.dataTransfer.files);
});
find("copy").addEventListener("click", async () => {
  await navigator.clipboard.writeText(find("curl").textContent);
  find("copy").textContent = "Copied";
  setTimeout(() => { find("copy").textContent = "Copy"; }, 1500);
});
