// Writes what the agent answers into the page. All text from the agent is set as text.

import { draw, list, make, set, show, text } from "./dom.js";
import { bytes, clock, count, duration, milliseconds, percent, policy, rate } from "./format.js";

const byId = (id) => document.getElementById(id);

/** Writes names and values: `[name, value]`, and `true` if it needs a whole line. */
function facts(parent, pairs) {
  const known = pairs.filter(([, value]) => value !== undefined);
  const row = ([name, , wide]) => make("div", wide ? { class: "wide" } : {}, make("dt", {}, name), make("dd"));
  list(parent, known, ([name]) => name, row, (child, [, value]) => text(child.lastChild, value));
}

function badge(node, kind, words) {
  // The sign says without colour what the colour says.
  const signs = { good: "●", warn: "◐", bad: "▲", still: "○", wait: "◌" };
  set(node, "class", `badge ${kind}`);
  text(node, `${signs[kind]} ${words}`);
}

/** Says whether the agent can be reached. */
export function reached(kind, words) {
  badge(byId("reached"), kind, words);
  document.body.classList.toggle("unreached", kind === "bad");
}

export function summary(status) {
  const { agent } = status;
  const then = status.policy.then;
  const next = then ? `; in ${duration(then.in_seconds)}: ${policy(then.policy)}` : "";
  const missing = status.hooks.filter((hook) => !hook.attached).map((hook) => hook.program);
  facts(byId("summary"), [
    ["Policy", `${policy(status.policy.policy)} (backend ${status.policy.backend})${next}`, true],
    ["Connections", count(status.connections)],
    ["Subflows", count(status.subflows)],
    ["Up for", duration(agent.uptime_seconds)],
    ["Events lost", count(status.events_lost)],
    ["Maps full", status.map_full ? count(status.map_full) : undefined],
    ["Not attached", missing.length ? missing.join(", ") : undefined, true],
    ["If it is killed", agent.outlived ? undefined : `limits stay: ${agent.not_outlived_because ?? ""}`, true],
  ]);
  text(byId("version"), `mptcp-agent ${agent.version} (${agent.commit.slice(0, 12)}), pid ${agent.pid}. Read-only.`);
}

/** Says what state a path is in, as `mptcp-agent status` does. */
function stateOf(path) {
  const down = path.subflows > 0 && path.alive === 0 ? "down, " : "";
  if (!path.present) return ["bad", "absent"];
  if (path.carrier === false) return ["bad", "no carrier"];
  if (path.subflows === 0) return ["still", "idle"];
  if (path.quota?.spent && path.quota.action === "standby") {
    return ["bad", `${down}standby, quota spent until ${path.quota.until}`];
  }
  if (path.left_out) {
    const out = path.left_out;
    const [measured, bound] = out.reason === "rtt"
      ? [`round trip ${milliseconds(out.rtt_seconds)}`, milliseconds(out.rtt_bound_seconds)]
      : [`loss ${percent(out.loss)}`, percent(out.loss_bound)];
    return ["warn", `${down}${out.tried ? "tried again" : "left out"}: ${measured} of at most ${bound}`];
  }
  if (path.down) return ["bad", `down, ${path.down.replaceAll("-", " ")}`];
  if (path.alive === 0) return ["bad", "down"];
  if (path.weight === 0) return ["warn", "standby"];
  if (path.alive < path.subflows) return ["warn", "partly down"];
  return ["good", "alive"];
}

/** How many looks a drawing of rates goes back. */
const HISTORY = 60;

/** The rates of each path, by label: `[acked, received]`. */
const histories = new Map();

/** Notes the rates for the drawings, once for each look. */
export function note(paths) {
  const labels = new Set(paths.map((path) => path.path));
  for (const label of histories.keys()) if (!labels.has(label)) histories.delete(label);
  for (const path of paths) {
    const history = histories.get(path.path) ?? [];
    history.push([path.acked_bytes_per_second, path.received_bytes_per_second]);
    histories.set(path.path, history.slice(-HISTORY));
  }
}

