// What was typed outlives a session that ends meanwhile: it comes back with the page, in this tab only.
"use strict";

const DRAFT = "gateway_draft";
const draft = {
  get() { try { return JSON.parse(sessionStorage.getItem(DRAFT)); } catch { return null; } },
  keep(form, lost) { // lost: it was not sent
    const fields = Array.from(new FormData(form)).filter(([, value]) => typeof value === "string");
    draft.put({ action: form.action, fields, lost });
  },
  put(kept) { try { sessionStorage.setItem(DRAFT, JSON.stringify(kept)); } catch { /* not kept */ } },
  drop() { try { sessionStorage.removeItem(DRAFT); } catch { /* it was not there */ } },
};

document.addEventListener("submit", (event) => {
  if (event.target.matches("main form[method=post]") && !document.querySelector(".door")) draft.keep(event.target, false);
});
document.addEventListener("signedout", () => {
  const form = document.querySelector("main details.ask[open] form[method=post]");
  if (form) draft.keep(form, true);
});

function restore() {
  const kept = draft.get();
  if (!kept) return;
  const note = document.querySelector("[data-draft]");
  if (note) { note.hidden = false; kept.lost = true; draft.put(kept); }
  if (document.querySelector(".door")) return;
  draft.drop();
  if (!kept.lost) return;
  const form = Array.from(document.forms).find((one) => one.action === kept.action);
  if (!form) return;
  for (const [name, value] of kept.fields) {
    const field = form.elements.namedItem(name);
    if (field && "value" in field && field.type !== "hidden") field.value = value;
  }
  if (form.closest("details")) form.closest("details").open = true;
  form.querySelector("button").focus();
  document.getElementById("spoken").textContent = "What you typed is back. Nothing was done yet.";
}

restore();
