// The two views, the queue and one job, kept fresh by polling the REST interface.

const refreshMs = 2000;
const awayMs = 5000;
const logLimit = 200000;  // characters of log kept in the page

async function ask(path, options) {
  const response = await fetch(path, { headers: { Accept: "application/json" }, ...options });
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw Object.assign(new Error(body.detail || body.title || `HTTP ${response.status}`), { status: response.status });
  return body;
}

function showConnection(error) {
  const node = document.getElementById("connection");
  node.textContent = error ? "coordinator does not answer; trying again" : "live";
  node.classList.toggle("away", Boolean(error));
}

// Replaces `node`'s content by make() only when `key` changed, so that selections and scroll positions stay.
function refresh(node, key, make) {
  const text = JSON.stringify(key) || "";
  if (node.dataset.key === text) return;
  node.dataset.key = text;
  const scroller = node.querySelector(".scroll");
  const top = scroller ? scroller.scrollTop : 0;
  node.replaceChildren(...[make()].flat());
  if (scroller && node.querySelector(".scroll")) node.querySelector(".scroll").scrollTop = top;
}

const chip = (state) => el("span", { class: "chip " + state }, state);

// The reason where it says more than the state.
const reason = (job) => (job.reason && job.reason !== job.state ? job.reason : "");

function progressBar(job) {
  const percent = share(job) * 100;
  return [el("span", { class: "bar " + job.state }, el("i", { style: `width: ${percent}%` })), percent.toFixed(0) + "%"];
}

function table(heads, rows, className) {
  const row = (tag, cells) => cells.map((cell, i) => el(tag, { class: heads[i][1] || null }, ...[cell].flat()));
  const body = rows.map((r) => el("tr", r.attributes || {}, ...row("td", r.cells)));
  return el("table", { class: className || null }, el("thead", {}, el("tr", {}, ...row("th", heads.map((h) => h[0])))), el("tbody", {}, ...body));
}

// --- The queue ---------------------------------------------------------------------------------------------------------------------

function emptyQueue() {
  return el("div", { class: "panel empty" }, el("h2", {}, "No jobs yet"), el("p", {}, "Submit one from a terminal:"),
            el("p", {}, el("code", {}, `plateau submit SPEC.yaml --endpoint ${location.origin}`)));
}

function jobRow(job) {
  const link = el("a", { href: "#/job/" + encodeURIComponent(job.id) }, job.id);
  const rate = job.state === "RUNNING" && job.images_per_s ? format.whole(job.images_per_s) : "–";
  return {
    attributes: { onclick: () => (location.hash = "#/job/" + encodeURIComponent(job.id)) },
    cells: [link, [chip(job.state)], job.network, progressBar(job), `${Number(job.epoch || 0).toFixed(2)} / ${job.max_epochs ?? "–"}`,
            format.figure(job.loss), format.figure(job.lr), job.best ? format.metric(job.best.metric, job.best.value) : "–", rate,
            ranFor(job), reason(job)],
  };
}

// What a node's GPUs are and who has them; without any, why.
function nodeGpus(node) {
  if (!node.gpus.length) return node.no_gpus_why || "none";
  const kinds = [...new Set(node.gpus.map((gpu) => gpu.name).filter(Boolean))].join(", ");
  const used = node.gpus.filter((gpu) => gpu.job).map((gpu) => `${gpu.id}: ${gpu.job}`).join(", ");
  return [kinds, used].filter(Boolean).join(" – ");
}

function nodesPanel(nodes) {
  const heads = [["Node", "tight"], ["State"], ["Cores in use", "n tight"], ["GPUs in use", "n tight"], ["GPUs"], ["Jobs, or why"]];
  const rows = nodes.map((node) => ({
    cells: [node.name, [chip(node.state)], `${node.used_cores} of ${node.cores}`, node.gpus.length ? `${node.used_gpus} of ${node.gpus.length}` : "–", nodeGpus(node),
            node.jobs.join(", ") || node.message],
  }));
  return el("div", { class: "panel nodes" }, el("h2", {}, "Nodes"), el("div", { class: "scroll-x" }, table(heads, rows)));
}

