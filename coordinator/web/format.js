// Small helpers: building elements, formatting figures.
"use strict";

// el("td", {class: "n"}, "text", child): an element; text is never read as HTML.
function el(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child != null && child !== false));
  return node;
}

const format = {
  figure: (value) => (value == null ? "–" : String(Number(value.toPrecision(5)))),
  whole: (value) => (value == null ? "–" : Math.round(value).toLocaleString("en-US")),
  percent: (value) => (value == null ? "–" : (value * 100).toFixed(2) + "%"),
  metric: (name, value) => (name && name.includes("error") ? format.percent(value) : format.figure(value)),
  clock: (utc) => (utc ? utc.slice(11, 19) : ""),
  day: (utc) => (utc ? utc.slice(0, 10) + " " + utc.slice(11, 19) : "–"),
  duration(seconds) {
    if (seconds == null || !isFinite(seconds) || seconds < 0) return "–";
    const s = Math.round(seconds);
    const two = (n) => String(n).padStart(2, "0");
    if (s < 60) return s + "s";
    if (s < 3600) return Math.floor(s / 60) + "m " + two(s % 60) + "s";
    if (s < 86400) return Math.floor(s / 3600) + "h " + two(Math.floor((s % 3600) / 60)) + "m";
    return Math.floor(s / 86400) + "d " + two(Math.floor((s % 86400) / 3600)) + "h";
  },
  span(from, to) {
    if (!from) return "–";
    return format.duration(((to ? Date.parse(to) : Date.now()) - Date.parse(from)) / 1000);
  },
};

const ended = (job) => ["COMPLETED", "FAILED", "CANCELLED"].includes(job.state);

// Nothing happens until somebody asks for it.
const rests = (job) => ended(job) || job.state === "PAUSED";

// Running time, without pauses and waiting.
const ranFor = (job) => (job.started ? format.duration(job.ran_in_all_s) : "–");

// Share of the run, 0..1: of epochs or steps, whichever is nearer to its end.
function share(job) {
  if (job.state === "COMPLETED") return 1;
  const byEpochs = job.max_epochs ? job.epoch / job.max_epochs : 0;
  const bySteps = job.max_steps ? job.step / job.max_steps : 0;
  return Math.min(1, Math.max(byEpochs, bySteps, 0));
}

// Seconds of training left at the present rate; an upper bound, since a plateau may end the run sooner. null: unknown.
function remaining(job) {
  const batch = job.spec && job.spec.training && job.spec.training.global_batch;
  if (rests(job) || !job.images_per_s || !batch || share(job) <= 0) return null;
  return ((job.step / share(job) - job.step) * batch) / job.images_per_s;
}
