"use strict";
for (const run of document.querySelectorAll("article.run")) {
  const all = (query) => [...run.querySelectorAll(query)];
  const one = (query) => run.querySelector(query);
  const { fields, changes, steps } = JSON.parse(one(".moments").textContent);
  const chart = one(".chart"), slider = one(".slider"), inspector = one(".inspector");
  const rows = all(".row.step");
  let selected = null;
  for (const shown of all("[data-sql]")) shown.textContent = document.getElementById(shown.dataset.sql).textContent;

  const element = (name, text, kind) => {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (kind) made.className = kind;
    return made;
  };

  // every job as it was right after a step
  const stateAt = (event) => {
    const jobs = new Map();
    for (const [index, job, row] of changes) {
      if (index > event) break;
      jobs.set(job, { row, before: (jobs.get(job) || {}).row, fresh: index === event });
    }
    return jobs;
  };

  const show = (number) => {
    const step = steps[number];
    if (!step) return;
    slider.value = number;
    slider.setAttribute("aria-valuetext", `${step.at}: ${step.text}`);
    one(".at").textContent = `${step.event} (${step.at})`;
    one(".said").textContent = step.text;
    const states = one(".states");
    states.replaceChildren();
    for (const [job, { row, before, fresh }] of [...stateAt(step.event)].sort((one, other) => other[1].fresh - one[1].fresh)) {
      states.append(element("h2", `job ${job}`));
      const list = element("dl");
      if (row === null) list.append(element("dt", "gone"), element("dd", ""));
      else fields.forEach((name, at) => {
        const changed = fresh && (!before || before[at] !== row[at]);
        list.append(element("dt", name), element("dd", row[at], changed ? "changed" : ""));
      });
      states.append(list);
    }
    rows.forEach((row, at) => row.classList.toggle("now", at === number));
  };

  const inspect = (row) => {
    if (matchMedia("(max-width: 72rem)").matches) return;
    const facts = row.querySelector(".facts").cloneNode(true);
    facts.querySelector(".own").remove();
    inspector.replaceChildren(...facts.childNodes);
  };

  const visible = () => rows.filter((row) => row.offsetParent !== null);
  rows.forEach((row, number) => {
    const button = row.querySelector(".step-button");
    const look = () => { show(number); inspect(row); };
    row.addEventListener("mouseenter", look);
    row.addEventListener("mouseleave", () => selected && selected !== row && selected.look());
    button.addEventListener("focus", () => { selected = { look }; look(); });
    button.addEventListener("click", () => {
      const facts = row.querySelector(".facts");
      facts.hidden = !facts.hidden;
      button.setAttribute("aria-expanded", String(!facts.hidden));
      history.replaceState(null, "", `#${row.id}`);
    });
    button.addEventListener("keydown", (pressed) => {
      const way = { ArrowDown: 1, ArrowUp: -1 }[pressed.key];
      const next = way && visible()[visible().indexOf(row) + way];
      if (next) { pressed.preventDefault(); next.querySelector(".step-button").focus(); }
    });
  });
  slider.addEventListener("input", () => {
    const number = Number(slider.value), row = rows[number];
    if (steps[number].after) follow(true);
    show(number);
    inspect(row);
    row.scrollIntoView({ block: "nearest" });
  });

  const follow = (on) => {
    const box = one(".after-switch");
    if (box) box.checked = on;
    const button = one(".follow");
    if (button) button.hidden = on;
    chart.classList.toggle("all", on);
  };
  one(".follow")?.addEventListener("click", () => {
    follow(true);
    rows.find((row, at) => steps[at].after)?.querySelector(".step-button").focus();
  });
  one(".after-switch")?.addEventListener("change", (changed) => follow(changed.target.checked));
  one(".ghost-switch")?.addEventListener("change", (changed) => chart.classList.toggle("no-ghost", !changed.target.checked));

  // #step-17 names an event; one without a row of its own leads to the row before it
  const arrive = () => {
    const found = location.hash.slice(1).match(/^((?:run-\d+-)?)step-(\d+)$/);
    if (!found || found[1] !== run.dataset.prefix) return;
    const number = steps.findLastIndex((step) => step.event <= Number(found[2]));
    if (number < 0) return;
    if (steps[number].after) follow(true);
    show(number);
    inspect(rows[number]);
    rows[number].scrollIntoView({ block: "center" });
  };
  addEventListener("hashchange", arrive);
  const breach = rows.findIndex((row) => row.querySelector(".target"));
  show(breach >= 0 ? breach : steps.length - 1);
  if (breach >= 0) inspect(rows[breach]);
  arrive();
}
for (const button of document.querySelectorAll(".copy")) {
  button.addEventListener("click", async () => {
    const source = document.getElementById(button.dataset.copy);
    const text = source.value ?? source.textContent;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const box = Object.assign(document.createElement("textarea"), { value: text });
      document.body.append(box);
      box.select();
      document.execCommand("copy");
      box.remove();
    }
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
}