function queueView(main) {
  const heads = [["Job", "tight"], ["State"], ["Network", "tight"], ["Progress", "tight"], ["Epoch", "n tight"], ["Loss", "n"], ["Learning rate", "n"],
                 ["Best", "n"], ["Images/s", "n"], ["Time", "n tight"], ["Reason"]];
  const panel = el("section"), cluster = el("section");
  main.replaceChildren(panel, cluster);
  return async () => {
    const [{ jobs }, { nodes }] = await Promise.all([ask("/v1/jobs"), ask("/v1/nodes")]);
    refresh(cluster, nodes.map(({ since, history, ...shown }) => shown), () => nodesPanel(nodes));
    const active = jobs.filter((job) => !rests(job)).length;
    document.title = active ? `(${active}) Plateau` : "Plateau";
    refresh(panel, [jobs, jobs.map(ranFor)], () =>
      jobs.length === 0 ? emptyQueue()
        : el("div", { class: "panel" },
             el("div", { class: "title" }, el("h2", {}, "Jobs"), el("span", { class: "quiet" }, `${active} active, ${jobs.length} in all`)),
             el("div", { class: "scroll-x" }, table(heads, jobs.map(jobRow), "jobs"))));
  };
}

// --- One job -----------------------------------------------------------------------------------------------------------------------

function fact(name, value, small) {
  return el("div", {}, el("dt", {}, name), el("dd", {}, value, small ? el("small", {}, " " + small) : null));
}

function jobHead(job, act) {
  const waits = ["QUEUED", "HELD"].includes(job.state);
  const trains = ["STARTING", "RUNNING"].includes(job.state);
  const ordered = job.checkpoint_order && job.checkpoint_order.open;
  const button = (text, action, possible, title, className) =>
    el("button", { class: className, disabled: !possible, title, onclick: () => act(action) }, text);
  const left = remaining(job);
  const text = [reason(job), job.message].filter(Boolean).join(" – ");
  return [
    el("div", { class: "head" }, el("h1", {}, job.id), chip(job.state), el("span", { class: "quiet" }, job.network), el("span", { class: "fill" }),
       button(ordered ? "Checkpoint…" : "Checkpoint", "checkpoint", trains && !ordered, "Write a checkpoint at the next step; training goes on"),
       button("Pause", "pause", trains || waits, "Write a checkpoint and stop; Resume goes on from there"),
       button("Resume", "resume", ["FAILED", "CANCELLED", "PAUSED"].includes(job.state), "Go on from the newest checkpoint"),
       button("Cancel", "cancel", trains || waits || job.state === "PAUSED", "End the job, after a last checkpoint", "danger")),
    text ? el("p", { class: "message " + job.state }, text) : null,
    el("dl", { class: "facts" },
       fact("Progress", el("span", {}, ...progressBar(job))),
       fact("Epoch", Number(job.epoch || 0).toFixed(2), `of ${job.max_epochs ?? "–"}`), fact("Step", format.whole(job.step)),
       fact("Loss", format.figure(job.loss)), fact("Learning rate", format.figure(job.lr)),
       fact("Best", job.best ? format.metric(job.best.metric, job.best.value) : "–", job.best ? `${job.best.metric}, validation ${job.best.validation}` : ""),
       fact("Images/s", rests(job) ? "–" : format.whole(job.images_per_s)),
       fact("Time", ranFor(job), left == null ? "" : `at most ${format.duration(left)} left`),
       job.time_limit_s ? fact("Time limit", format.duration(job.ran_s), `of ${format.duration(job.time_limit_s)}`) : null,
       job.device ? fact("Device", job.device, job.device_why || "") : null,
       fact("Restarts", String(job.restarts ?? 0), `of ${job.max_restarts ?? 0}`)),
    job.checkpoint ? el("p", { class: "path" }, "Checkpoint ", el("span", { class: "mono" }, `${job.output}/${job.checkpoint.path}`)) : null,
  ].filter(Boolean);
}

const decays = (history) => history.decisions.filter((d) => d.action !== "keep").map((d) => ({ x: d.epoch, text: d.action === "stop" ? "stop" : "lr " + format.figure(d.lr) }));

function lossPanel(points, history) {
  return [el("div", { class: "title" }, el("h2", {}, "Training loss"), legend([["loss", "--train"], ["learning rate changed"]])),
          lineChart([{ name: "loss", colour: "--train", points: points.map((p) => ({ x: p.epoch, y: p.loss })) }], decays(history), format.figure)];
}

