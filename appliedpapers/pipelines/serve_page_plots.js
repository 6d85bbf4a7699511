// plots of answers that are no series: bars of shares, an interval, a dot a row, the tries so far

const BAND = 22;

function framed(width, height, label, caption) {
  const drawn = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  drawn.append(shape("text", { x: 0, y: 12, fill: "var(--dim)" }, caption));
  return drawn;
}

const unitOf = (name) => (column(name).unit ? ` (${column(name).unit})` : "");

// [label, share] of columns that lie from 0 to 1; probability_2 is called what type_2 says
function shares(row) {
  const names = Object.keys(row).filter((name) => column(name).minimum === 0 && column(name).maximum === 1
    && typeof row[name] === "number");
  const ranked = names.filter((name) => /_\d+$/.test(name));
  return (ranked.length > 1 ? ranked : names).map((name) => {
    const place = name.match(/_\d+$/)?.[0];
    const label = place && Object.keys(row).find((other) => other !== name && other.endsWith(place) && typeof row[other] === "string");
    return [label ? row[label] : name, row[name]];
  });
}

function bars(pairs, caption, most, text) {
  const width = room(), left = Math.min(150, width / 3), right = 60;
  const drawn = framed(width, 24 + pairs.length * BAND, `${caption}: ${pairs.map(([name, value]) => `${name} ${text(value)}`).join(", ")}`, caption);
  pairs.forEach(([name, value], index) => {
    const y = 24 + index * BAND;
    drawn.append(
      shape("text", { x: left - 8, y: y + 13, "text-anchor": "end", fill: "var(--ink)" }, String(name).slice(0, 22)),
      shape("rect", { x: left, y, width: Math.max((value / most) * (width - left - right), 1).toFixed(1), height: BAND - 6, fill: "var(--ours)" }),
      shape("text", { x: (left + (value / most) * (width - left - right) + 6).toFixed(1), y: y + 13, fill: "var(--dim)" }, text(value)),
    );
  });
  return drawn;
}

function counts(rows, name) {
  const found = new Map();
  for (const row of rows) found.set(shown(row[name]), (found.get(shown(row[name])) || 0) + 1);
  const pairs = [...found].sort((a, b) => b[1] - a[1]).slice(0, 12);
  return bars(pairs, `${name}, rows`, pairs[0][1], String);
}

function scaleOf(values, from, to) {
  let [low, high] = [Math.min(...values), Math.max(...values)];
  const pad = (high - low) * 0.08 || Math.abs(low) * 0.1 || 1;
  [low, high] = [low - pad, high + pad];
  return { low, high, at: (value) => (from + ((value - low) / (high - low)) * (to - from)).toFixed(1) };
}

function interval(row, name, [low, high]) {
  const width = room(), height = 70;
  const scale = scaleOf([row[low], row[high], row[name]], 12, width - 12);
  const said = `${name} ${shown(row[name])}, between ${shown(row[low])} and ${shown(row[high])}`;
  const drawn = framed(width, height, said, name + unitOf(name));
  drawn.append(
    shape("line", { x1: 12, x2: width - 12, y1: 36, y2: 36, stroke: "var(--line)" }),
    shape("line", { x1: scale.at(row[low]), x2: scale.at(row[high]), y1: 36, y2: 36, stroke: "var(--ours)", "stroke-width": 8, "stroke-opacity": 0.35 }),
    shape("circle", { cx: scale.at(row[name]), cy: 36, r: 6, fill: "var(--ours)" }),
  );
  for (const mark of ticks(scale.low, scale.high, 5)) {
    drawn.append(shape("text", { x: scale.at(mark), y: 62, "text-anchor": "middle", fill: "var(--dim)" }, number(Number(mark.toPrecision(12)))));
  }
  return drawn;
}

function dots(rows, name, pair, caption, last = false) {
  const width = room(), height = 240, left = 52, bottom = 30;
  const held = rows.map((row, index) => [index + 1, row]).filter(([, row]) => Number.isFinite(row[name]));
  const ys = held.flatMap(([, row]) => [row[name], ...(pair || []).map((side) => row[side])]).filter(Number.isFinite);
  if (!ys.length) return null;
  const y = scaleOf(ys, height - bottom, 24);
  const px = (index) => (left + ((index - 0.5) / rows.length) * (width - left - 12)).toFixed(1);
  const drawn = framed(width, height, `${name}${unitOf(name)} of ${held.length} ${caption}, from ${number(Math.min(...ys))} to ${number(Math.max(...ys))}`, name + unitOf(name));
  for (const mark of ticks(y.low, y.high, 4)) {
    drawn.append(
      shape("line", { x1: left, x2: width - 12, y1: y.at(mark), y2: y.at(mark), stroke: "var(--line)" }),
      shape("text", { x: left - 8, y: Number(y.at(mark)) + 4, "text-anchor": "end", fill: "var(--dim)" }, number(Number(mark.toPrecision(12)))),
    );
  }
  for (const [index, row] of held) {
    if (pair) drawn.append(shape("line", { x1: px(index), x2: px(index), y1: y.at(row[pair[0]]), y2: y.at(row[pair[1]]), stroke: "var(--ours)", "stroke-opacity": 0.4, "stroke-width": 3 }));
    const now = !last || index === rows.length;
    drawn.append(shape("circle", { cx: px(index), cy: y.at(row[name]), r: rows.length > 200 ? 1.5 : 4, fill: now ? "var(--ours)" : "var(--dim)" }));
  }
  drawn.append(shape("text", { x: width - 12, y: height - 8, "text-anchor": "end", fill: "var(--dim)" }, caption));
  return drawn;
}

const tries = [];

// what fits an answer that is no series
function still(rows, about) {
  const name = about.values[0];
  const pair = about.pairs.find(([low]) => name && low.startsWith(name)) || (about.values.length === 1 ? about.pairs[0] : undefined);
  if (rows.length > 1) {
    if (name && shares(rows[0]).length < 2) return dots(rows, name, pair, "rows");
    const text = about.names.find((item) => !page.keys.includes(item) && column(item).categories) || about.names.find((item) => !page.keys.includes(item) && typeof rows[0][item] === "string");
    return text ? counts(rows, text) : name ? dots(rows, name, pair, "rows") : null;
  }
  const found = shares(rows[0]);
  if (found.length > 1) return bars(found, "share", 1, (value) => `${(100 * value).toFixed(1)} %`);
  if (!name) return null;
  tries.push(rows[0]);
  if (tries.length > 1) return dots(tries.slice(-40), name, pair, "tries, the last one in colour", true);
  return pair ? interval(rows[0], name, pair) : null;
}
