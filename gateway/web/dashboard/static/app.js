// Live numbers, times in the reader's zone, the theme and a few keys. Every page works without this file.
"use strict";

const body = document.body;
const base = body.dataset.base;
const topics = body.dataset.topics;
const LEAST_MS = 2000; // between two looks
const POLL_MS = 10000;
let againMs = Number(body.dataset.again) * 1000; // of a page whose end is near: looked at sooner
// Browsers open six connections to a host: with a stream in each of six tabs the next page would wait for ever.
const STREAMS = 3;
const LEASE = "gateway_stream_";
const tab = LEASE + Math.random().toString(36).slice(2);

const byId = (id) => document.getElementById(id);

// A browser may forbid its storage; then nothing is remembered.
const store = {
  get(key) { try { return localStorage.getItem(key); } catch { return null; } },
  set(key, value) { try { localStorage.setItem(key, value); } catch { /* not remembered */ } },
  drop(key) { try { localStorage.removeItem(key); } catch { /* it was not there */ } },
  keys() { try { return Object.keys(localStorage); } catch { return []; } },
};

let stream = null;
let looking = false;
let shown = Date.now();
let looked = Date.now();
let due = 0;
let live = store.get("gateway_live") !== "off";

const watching = () => live && !document.hidden;

// ---- times

const UNITS = [[86400, "d"], [3600, "h"], [60, "m"], [1, "s"]];

function duration(seconds) {
  let left = Math.round(seconds);
  const parts = [];
  for (const [size, unit] of UNITS) {
    const number = Math.floor(left / size);
    left %= size;
    if (number || parts.length) parts.push(number ? number + " " + unit : "");
    if (parts.length === 2) break;
  }
  return parts.filter(Boolean).join(" ");
}

function showTime(time) {
  const moment = new Date(time.dateTime);
  if (Number.isNaN(moment.getTime())) return;
  const exact = moment.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "long" }) + " (" + time.dateTime + ")";
  if (time.title !== exact) time.title = exact;
  const away = (Date.now() - moment.getTime()) / 1000;
  let words = null;
  if (time.className === "ago") {
    words = Math.abs(away) < 1 ? "now" : away > 0 ? duration(away) + " ago" : "in " + duration(-away);
  } else if (time.className === "clock") {
    const today = moment.toDateString() === new Date().toDateString();
    words = moment.toLocaleString(undefined, today ? { timeStyle: "medium" } : { dateStyle: "medium", timeStyle: "medium" });
  }
  if (words && time.textContent !== words) time.textContent = words;
}

// What the server cannot know, or what does nothing without scripts.
function finish(root) {
  for (const time of root.querySelectorAll("time[datetime]")) showTime(time);
  for (const button of root.querySelectorAll("[data-copy]")) button.hidden = false;
}

// ---- what is new

// Its words without what only time changes.
function told(element) {
  const copy = element.cloneNode(true);
  for (const time of copy.querySelectorAll("time")) time.remove();
  return copy.textContent;
}

function titles(root) {
  return Array.from(root.querySelectorAll(".banner strong"), (title) => title.textContent).join(" ");
}

function replace(mine, theirs) {
  const news = mine.hasAttribute("data-tell") && told(mine) !== told(theirs);
  const before = titles(mine);
  const atEnd = mine.hasAttribute("data-end") && mine.scrollHeight - mine.scrollTop - mine.clientHeight < 8;
  mine.replaceChildren(...theirs.cloneNode(true).childNodes);
  mine.className = theirs.className;
  finish(mine);
  if (atEnd) toEnd(mine);
  if (news) mine.classList.add("changed");
  if (mine.id === "banners" && titles(mine) !== before) byId("spoken").textContent = titles(mine);
}

// A log is read from its end, and goes on there unless the reader went elsewhere.
function toEnd(element) { element.scrollTop = element.scrollHeight; }
for (const element of document.querySelectorAll("[data-end]")) toEnd(element);

const held = (element) => element.contains(document.activeElement) && !document.activeElement.hasAttribute("data-end");
const busy = (element) => held(element) || element.querySelector("details[open], input:checked") !== null;