function line(history, which, most) {
  const points = history.map((rates, index) => {
    const x = HISTORY - history.length + index;
    return `${x},${(38 - (36 * rates[which]) / most).toFixed(1)}`;
  });
  return points.join(" ");
}

function spark(drawing, history) {
  const most = Math.max(1, ...history.flat());
  const [acked, received] = [line(history, 0, most), line(history, 1, most)];
  const start = HISTORY - history.length;
  const [, area, upper, dashes] = drawing.children;
  set(area, "points", `${start},38.5 ${acked} ${HISTORY - 1},38.5`);
  set(upper, "points", acked);
  set(dashes, "points", received);
}

function makeCard() {
  const bar = draw("svg", { class: "bar", viewBox: "0 0 100 14", preserveAspectRatio: "none", "aria-hidden": "true" },
    draw("rect", { class: "all", width: 100, height: 10, y: 2, rx: 1 }),
    draw("rect", { class: "part", height: 10, y: 2, rx: 1 }),
    draw("rect", { class: "target", width: 0.8, height: 14 }));
  const drawing = draw("svg", { class: "spark", viewBox: `0 0 ${HISTORY - 1} 40`, preserveAspectRatio: "none", "aria-hidden": "true" },
    draw("line", { class: "base", x1: 0, x2: HISTORY - 1, y1: 39, y2: 39 }),
    draw("polygon", { class: "area" }), draw("polyline", { class: "acked" }), draw("polyline", { class: "received" }));
  const parts = {
    name: make("h3"), state: make("span"), where: make("p", { class: "where" }),
    now: make("span", { class: "now" }), asked: make("span", { class: "asked" }),
    bar, drawing, facts: make("dl", { class: "facts" }),
  };
  const share = make("div", { class: "share" },
    make("p", {}, parts.now, parts.asked), bar);
  const card = make("li", { class: "card" },
    make("header", {}, parts.name, parts.state), parts.where, share, drawing, parts.facts);
  card.parts = parts;
  return card;
}

function fillCard(card, path) {
  const { parts } = card;
  set(card, "data-path", path.path);
  text(parts.name, path.path);
  badge(parts.state, ...stateOf(path));
  const device = path.device && path.device !== path.path ? [path.device] : [];
  text(parts.where, [...device, ...path.addresses].join(", "));
  text(parts.now, path.share === undefined ? "no traffic" : percent(path.share));
  const target = path.target_share;
  text(parts.asked, path.share === undefined && target === undefined ? "" :
    [path.share === undefined ? "" : "of all acked", target === undefined ? "" : `target ${percent(target)}`]
      .filter(Boolean).join(", "));
  const [, part, mark] = parts.bar.children;
  set(part, "width", ((path.share ?? 0) * 100).toFixed(1));
  set(mark, "x", ((target ?? 0) * 99.2).toFixed(1));
  set(mark, "visibility", target === undefined ? "hidden" : "visible");
  spark(parts.drawing, histories.get(path.path) ?? []);
  const { quota } = path;
  facts(parts.facts, [
    ["Acked", rate(path.acked_bytes_per_second)],
    ["Received", rate(path.received_bytes_per_second)],
    ["Round trip", milliseconds(path.rtt_seconds)],
    ["Subflows", path.alive === path.subflows ? count(path.subflows) : `${path.alive} of ${path.subflows} alive`],
    ["Weight", path.weight === undefined ? undefined : count(path.weight)],
    ["Rank", path.rank === undefined ? undefined : count(path.rank)],
    ["Resent", count(path.retransmitted_segments)],
    ["Limit", path.limit_bytes_per_second === undefined ? undefined : rate(path.limit_bytes_per_second)],
    ["Quota", quota ? `${bytes(quota.used_bytes)} of ${bytes(quota.quota_bytes)}` : undefined],
  ]);
}

export function paths(all) {
  list(byId("paths"), all, (path) => path.path, makeCard, fillCard);
  show(byId("no-paths"), all.length === 0);
}

