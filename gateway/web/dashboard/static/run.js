// What the models of a run say, as it comes. Without this file its page shows what is stored.
"use strict";
{
  const place = document.querySelector("[data-words]");
  const MOST = 20000; // characters of one step
  const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]/gu;
  const boxes = new Map();

  const visible = (text) => text.replace(HIDDEN, (one) => "\\u" + one.codePointAt(0).toString(16).padStart(4, "0"));

  function box(step) {
    if (boxes.has(step)) return boxes.get(step);
    const title = document.createElement("h3");
    const words = document.createElement("pre");
    const made = { title, words, text: "" };
    words.tabIndex = 0;
    place.append(title, words);
    place.hidden = false;
    boxes.set(step, made);
    return made;
  }

  function drop(step) {
    const gone = boxes.get(step);
    if (!gone) return;
    gone.title.remove();
    gone.words.remove();
    boxes.delete(step);
    place.hidden = boxes.size === 0;
  }

  function say(step, text) {
    const its = box(step);
    its.text = (its.text + text).slice(-MOST);
    const low = its.words.scrollHeight - its.words.scrollTop - its.words.clientHeight < 40;
    its.words.textContent = visible(its.text);
    if (low) its.words.scrollTop = its.words.scrollHeight; // who reads further up stays there
  }

  // A stream tells a run from its beginning; one that the browser mended itself goes on.
  document.addEventListener("listening", () => { for (const step of Array.from(boxes.keys())) drop(step); });

  document.addEventListener("told", (event) => {
    if (!place) return;
    let told;
    try { told = JSON.parse(event.detail); } catch { return; }
    if (told.type === "run:token" && typeof told.text === "string") {
      say(told.stepId, told.text);
      event.preventDefault();
    } else if (told.type === "run:step" && told.status === "running") {
      drop(told.stepId);
      box(told.stepId).title.textContent = visible(String(told.agentSlug || "analysis")) + ", as it comes";
    } else if (told.type === "run:step") {
      drop(told.stepId); // its page has it now
    }
  });
}
