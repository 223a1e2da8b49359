// The pairwise matrix: task and metric are chosen here, and kept in the URL. Cells are updated in place.
"use strict";
(() => {
  const data = qk.data.get("pairs");
  const form = document.getElementById("filters");
  const table = document.getElementById("duels");
  const links = new Map([...table.querySelectorAll("a[data-row]")].map((a) => [JSON.stringify([a.dataset.row, a.dataset.column]), a]));
  const heads = new Map([...table.tHead.rows[0].cells].slice(1).map((cell) => [cell.textContent.trim(), cell]));
  const rows = new Map([...table.tBodies[0].rows].map((row) => [row.cells[0].textContent.trim(), row]));
  const selves = new Map([...rows].map(([name, row]) => [name, row.querySelector(".self")]));

  function choices(select, options, wanted) {
    select.replaceChildren(...options.map(([value, text]) => qk.make("option", { value }, text)));
    select.value = options.some(([value]) => value === wanted) ? wanted : options[0][0];
  }

  function show() {
    const view = data.views[`${form.task.value}|${form.metric.value}`];
    const cells = new Map(view.cells.map(([a, b, ...rest]) => [JSON.stringify([a, b]), rest]));
    const order = view.order.filter((name) => rows.has(name));
    for (const name of rows.keys()) { rows.get(name).hidden = !order.includes(name); heads.get(name).hidden = !order.includes(name); }
    for (const [key, link] of links) {
      const [text, look, note] = cells.get(key) || ["–", 0, ""];
      link.textContent = text;
      link.title = note;
      link.parentElement.className = `num ${look > 0 ? "ahead" : look < 0 ? "behind" : ""}`;
    }
    table.tHead.rows[0].append(...order.map((name) => heads.get(name)));
    for (const a of order) {
      rows.get(a).append(...order.map((b) => a === b ? selves.get(a) : links.get(JSON.stringify([a, b])).parentElement));
    }
    table.tBodies[0].append(...order.map((name) => rows.get(name)));
    document.getElementById("caption").textContent = `${form.metric.value}${view.unit ? `, ${view.unit}` : ""}; ${data.scopes[form.task.value].title}`;
  }

  function fill(task, metric) {
    choices(form.task, Object.entries(data.scopes).map(([id, scope]) => [id, scope.title]), task);
    choices(form.metric, data.scopes[form.task.value].metrics.map((name) => [name, name]), metric);
  }

  function restore() {
    const state = qk.state();
    fill(state.task, state.metric);
    show();
  }

  form.addEventListener("input", () => {
    fill(form.task.value, form.metric.value);
    show();
    qk.keep({ task: form.task.selectedIndex ? form.task.value : "", metric: form.metric.selectedIndex ? form.metric.value : "" });
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  addEventListener("hashchange", restore);
  restore();
})();
