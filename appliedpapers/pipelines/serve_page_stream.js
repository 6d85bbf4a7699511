// rows one by one over a WebSocket, for models that stream

function cellsOf(text) {
  const rows = [[""]];
  let quoted_ = false;
  for (let place = 0; place < text.length; place += 1) {
    const letter = text[place], row = rows.at(-1);
    if (quoted_ && letter === '"' && text[place + 1] === '"') { row[row.length - 1] += '"'; place += 1; }
    else if (letter === '"') quoted_ = !quoted_;
    else if (!quoted_ && letter === ",") row.push("");
    else if (!quoted_ && letter === "\n") rows.push([""]);
    else if (letter !== "\r") row[row.length - 1] += letter;
  }
  return rows.filter((row) => row.length > 1 || row[0] !== "");
}

function recordsOf(text) {
  const [names, ...rows] = cellsOf(text);
  const kinds = new Map(page.columns.map((item) => [item.name, item.dtype]));
  const value = (name, cell_) => {
    if (cell_.trim() === "") return null;
    if (/^(float|int)/.test(kinds.get(name) || "")) return Number.isNaN(Number(cell_)) ? cell_ : Number(cell_);
    return kinds.get(name) === "bool" ? cell_.trim().toLowerCase() === "true" : cell_;
  };
  return (rows || []).map((row) => Object.fromEntries((names || []).map((name, at) => [name, value(name, row[at] ?? "")])));
}

let socket = null;

async function* answered(records_) {
  socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/v2/streams`);
  const waiting = [];
  const settle = (message) => (waiting.shift() || (() => {}))(message);
  socket.onmessage = (event) => settle(JSON.parse(event.data));
  socket.onclose = socket.onerror = () => { while (waiting.length) settle({ closed: true }); };
  const next = () => new Promise((resolve) => waiting.push(resolve));
  await new Promise((resolve, reject) => { socket.onopen = resolve; socket.addEventListener("error", () => reject(new Error("The stream could not be opened."))); });
  let reply = next();
  socket.send(JSON.stringify({ open: { model: page.name, state_every: 0 } }));
  const opened = await reply;
  if (opened.problem || opened.closed) { yield opened; return; }
  for (const record of records_) {
    reply = next();
    socket.send(JSON.stringify(record));
    const message = await reply;
    yield message;
    if (message.problem || message.closed) return;
  }
}

async function streamRows() {
  if (socket) { socket.close(); return; }
  unmark();
  find("stream").textContent = "Stop";
  const group = (record) => JSON.stringify((page.groupBy || []).map((name) => record[name]));
  const all = recordsOf(find("csv").value);
  const mine = all.filter((record) => group(record) === group(all[0]));
  const made = [];
  let drawn = performance.now();
  try {
    for await (const message of answered(mine)) {
      if (message.problem) { problem(message.problem); find("status").textContent = `refused after ${made.length} records`; break; }
      if (message.closed) break;
      made.push(...message.records);
      find("status").textContent = `${made.length} records`;
      if (made.length && performance.now() - drawn > 100) {
        answer({ predictions: made });
        drawn = performance.now();
        await new Promise(requestAnimationFrame);
      }
    }
    if (made.length && !find("answer").querySelector(".problem")) answer({ predictions: made });
    if (mine.length < all.length) find("status").textContent += ", of the first group";
  } catch (error) {
    problem({ detail: String(error.message || error), hint: "The server may have ended." });
  }
  socket?.close();
  socket = null;
  find("stream").textContent = "Stream row by row";
}

find("stream")?.addEventListener("click", streamRows);
