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

document.documentElement.classList.add("scripted");
// the goal space in motion: a hand on the slider stops it
for (const moving of document.querySelectorAll(".moving")) {
  const run = moving.querySelector(".run");
  const slider = moving.querySelector("input[type=range]");
  const dots = moving.querySelector(".columns");
  slider.addEventListener("input", () => {
    run.checked = false;
    dots.style.setProperty("--at", slider.value);
  });
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

// the playground: each answer appears as it comes
const worded = (slider) => {
  const value = Number(slider.value);
  if (!("more" in slider.dataset)) return (value > 0 ? "+" : "") + value.toFixed(2).replace("-", "−");
  if (!value) return "not asked";
  return `${value > 0 ? slider.dataset.more : slider.dataset.less} by ${Math.abs(value).toFixed(2)}`;
};
const made = (name, text, kind = "") => Object.assign(document.createElement(name), { textContent: text, className: kind });
const ask = async (form, body, title, signal) => {
  const place = document.createElement("section");
  const how = made("p", "waiting for the model …", "small");
  const text = made("div", "", "model-text draft");
  text.dir = "auto";
  place.append(made("h3", title), how, text);
  // nobody wants each word read out: the answer is, once it is there
  place.setAttribute("aria-busy", "true");
  document.getElementById(form.dataset.into).append(place);
  const refuse = (said) => {
    place.className = "notice";
    place.textContent = `${title}: ${said}`;
  };
  const take = (line) => {
    if ("draft" in line) {
      how.textContent = line.attempt > 1 ? `writing, attempt ${line.attempt} …` : "writing …";
      text.textContent = line.draft;
    } else if ("html" in line) place.innerHTML = line.html;
    else refuse(line.error);
  };
  try {
    const answer = await fetch(form.dataset.url, {
      method: "POST", signal, body: JSON.stringify(body),
      headers: { "Content-Type": "application/json", Accept: "application/x-ndjson" },
    });
    if (!answer.ok) { refuse(await answer.text()); return; }
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      lines.map((line) => JSON.parse(line)).forEach(take);
    }
  } catch (error) {
    how.textContent = signal.aborted ? "stopped" : "broken off";
    throw error;
  } finally {
    place.removeAttribute("aria-busy");
    reach();
  }
};
for (const form of document.querySelectorAll("form.play:not(#submit)")) {
  for (const slider of form.querySelectorAll("input[type=range]")) {
    const shown = slider.closest("label").querySelector("output");
    const show = () => { shown.textContent = worded(slider); };
    slider.addEventListener("input", show);
    show();
  }
  const unit = () => {
    const chosen = form.querySelector("select[name=vector]");
    if (chosen) form.querySelector(".unit").textContent = chosen.selectedOptions[0].dataset.unit.replaceAll("_", " ");
  };
  form.addEventListener("change", unit);
  unit();
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button.ask");
    const stop = form.querySelector("button.stop");
    const status = form.querySelector(".status");
    const data = new FormData(form);
    const { signal } = stopped = new AbortController();
    const text = data.get("text");
    document.getElementById(form.dataset.into).replaceChildren();
    button.disabled = true;
    stop.hidden = false;
    status.textContent = "asking …";
    try {
      if (form.id === "targets") {
        const deltas = {};
        for (const slider of form.querySelectorAll("input[type=range]")) {
          if (Number(slider.value)) deltas[slider.name] = Number(slider.value);
        }
        const cells = data.getAll("cell");
        if (!cells.length) { status.textContent = "tick a cell that is to answer"; return; }
        for (const cell of cells) await ask(form, { text, deltas, cell }, cell, signal);
      } else {
        const [cell, ...concept] = data.get("vector").split(" ");
        for (const strength of [null, Number(data.get("strength"))]) {
          await ask(form, { text, cell, concept: concept.join(" "), strength }, strength === null ? "unsteered" : "steered", signal);
        }
      }
      status.textContent = "done";
    } catch (error) {
      status.textContent = signal.aborted ? "stopped" : `the explorer does not answer (${error.message}): is it still running?`;
    } finally {
      button.disabled = false;
      stop.hidden = true;
    }
  });
  let stopped = new AbortController();
  form.querySelector("button.stop").addEventListener("click", () => stopped.abort());
}