function errorPanel(validations, history) {
  const line = (name, colour, field) => ({ name, colour, dots: true, points: validations.map((v) => ({ x: v.epoch, y: v[field] })) });
  return [el("div", { class: "title" }, el("h2", {}, "Validation error"), legend([["top-1", "--top1"], ["top-5", "--top5"], ["learning rate changed"]])),
          lineChart([line("top-1", "--top1", "top1_error"), line("top-5", "--top5", "top5_error")], decays(history), (v) => (v * 100).toFixed(1) + "%")];
}

function historyPanel(history) {
  const heads = [["Validation", "n"], ["Epoch", "n"], ["Step", "n"], [history.metric || "Value", "n"], ["Rate after", "n"], ["Action"], ["Reason"]];
  const rows = history.decisions.slice().reverse().map((d) => ({
    attributes: d.action === "keep" ? {} : { class: "decay" },
    cells: [String(d.validation), d.epoch.toFixed(2), format.whole(d.step), format.metric(history.metric, d.value), format.figure(d.lr), d.action, d.reason],
  }));
  return [el("h2", {}, "Learning rate history"), rows.length ? el("div", { class: "scroll" }, table(heads, rows)) : el("p", { class: "quiet" }, "No validation yet.")];
}

function ranksPanel(job) {
  const heads = [["Rank", "n"], ["Host"], ["GPU"], ["Step", "n"], ["Phase"], ["Heard", "n"], ["Process", "n"]];
  const rows = (job.workers || []).map((w) => ({
    cells: [String(w.rank), w.host, w.gpu ?? "–", format.whole(w.step), w.phase, el("span", { class: w.heartbeat_age_s > 5 ? "stale" : null }, w.heartbeat_age_s.toFixed(1) + "s ago"), String(w.pid)],
  }));
  return [el("h2", {}, "Ranks"), rows.length ? el("div", { class: "scroll" }, table(heads, rows, "tight")) : el("p", { class: "quiet" }, "No rank is running.")];
}

function attemptsPanel(job) {
  const heads = [["Attempt", "n"], ["State"], ["Reason"], ["Started"], ["Time", "n"], ["Exit", "n"]];
  const rows = (job.attempts || []).slice().reverse().map((a) => ({
    cells: [String(a.number), a.state, a.reason || "–", format.day(a.started), format.span(a.started, a.ended), a.exit_code == null ? "–" : String(a.exit_code)],
  }));
  return [el("h2", {}, "Attempts"), rows.length ? el("div", { class: "scroll" }, table(heads, rows)) : el("p", { class: "quiet" }, "Not started yet.")];
}

function eventsPanel(events) {
  // A checkpoint that is complete is published a moment later; one line is enough for both.
  const rows = events.filter((e) => e.type !== "checkpoint").reverse().map((e) => ({ cells: [format.clock(e.time), e.type.replaceAll("_", " "), e.message || ""] }));
  return [el("h2", {}, "Events"), el("div", { class: "scroll" }, table([["Time", "tight"], ["Event", "tight"], [""]], rows))];
}

// The tail of a log; follows the newest attempt unless one is chosen.
function logPanel(node, id) {
  const files = el("select", { "aria-label": "Log file" });
  const text = el("pre", { class: "log", tabindex: "0" }, "No log yet.");
  const state = { attempt: 0, file: "", offset: 0, text: "" };
  node.replaceChildren(el("div", { class: "title" }, el("h2", {}, "Log"), files), text);
  files.addEventListener("change", () => Object.assign(state, { offset: 0, text: "" }));
  return async () => {
    const list = await ask(`/v1/jobs/${id}/logs?list=1`);
    const options = list.attempts.flatMap((a) => a.files.map((f) => `${a.attempt}/${f.name}`));
    if (options.length === 0) return;
    const newest = Math.max(...list.attempts.map((a) => a.attempt));
    refresh(files, options, () => options.map((o) => el("option", { value: o }, `attempt ${o.replace("/", ", ")}`)));
    if (newest > state.attempt) files.value = options.find((o) => o === `${newest}/rank-0.log`) || options.find((o) => o.startsWith(newest + "/")) || options[0];
    state.attempt = newest;
    if (state.file !== files.value) Object.assign(state, { file: files.value, offset: 0, text: "" });
    const [attempt, file] = [state.file.slice(0, state.file.indexOf("/")), state.file.slice(state.file.indexOf("/") + 1)];
    const response = await fetch(`/v1/jobs/${id}/logs?attempt=${attempt}&file=${encodeURIComponent(file)}&offset=${state.offset}`);
    if (!response.ok) return;
    const more = await response.text();
    state.offset = Number(response.headers.get("Plateau-Next-Offset")) || state.offset + new TextEncoder().encode(more).length;
    if (!more && text.textContent) return;
    state.text = (state.text + more).slice(-logLimit);
    const atEnd = text.scrollHeight - text.scrollTop - text.clientHeight < 40;
    text.textContent = state.text || "The file is empty.";
    if (atEnd) text.scrollTop = text.scrollHeight;
  };
}

