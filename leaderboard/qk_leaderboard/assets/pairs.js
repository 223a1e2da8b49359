// The pairwise matrix: task and metric are chosen here, and kept in the URL. Cells are updated in place.
"use strict";
(() => {
  const data = qk.data.get("pairs");
  const form = document.getElementById("filters");
  const table = document.getElementById("duels");
  const links = new Map([...table.querySelectorAll("a[data-row]")].map((a) => [JSON.stringify([a.dataset.row, a.dataset.column]), a]));
  const heads = new Map([...table.tHead.rows[0].cells].slice(1).map((cell) => [cell.dataset.model, cell]));
  const rows = new Map([...table.tBodies[0].rows].map((row) => [row.dataset.model, row]));
  const selves = new Map([...rows].map(([name, row]) => [name, row.querySelector(".self")]));

  function choices(select, options, wanted) {
    select.replaceChildren(...options.map(([value, text]) => qk.make("option", { value }, text)));
    select.value = options.some(([value]) => value === wanted) ? wanted : options[0][0];
  }

  function show() {
    const view = data.views[`${form.task.value}|${form.metric.value}`];
    const cells = new Map(view.cells.map(([a, b, ...rest]) => [JSON.stringify([a, b]), rest]));
    const order = [...view.order, ...[...rows.keys()].filter((name) => !view.order.includes(name))];
    const hide = (element, name) => { element.hidden = !view.order.includes(name); return element; };
    for (const [key, link] of links) {
      const [text, look, note] = cells.get(key) || ["–", 0, ""];
      link.textContent = text;
      link.title = note;
      link.parentElement.className = `num ${look > 0 ? "ahead" : look < 0 ? "behind" : ""}`;
    }
    table.tHead.rows[0].append(...order.map((name) => hide(heads.get(name), name)));
    for (const a of order) {
      rows.get(a).append(...order.map((b) => hide(a === b ? selves.get(a) : links.get(JSON.stringify([a, b])).parentElement, b)));
    }
    table.tBodies[0].append(...order.map((name) => hide(rows.get(name), name)));
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
