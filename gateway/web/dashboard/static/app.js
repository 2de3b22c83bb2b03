// Live numbers, the theme and a few keys. Every page works without this file.
"use strict";

const body = document.body;
const base = body.dataset.base;
const topics = body.dataset.topics;
const LEAST_MS = 2000; // between two looks
const POLL_MS = 10000;

let stream = null;
let shown = Date.now();
let looked = Date.now();
let due = 0;
let live = localStorage.getItem("gateway_live") !== "off";

const watching = () => live && !document.hidden;

function exactTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const moment = new Date(time.dateTime);
    if (!Number.isNaN(moment.getTime())) time.title = moment.toLocaleString() + " (" + time.dateTime + ")";
  }
}

// The page again from the server, and only what has a name on both: rows never move under the reader.
async function look() {
  if (!watching()) return;
  looked = Date.now();
  due = 0;
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" }, credentials: "same-origin" });
    if (answer.redirected && new URL(answer.url).pathname.endsWith("/login")) { location.reload(); return; }
    if (!answer.ok) throw new Error(String(answer.status));
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const mine of document.querySelectorAll("main [id], #mode")) {
      if (mine.id === "main" || mine.contains(document.activeElement) || mine.querySelector("details[open]")) continue;
      const theirs = fresh.getElementById(mine.id);
      if (!theirs || theirs.innerHTML === mine.innerHTML) continue;
      if (mine.matches("form, input, textarea, select")) continue;
      const kept = theirs.textContent === mine.textContent;
      mine.replaceChildren(...theirs.cloneNode(true).childNodes);
      mine.className = theirs.className;
      if (!kept && mine.id !== "banners") mine.classList.add("changed");
      exactTimes(mine);
    }
    shown = Date.now();
    say("");
  } catch {
    say("Live updates stopped. Showing " + new Date(shown).toLocaleTimeString() + ".");
  }
}

function say(text) {
  const place = document.getElementById("lag");
  const words = text || (live && topics && !stream ? "updating every 10 s" : "");
  if (place.textContent !== words) place.textContent = words;
}

function soon() {
  if (due) return;
  due = setTimeout(look, Math.max(0, looked + LEAST_MS - Date.now()));
}

function listen() {
  if (!topics || stream || !watching()) return;
  stream = new EventSource(base + "/events?topics=" + encodeURIComponent(topics));
  stream.onmessage = soon;
  stream.onerror = () => { if (stream && stream.readyState === EventSource.CLOSED) hush(); };
}

function hush() {
  if (stream) stream.close();
  stream = null;
  clearTimeout(due);
  due = 0;
}

function turn() {
  if (watching()) { listen(); look(); } else { hush(); }
}

document.addEventListener("visibilitychange", turn);
window.addEventListener("pagehide", hush);
setInterval(() => { // a proxy may hold the stream back, and new jobs are not told on it
  if (!watching() || !topics) return;
  listen();
  look();
}, POLL_MS);

const liveButton = document.getElementById("live");
liveButton.hidden = !topics;
function showLive() {
  liveButton.setAttribute("aria-pressed", String(live));
  liveButton.textContent = live ? "⏸ Live" : "▶ Paused";
}
liveButton.addEventListener("click", () => {
  live = !live;
  localStorage.setItem("gateway_live", live ? "on" : "off");
  showLive();
  turn();
});
showLive();

const root = document.documentElement;
const themeButton = document.getElementById("theme");
themeButton.hidden = false;
function showTheme() { themeButton.textContent = "◐ " + root.dataset.theme; }
themeButton.addEventListener("click", () => {
  root.dataset.theme = { auto: "dark", dark: "light", light: "auto" }[root.dataset.theme] || "auto";
  document.cookie = "gateway_theme=" + root.dataset.theme + "; path=" + base + "; max-age=31536000; samesite=strict";
  showTheme();
});
showTheme();

let went = false;
const PLACES = { o: "", j: "/jobs", s: "/schedules", w: "/replicas" };
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, textarea, select")) return;
  if (went && event.key in PLACES) { location.href = base + PLACES[event.key]; return; }
  went = event.key === "g";
  const field = document.querySelector("main input[type=search], #find");
  if (event.key === "/" && field) { event.preventDefault(); field.focus(); }
  if (event.key === "r") look();
  if (event.key === "t") themeButton.click();
});

exactTimes(document);
listen();