function jobPanels(main) {
  const names = ["head", "loss", "error", "history", "ranks", "attempts", "events", "log"];
  const panels = Object.fromEntries(names.map((name) => [name, el("section", { class: "panel" + (["head", "history", "log", "events"].includes(name) ? " wide" : "") })]));
  main.replaceChildren(panels.head, el("div", { class: "grid" }, ...names.slice(1).map((name) => panels[name])));
  return panels;
}

function jobView(main, rawId) {
  const id = encodeURIComponent(rawId);
  const seen = { points: [], events: [], last: 0 };
  const panels = jobPanels(main);
  const readLog = logPanel(panels.log, id);
  const act = async (action) => {
    if (action === "cancel" && !confirm(`Cancel ${rawId}? It writes a checkpoint and stops; Resume goes on from there.`)) return;
    try {
      await ask(`/v1/jobs/${id}/${action}`, { method: "POST" });
    } catch (error) {
      alert(error.message);
    }
    update();
  };
  return async () => {
    const after = seen.points.length ? seen.points[seen.points.length - 1].step : -1;
    const [job, metrics, history, events] = await Promise.all([
      ask(`/v1/jobs/${id}`), ask(`/v1/jobs/${id}/metrics?after_step=${after}`), ask(`/v1/jobs/${id}/lr-history`), ask(`/v1/jobs/${id}/events?after=${seen.last}`)]);
    // A resumed run goes over steps again: what it reports replaces what was drawn there.
    if (metrics.points.length) seen.points = seen.points.filter((p) => p.step < metrics.points[0].step).concat(metrics.points);
    seen.events = seen.events.concat(events.events.filter((e) => e.seq > seen.last));
    seen.last = Math.max(seen.last, events.last || 0);
    document.title = `${(share(job) * 100).toFixed(0)}% ${job.id}`;
    const width = main.clientWidth;
    refresh(panels.head, [job, ranFor(job)], () => jobHead(job, act));
    refresh(panels.loss, [seen.points.length, after, history, width], () => lossPanel(seen.points, history));
    refresh(panels.error, [metrics.validations, history, width], () => errorPanel(metrics.validations, history));
    refresh(panels.history, history, () => historyPanel(history));
    refresh(panels.ranks, job.workers, () => ranksPanel(job));
    refresh(panels.attempts, [job.attempts, job.attempts.map((a) => format.span(a.started, a.ended))], () => attemptsPanel(job));
    refresh(panels.events, seen.last, () => eventsPanel(seen.events));
    await readLog();
  };
}

// --- Going between them ------------------------------------------------------------------------------------------------------------

let show = null;
let timer = 0;
let running = false;

async function update() {
  if (running) return;
  running = true;
  clearTimeout(timer);
  const view = show;
  let away = false;
  try {
    await view();
    showConnection(null);
  } catch (error) {
    away = !error.status;
    showConnection(away ? error : null);
    if (error.status && view === show)
      document.getElementById("main").replaceChildren(el("div", { class: "panel empty" }, el("h2", {}, error.message), el("a", { href: "#/" }, "Back to the jobs")));
  }
  running = false;
  if (view !== show) return update();
  timer = setTimeout(update, document.hidden || away ? awayMs : refreshMs);
}

function route() {
  const main = document.getElementById("main");
  const match = location.hash.match(/^#\/job\/(.+)$/);
  const id = match && decodeURIComponent(match[1]);
  document.getElementById("crumbs").replaceChildren(...(id ? [el("a", { href: "#/" }, "Jobs"), " / " + id] : []));
  show = id ? jobView(main, id) : queueView(main);
  update();
}

window.addEventListener("hashchange", route);
window.addEventListener("resize", () => update());
document.addEventListener("visibilitychange", () => !document.hidden && update());
route();
