// Line charts in SVG: series over epochs, decays as dashed marks, a reading under the pointer.

const chartBox = { width: 600, height: 240, left: 46, right: 12, top: 14, bottom: 26 };

function svg(tag, attributes, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

// Round steps between low and high, at most `count` of them.
function ticks(low, high, count) {
  const raw = (high - low) / Math.max(1, count);
  const power = Math.pow(10, Math.floor(Math.log10(raw)));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw);
  const out = [];
  for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + step * 1e-9; v += step) out.push(Number(v.toPrecision(12)));
  return out;
}

// At most `limit` points: the mean of each run of neighbours, so that long curves stay quick to draw.
function thin(points, limit) {
  if (points.length <= limit) return points;
  const out = [];
  const size = points.length / limit;
  for (let i = 0; i < limit; i++) {
    const part = points.slice(Math.floor(i * size), Math.floor((i + 1) * size));
    const mean = (pick) => part.reduce((sum, p) => sum + pick(p), 0) / part.length;
    out.push({ x: mean((p) => p.x), y: mean((p) => p.y) });
  }
  return out;
}

function frame(box, xRange, yRange, yText) {
  const x = (v) => box.left + ((v - xRange[0]) / (xRange[1] - xRange[0] || 1)) * (box.width - box.left - box.right);
  const y = (v) => box.height - box.bottom - ((v - yRange[0]) / (yRange[1] - yRange[0] || 1)) * (box.height - box.top - box.bottom);
  const root = svg("svg", { viewBox: `0 0 ${box.width} ${box.height}`, role: "img" });
  for (const v of ticks(yRange[0], yRange[1], 5)) {
    root.append(svg("line", { class: "axis", x1: box.left, x2: box.width - box.right, y1: y(v), y2: y(v) }));
    root.append(svg("text", { x: box.left - 6, y: y(v) + 4, "text-anchor": "end" }, yText(v)));
  }
  for (const v of ticks(xRange[0], xRange[1], 8)) root.append(svg("text", { x: x(v), y: box.height - 8, "text-anchor": "middle" }, String(v)));
  return { root, x, y };
}

function drawMarks(chart, box, marks) {
  const textWidth = 60;
  let last = -textWidth, row = 0;
  for (const mark of marks) {
    const at = chart.x(mark.x);
    const left = at > box.width - textWidth - box.right;
    row = at - last < 2 * textWidth ? row + 1 : 0;  // texts of near marks go below each other
    last = at;
    chart.root.append(svg("line", { class: "mark", x1: at, x2: at, y1: box.top, y2: box.height - box.bottom }));
    const text = { class: "marktext", x: at + (left ? -4 : 4), y: box.top + 9 + 13 * (row % 4), "text-anchor": left ? "end" : "start" };
    chart.root.append(svg("text", text, mark.text));
  }
}

// Shows the nearest point of each series under the pointer.
function addReading(holder, chart, box, series, yText) {
  const line = svg("line", { class: "hover", x1: 0, x2: 0, y1: box.top, y2: box.height - box.bottom, visibility: "hidden" });
  chart.root.append(line);
  const tip = el("div", { class: "tip", hidden: true });
  holder.append(tip);
  holder.addEventListener("pointermove", (event) => {
    const area = chart.root.getBoundingClientRect();
    const at = ((event.clientX - area.left) / area.width) * box.width;
    const near = (points) => points.reduce((best, p) => (Math.abs(chart.x(p.x) - at) < Math.abs(chart.x(best.x) - at) ? p : best));
    const found = series.filter((s) => s.points.length).map((s) => ({ name: s.name, point: near(s.points) }));
    const px = chart.x(found[0].point.x);
    line.setAttribute("x1", px);
    line.setAttribute("x2", px);
    line.setAttribute("visibility", "visible");
    tip.hidden = false;
    tip.textContent = `epoch ${found[0].point.x.toFixed(2)}  ` + found.map((f) => `${f.name} ${yText(f.point.y)}`).join("  ");
    const edge = (px / box.width) * area.width;
    tip.style.left = Math.max(0, edge > area.width / 2 ? edge - tip.offsetWidth - 10 : edge + 10) + "px";
  });
  holder.addEventListener("pointerleave", () => {
    line.setAttribute("visibility", "hidden");
    tip.hidden = true;
  });
}

// series: [{name, colour (a CSS variable), points: [{x, y}], dots}]; marks: [{x, text}]. Returns an element.
function lineChart(series, marks, yText) {
  const all = series.flatMap((s) => s.points).filter((p) => isFinite(p.y));
  if (all.length === 0) return el("p", { class: "quiet" }, "Nothing to draw yet.");
  const xs = all.map((p) => p.x).concat(marks.map((m) => m.x));
  const ys = all.map((p) => p.y);
  const low = ys.reduce((a, b) => Math.min(a, b)), high = ys.reduce((a, b) => Math.max(a, b));
  const room = (high - low || Math.abs(high) || 1) * 0.08;
  const holder = el("div", { class: "chart" });
  // Drawn at the width it is shown with, so that text keeps its size.
  const box = { ...chartBox, width: chartWidth() };
  const chart = frame(box, [0, xs.reduce((a, b) => Math.max(a, b))], [Math.max(0, low - room), high + room], yText);
  for (const s of series) {
    const points = thin(s.points.filter((p) => isFinite(p.y)), 600);
    const path = points.map((p, i) => `${i ? "L" : "M"}${chart.x(p.x).toFixed(1)} ${chart.y(p.y).toFixed(1)}`).join("");
    chart.root.append(svg("path", { d: path, fill: "none", stroke: `var(${s.colour})`, "stroke-width": 1.8, "stroke-linejoin": "round" }));
    if (!s.dots || points.length > 80) continue;
    for (const p of points) chart.root.append(svg("circle", { cx: chart.x(p.x), cy: chart.y(p.y), r: 2.4, fill: `var(${s.colour})` }));
  }
  drawMarks(chart, box, marks);
  holder.append(chart.root);
  addReading(holder, chart, box, series, yText);
  return holder;
}

function chartWidth() {
  const main = document.getElementById("main").clientWidth - 48;
  return Math.max(300, main > 772 ? main / 2 - 42 : main - 34);
}

function legend(entries) {
  return el("span", { class: "legend" }, ...entries.map(([name, colour]) => el("span", colour ? { style: `--c: var(${colour})` } : { class: "decay" }, name)));
}