// Only what has a name on both pages is changed: nothing moves under the reader. Rows that are new are counted.
function update(fresh) {
  for (const mine of document.querySelectorAll("main [id], #mode")) {
    if (!mine.isConnected || mine.id === "main" || mine.matches("form, input, textarea, select") || busy(mine)) continue;
    const theirs = fresh.getElementById(mine.id);
    if (!theirs) continue;
    const now = theirs.cloneNode(true);
    finish(now);
    if (now.innerHTML !== mine.innerHTML || (theirs.className !== mine.className && !mine.classList.contains("changed"))) {
      replace(mine, theirs);
    }
  }
  againMs = Number(fresh.body.dataset.again) * 1000;
  const rows = Array.from(fresh.querySelectorAll("table[data-list] tbody tr"));
  const added = rows.filter((row) => !byId(row.id)).length;
  const news = byId("news");
  if (!news) return;
  const noun = news.dataset.noun || "job";
  const words = added + " other " + noun + (added === 1 ? "" : "s") + " · Show";
  news.hidden = !added;
  if (news.firstChild.textContent !== words) news.firstChild.textContent = words;
}

async function look() {
  if (!watching() || looking) return;
  looking = true;
  looked = Date.now();
  clearTimeout(due);
  due = 0;
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" }, credentials: "same-origin" });
    if (answer.redirected && new URL(answer.url).pathname.endsWith("/login")) {
      document.dispatchEvent(new Event("signedout"));
      location.reload();
      return;
    }
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (!answer.ok) { stale(fresh.querySelector("main [role=alert]:not(#stale)")?.textContent); return; }
    if (document.querySelector("[data-heals]")) { location.reload(); return; }
    update(fresh);
    shown = Date.now();
    stale(null);
  } catch {
    stale("The gateway does not answer.");
  } finally {
    looking = false;
  }
}

// What is shown is old, and why; null: it is not. A page that could not be loaded says so itself.
function stale(why) {
  const place = byId("stale");
  const words = why === null ? "" : (why || "This page cannot be loaded now.").trim() + " What you see is from "
    + new Date(shown).toLocaleTimeString() + "; trying again by itself.";
  place.hidden = !words || document.querySelector("[data-heals]") !== null;
  if (place.lastElementChild.textContent !== words) place.lastElementChild.textContent = words;
  lag();
}

function lag() {
  const words = live && topics && !stream ? "updating every 10 s" : "";
  if (byId("lag").textContent !== words) byId("lag").textContent = words;
}

function soon() {
  if (!due) due = setTimeout(look, Math.max(0, looked + LEAST_MS - Date.now()));
}

// ---- the stream of news: one for a tab, in few tabs at a time; the others look every ten seconds

function otherStreams() {
  const now = Date.now();
  let found = 0;
  for (const key of store.keys()) {
    if (!key.startsWith(LEASE) || key === tab) continue;
    if (now - Number(store.get(key)) < 2.5 * POLL_MS) found += 1; else store.drop(key);
  }
  return found;
}

function listen() {
  if (!topics || !watching()) return;
  if (!stream && otherStreams() < STREAMS) {
    stream = new EventSource(base + "/events?topics=" + encodeURIComponent(topics));
    // What a page does with a message itself it says so, and looks for nothing.
    stream.onmessage = (event) => { if (document.dispatchEvent(new CustomEvent("told", { detail: event.data, cancelable: true }))) soon(); };
    document.dispatchEvent(new Event("listening"));
    stream.onopen = soon; // what happened between the page and the stream was not told
    stream.onerror = () => { if (stream && stream.readyState === EventSource.CLOSED) hush(); };
  }
  if (stream) store.set(tab, String(Date.now()));
}

function hush() {
  if (stream) stream.close();
  stream = null;
  store.drop(tab);
  clearTimeout(due);
  due = 0;
}

function turn() {
  if (watching()) { listen(); look(); } else { hush(); }
}

document.addEventListener("visibilitychange", turn);
window.addEventListener("pagehide", hush);
window.addEventListener("pageshow", (event) => { if (event.persisted) turn(); });
async function pass() { // a proxy may hold the stream back, and new jobs are not told on it
  finish(document);
  if (watching() && (topics || againMs)) {
    listen();
    await look();
  }
  setTimeout(pass, againMs || POLL_MS);
}
setTimeout(pass, againMs || POLL_MS);