function cell(label, number) {
  const attributes = { role: "cell", "data-label": label };
  if (number) attributes.class = "number";
  return make("td", attributes);
}

/** Makes a row: the first name is that of its header. */
function row(names, more = {}) {
  const cells = names.map(([name, number]) => cell(name, number));
  return make("tr", { role: "row", ...more }, make("th", { scope: "row", role: "rowheader" }), ...cells);
}

function fillRow(tr, values) {
  values.forEach((value, index) => text(tr.children[index + 1], value));
}

const RATES = [["Acked", true], ["Received", true], ["Round trip", true], ["Share", true], ["State"]];
const CONNECTION = [["Policy"], ...RATES];
const SUBFLOW = [["Path"], ...RATES];

/** The connections whose subflows the user has opened or closed, by key. */
const chosen = new Map();

const keyOf = (connection) => connection.token ?? `cookie ${connection.subflows[0]?.cookie}`;

function makeConnection(connection) {
  const head = row(CONNECTION);
  const button = make("button", { type: "button", class: "open-subflows" },
    make("span", { class: "sign", "aria-hidden": "true" }), make("span", { class: "mono" }));
  head.firstChild.append(button);
  const group = make("tbody", { role: "rowgroup" }, head);
  button.addEventListener("click", () => {
    chosen.set(keyOf(connection), button.getAttribute("aria-expanded") !== "true");
    fillConnection(group, group.shown, group.many);
  });
  return group;
}

function stateOfConnection(connection) {
  const lacks = `${connection.subflows.length} of ${connection.subflows_allowed} subflows`;
  return [
    connection.side,
    connection.fallback ? "fell back to TCP" : "",
    connection.steered ? "steered" : "",
    connection.short ? `short: ${lacks}` : "",
    connection.peer_proven === undefined ? "" : connection.peer_proven ? "peer proven" : "peer not proven",
  ].filter(Boolean).join(", ");
}

function stateOfSubflow(subflow) {
  const cap = subflow.cap_bytes_per_second;
  return [
    subflow.alive ? "alive" : "down",
    subflow.joined ? "joined" : "first",
    subflow.backup ? "backup" : "",
    subflow.stale ? "stale" : "",
    cap === 0 ? "held out" : cap === undefined ? "" : `cap ${rate(cap)}`,
    subflow.copies_sent ? `${count(subflow.copies_sent)} copies` : "",
  ].filter(Boolean).join(", ");
}

function fillConnection(group, connection, many) {
  [group.shown, group.many] = [connection, many];
  const key = keyOf(connection);
  const open = chosen.get(key) ?? !many;
  const head = group.firstElementChild;
  const button = head.firstChild.firstChild;
  set(button, "aria-expanded", open);
  const { length } = connection.subflows;
  set(button, "aria-label", `Connection ${key}, ${length} ${length === 1 ? "subflow" : "subflows"}`);
  set(group, "data-connection", key);
  text(button.firstChild, open ? "▾" : "▸");
  text(button.lastChild, key);
  const rule = connection.rule === undefined ? "" : ` (rule ${connection.rule})`;
  fillRow(head, [
    `${connection.policy ?? ""}${rule}`,
    rate(connection.acked_bytes_per_second),
    rate(connection.received_bytes_per_second),
    "", "",
    stateOfConnection(connection),
  ]);
  list(group, open ? connection.subflows : [], (subflow) => subflow.cookie,
    () => row(SUBFLOW, { class: "subflow" }), fillSubflow);
}

function fillSubflow(tr, subflow) {
  text(tr.firstChild, `${subflow.local} → ${subflow.remote}`);
  const device = subflow.device && subflow.device !== subflow.path ? ` (${subflow.device})` : "";
  fillRow(tr, [
    `${subflow.path}${device}`,
    rate(subflow.acked_bytes_per_second),
    rate(subflow.received_bytes_per_second),
    milliseconds(subflow.srtt_seconds),
    percent(subflow.share),
    stateOfSubflow(subflow),
  ]);
}

