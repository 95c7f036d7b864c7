// Asks the agent once a second, follows its events, and goes on when the agent has been
// away. A page that nobody sees, or that is paused, asks for nothing.

import { clock, duration } from "./format.js";
import * as views from "./views.js";

const PERIOD_MS = 1000;
const PATIENCE_MS = 8000;
/** How long to wait before a stream of events that was refused is asked for again. */
const REFUSED_MS = 5000;
/** How many events are listed. */
const MOST = 100;
/** How often events are added to the list. */
const FLUSH_MS = 250;

const pause = document.getElementById("pause");
const events = document.getElementById("events");

let paused = false;
let unreachedSince;
let process;
let timer;

class Answered extends Error {}

async function ask(what) {
  const answer = await fetch(`/api/v1/${what}`, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
  if (!answer.ok) throw new Answered(`${answer.status}: ${(await answer.text()).trim().slice(0, 200)}`);
  return answer.json();
}

async function look() {
  try {
    const [status, connections, scheduler] = await Promise.all(["status", "connections", "scheduler"].map(ask));
    views.note(status.paths);
    views.summary(status);
    views.paths(status.paths);
    views.connections(connections);
    views.scheduler(scheduler);
    views.copies(status);
    if (process !== undefined && process !== status.agent.pid) add(views.gap("another agent answers now"));
    process = status.agent.pid;
    unreachedSince = undefined;
    views.reached("good", "live");
  } catch (error) {
    unreachedSince ??= new Date();
    const since = `since ${clock(unreachedSince)} (${duration((Date.now() - unreachedSince) / 1000)})`;
    views.reached("bad", error instanceof Answered
      ? `the agent answers ${error.message}, ${since}`
      : `the agent cannot be reached ${since}; trying again`);
  }
}

async function turn() {
  timer = undefined;
  const start = performance.now();
  await look();
  if (!active()) return rest();
  timer ??= setTimeout(turn, Math.max(100, PERIOD_MS - (performance.now() - start)));
}

const active = () => !paused && !document.hidden;

function rest() {
  if (paused) views.reached("wait", `paused at ${clock(new Date())}`);
}

let stream;
let again;
let queue = [];
let flushing;

function add(entry) {
  queue.unshift(entry);
  queue.length = Math.min(queue.length, MOST);
  flushing ??= setTimeout(flush, FLUSH_MS);
}

function flush() {
  flushing = undefined;
  document.getElementById("no-events").hidden = true;
  events.prepend(...queue);
  queue = [];
  while (events.children.length > MOST) events.lastChild.remove();
}

function follow() {
  clearTimeout(again);
  stream?.close();
  let wasOpen = false;
  stream = new EventSource("/api/v1/events");
  stream.onopen = () => (wasOpen = true);
  stream.onmessage = (message) => {
    const line = JSON.parse(message.data);
    if (line.reply === "event") add(views.event(line));
    else if (line.in_ring + line.to_client > 0) add(views.gap(`${line.in_ring + line.to_client} events were lost`));
  };
  stream.onerror = () => {
    if (wasOpen) add(views.gap("interrupted: events may be missing here"));
    wasOpen = false;
    // The browser itself asks again, unless the answer was a refusal.
    if (stream.readyState === EventSource.CLOSED) again = setTimeout(follow, REFUSED_MS);
  };
}

function leave() {
  clearTimeout(again);
  if (stream) add(views.gap("not followed while the page was paused or hidden"));
  stream?.close();
  stream = undefined;
}

function changed() {
  pause.setAttribute("aria-pressed", paused);
  pause.textContent = paused ? "Go on" : "Pause";
  clearTimeout(timer);
  timer = undefined;
  if (active()) {
    if (!stream) follow();
    turn();
  } else {
    leave();
    rest();
  }
}

pause.addEventListener("click", () => {
  paused = !paused;
  changed();
});
document.addEventListener("visibilitychange", changed);
changed();