// ---- controls

const liveButton = byId("live");
liveButton.hidden = !topics;
function showLive() {
  liveButton.setAttribute("aria-pressed", String(live));
  liveButton.setAttribute("aria-label", "Live updates");
  liveButton.querySelector(".word").textContent = live ? "Live" : "Paused";
}
liveButton.addEventListener("click", () => {
  live = !live;
  store.set("gateway_live", live ? "on" : "off");
  showLive();
  turn();
  lag();
});
showLive();

const root = document.documentElement;
const themeButton = byId("theme");
themeButton.hidden = false;
function showTheme() { themeButton.querySelector(".word").textContent = root.dataset.theme; }
themeButton.addEventListener("click", () => {
  root.dataset.theme = { auto: "dark", dark: "light", light: "auto" }[root.dataset.theme] || "auto";
  document.cookie = "gateway_theme=" + root.dataset.theme + "; path=" + base + "; max-age=31536000; samesite=strict";
  showTheme();
});
showTheme();

// Without TLS browsers give pages no clipboard: then the old way, by a selection.
async function copy(text) {
  if (navigator.clipboard) { await navigator.clipboard.writeText(text); return; }
  const field = document.createElement("textarea");
  field.value = text;
  body.append(field);
  field.select();
  document.execCommand("copy");
  field.remove();
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  await copy(byId(button.dataset.copy).textContent);
  button.textContent = "Copied";
  byId("spoken").textContent = "Copied";
  button.focus();
});

// A row leads where its first link leads; who marks text on it stays.
document.addEventListener("click", (event) => {
  const row = event.target.closest("table.rows tbody tr");
  if (!row || event.target.closest("a, button, input, label, summary, .tick") || String(getSelection())) return;
  const link = row.querySelector("a");
  if (event.ctrlKey || event.metaKey) window.open(link.href, "_blank", "noopener"); else location.href = link.href;
});

// One box for all boxes of the page; what is done to those ticked waits for one.
const all = byId("tick-all");
if (all) {
  const boxes = Array.from(document.querySelectorAll("td.tick input"));
  const count = byId("ticked-count");
  const counted = () => {
    const ticked = boxes.filter((box) => box.checked).length;
    all.checked = ticked === boxes.length;
    count.textContent = ticked ? ticked + " ticked:" : "Ticked:";
    for (const button of byId("ticked").elements) if (button.type === "submit") button.disabled = !ticked;
  };
  all.hidden = false;
  all.addEventListener("change", () => { for (const box of boxes) box.checked = all.checked; counted(); });
  for (const box of boxes) box.addEventListener("change", counted);
  window.addEventListener("pageshow", counted);
  counted();
}

document.addEventListener("animationend", (event) => event.target.classList.remove("changed"));

// ---- keys

const keys = byId("keys");
const help = byId("help");
help.hidden = false;
help.addEventListener("click", () => keys.showModal());

function shut() {
  const open = document.querySelector("details.ask[open]");
  if (!open) return;
  open.open = false;
  open.querySelector("summary").focus();
}

const COMMANDS = {
  "/": () => (document.querySelector("main input[type=search]") || byId("find") || body).focus(),
  "?": () => keys.showModal(),
  "r": look,
  "t": () => themeButton.click(),
  "l": () => { if (!liveButton.hidden) liveButton.click(); },
};

let went = false;
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || keys.open) return;
  if (event.key === "Escape") { shut(); return; }
  if (event.target.closest("input, textarea, select")) return;
  const place = went ? document.querySelector('nav a[data-key="' + CSS.escape(event.key) + '"]') : null;
  went = event.key === "g";
  if (place) { location.href = place.href; return; }
  const command = COMMANDS[event.key];
  if (command) { event.preventDefault(); command(); }
});

document.addEventListener("click", (event) => { // one question at a time
  for (const open of document.querySelectorAll(".bar details.ask[open]")) {
    if (!open.contains(event.target)) open.open = false;
  }
});

finish(document);
if (byId("done")) byId("done").focus({ preventScroll: true });
listen();
lag();