// the review queue: a word, and on to the next
for (const form of document.querySelectorAll("form.review")) {
  const status = form.querySelector(".status");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const word = event.submitter ? event.submitter.value : "";
    if (!word) { status.textContent = "say whether it stays, or skip it"; return; }
    if (form.dataset.sent) return;
    form.dataset.sent = word;
    const body = {
      cell: form.dataset.cell, request_id: form.dataset.request, response_id: form.dataset.response,
      stays: word === "yes", by: form.dataset.by, note: form.querySelector("input[name=note]").value,
    };
    try {
      const answer = await fetch(form.dataset.url, {
        method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
      });
      if (answer.ok) { location.reload(); return; }
      status.textContent = await answer.text();
    } catch (error) {
      status.textContent = `the explorer does not answer (${error.message}): is it still running?`;
    }
    delete form.dataset.sent;
  });
  document.addEventListener("keydown", (event) => {
    // a key that is held says nothing of the answer that comes up next
    if (event.repeat) return;
    if (event.ctrlKey || event.metaKey || event.altKey || typing(document.activeElement)) return;
    const button = form.querySelector(`button[data-key="${CSS.escape(event.key)}"]`);
    if (button) button.click();
    else if (event.key === "s") follow("skip");
  });
}

// a submission: a file is sent as it is, beside what the card says
for (const form of document.querySelectorAll("form#submit")) {
  const status = form.querySelector(".status");
  const said = document.getElementById("said");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const file = form.querySelector("input[type=file]").files[0];
    const ends = ["csv", "jsonl", "parquet"].find((end) => file.name.endsWith(`.${end}`));
    if (!ends) { status.textContent = "a file is called .csv, .jsonl or .parquet"; return; }
    const card = {};
    for (const input of form.querySelectorAll("input:not([type=file])")) if (input.value && input.name !== "name") card[input.name] = input.value;
    status.textContent = "sending …";
    const read = new FileReader();
    read.onload = async () => {
      const body = { name: form.querySelector("input[name=name]").value, card, ends, content: read.result.split(",")[1] || "" };
      try {
        const answer = await fetch(form.dataset.url, {
          method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
        });
        said.className = answer.ok ? "" : "notice";
        said.textContent = await answer.text();
        status.textContent = answer.ok ? "admitted" : "not taken";
        if (answer.ok) await look();
      } catch (error) {
        status.textContent = `the explorer does not answer (${error.message}): is it still running?`;
      }
    };
    read.readAsDataURL(file);
  });
}

// while one is being scored the list of submissions is looked at again and again, by one clock
const submissions = document.getElementById("submissions");
let clock = 0;
const look = async () => {
  clearTimeout(clock);
  let going = true;
  try {
    const page = await fetch(location.href);
    const found = page.ok && new DOMParser().parseFromString(await page.text(), "text/html").getElementById("submissions");
    if (found) {
      going = "going" in found.dataset;
      const fresh = new Map([...found.children].map((child) => [child.dataset.name, child]));
      // only what has changed, so that nobody loses the place, and is read the same again
      const old = new Map([...submissions.children].map((child) => [child.dataset.name, child]));
      for (const [name, child] of fresh) {
        if (!old.has(name)) submissions.append(child);
        else if (old.get(name).innerHTML !== child.innerHTML) old.get(name).replaceWith(child);
      }
      for (const [name, child] of old) if (!fresh.has(name)) child.remove();
    }
  } catch { /* the explorer may be on its way up again: look once more */ }
  if (going) clock = setTimeout(look, 1500);
};
if (submissions) {
  const said = document.getElementById("scoring");
  if ("going" in submissions.dataset) look();
  submissions.addEventListener("click", async (event) => {
    const button = event.target.closest("button.score");
    if (!button) return;
    button.disabled = true;
    try {
      const answer = await fetch(button.dataset.url, {
        method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ name: button.dataset.name }),
      });
      said.textContent = await answer.text();
      await look();
    } catch (error) {
      said.textContent = `the explorer does not answer (${error.message}): is it still running?`;
    } finally {
      button.disabled = false;
    }
  });
}

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
