"use strict";
// Pages work without this: it sends forms as they change, and moves by key.
const typing = (at) => at instanceof HTMLInputElement && at.type !== "checkbox" && at.type !== "range" || at instanceof HTMLSelectElement || at instanceof HTMLTextAreaElement;

for (const form of document.querySelectorAll("form[data-auto]")) {
  form.classList.add("auto");
  form.addEventListener("change", (event) => {
    if (event.target.name !== "item") form.querySelectorAll('input[name="page"]').forEach((page) => page.remove());
    form.requestSubmit();
  });
  // what nobody has filled in says nothing, and need not stand in the address
  form.addEventListener("formdata", (event) => {
    for (const [name, value] of [...event.formData.entries()]) if (value === "") event.formData.delete(name);
  });
}

for (const slider of document.querySelectorAll("input[type=range][data-labels]")) {
  const labels = slider.dataset.labels.split("|");
  const shown = slider.closest("label").querySelector("output");
  slider.addEventListener("input", () => { shown.textContent = labels[Number(slider.value)]; });
}

// what scrolls can be reached by key; what does not is no stop on the way
const reach = () => {
  for (const box of document.querySelectorAll(".scroll, .model-text, .checks, pre")) {
    const scrolls = box.scrollWidth > box.clientWidth + 1 || box.scrollHeight > box.clientHeight + 1;
    if (scrolls) box.tabIndex = 0; else box.removeAttribute("tabindex");
  }
};
reach();
addEventListener("resize", reach);
document.addEventListener("toggle", reach, true);

const rows = () => [...document.querySelectorAll("table.samples tbody tr")];
let current = -1;
const mark = (place) => {
  const all = rows();
  if (!all.length) return false;
  current = Math.min(Math.max(place, 0), all.length - 1);
  all.forEach((row, n) => row.classList.toggle("current", n === current));
  const link = all[current].querySelector("a");
  link.focus({ preventScroll: true });
  all[current].scrollIntoView({ block: "nearest" });
  return true;
};
const follow = (rel) => {
  const link = document.querySelector(`main a[rel="${rel}"]`);
  if (link) link.click();
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape" && typing(document.activeElement)) { document.activeElement.blur(); return; }
  if (typing(document.activeElement)) return;
  const moves = { j: 1, ArrowDown: 0, k: -1, ArrowUp: 0 };
  if (event.key === "/") {
    const search = document.querySelector("main input[type=search]");
    if (search) { event.preventDefault(); search.focus(); search.select(); }
  } else if (event.key in moves && moves[event.key]) {
    // in a list from row to row, elsewhere from page to page
    if (!mark(current + moves[event.key])) follow(moves[event.key] > 0 ? "next" : "prev");
  } else if (event.key === "u") follow("up");
});