/** More connections than this are shown closed. */
const FEW = 4;

export function connections({ connections: all, open }) {
  const table = byId("connections");
  const keys = new Set(all.map(keyOf));
  for (const key of chosen.keys()) if (!keys.has(key)) chosen.delete(key);
  list(table, all, keyOf, makeConnection, (group, one) => fillConnection(group, one, all.length > FEW));
  text(byId("connections-count"), open > all.length ? `the busiest ${all.length} of ${count(open)}` : count(open));
  show(table, all.length > 0);
  show(byId("no-connections"), all.length === 0);
}

const ASIDE = ["backup", "stale", "inactive", "standby"];

export function scheduler({ observed, paths: all }) {
  const sum = all.reduce((sum, path) => sum + path.recent.decisions, 0);
  const names = [["Chosen", true], ["Queue full", true], ["Took part", true], ["Passed over, because it was"]];
  list(byId("scheduler").tBodies[0], all, (path) => path.path, () => row(names), (tr, path) => {
    const { decisions, blocked, candidates } = path.recent;
    const aside = ASIDE.filter((state) => candidates[state]);
    text(tr.firstChild, path.path);
    fillRow(tr, [
      sum ? `${count(decisions)} (${percent(decisions / sum)})` : "0",
      count(blocked),
      count(candidates.eligible),
      aside.map((state) => `${state} (${count(candidates[state])}×)`).join(", ") || "–",
    ]);
  });
  show(byId("scheduler"), observed && all.length > 0);
  const without = byId("no-scheduler");
  show(without, !observed || all.length === 0);
  text(without, observed ? "No path is named or in use." :
    "The agent cannot see the scheduler's choices: its program is not attached.");
}

export function copies(status) {
  const all = status.paths.filter((path) => path.copies);
  show(byId("copies-section"), Boolean(status.peers));
  if (!status.peers) return;
  const { proven, silent, asking, refused } = status.peers;
  text(byId("peers"), `pairs of addresses whose agent is proven: ${proven}, silent: ${silent}, ` +
    `asked: ${asking}, refused: ${refused}`);
  const names = ["Copies sent", "Not sent", "Rescues", "Rescued", "Came second"].map((name) => [name, true]);
  list(byId("copies").tBodies[0], all, (path) => path.path, () => row(names), (tr, path) => {
    const { sent, dropped, received_first, received_duplicate, rescued_bytes } = path.copies;
    text(tr.firstChild, path.path);
    fillRow(tr, [count(sent), count(dropped), count(received_first), bytes(rescued_bytes), count(received_duplicate)]);
  });
}

/** Makes the entry of an event. */
export function event(shown) {
  const reset = shown.reset_by ? `by ${shown.reset_by}${shown.reset_reason ? `, ${shown.reset_reason}` : ""}` : "";
  const more = [
    shown.reason, reset,
    shown.backup === undefined ? "" : shown.backup ? "now a backup" : "no longer a backup",
    shown.stale === undefined ? "" : shown.stale ? "now stale" : "no longer stale",
    shown.local ? `${shown.local} → ${shown.remote}` : "",
    shown.acked_bytes === undefined ? "" : `${bytes(shown.acked_bytes)} acked`,
    shown.used_bytes === undefined ? "" : `${bytes(shown.used_bytes)} of ${bytes(shown.quota_bytes)}`,
  ].filter(Boolean).join(", ");
  return make("li", { "data-event": shown.event, "data-path": shown.path },
    make("time", { datetime: shown.time }, clock(new Date(shown.time))),
    make("strong", {}, shown.event.replaceAll("_", " ")),
    make("span", {}, `path ${shown.path}`),
    make("span", { class: "mono" }, shown.token ?? ""),
    make("span", { class: "more" }, more));
}

/** Makes an entry that says why events are missing. */
export function gap(words) {
  return make("li", { class: "interrupted" }, make("time", {}, clock(new Date())), make("strong", {}, words));
}
