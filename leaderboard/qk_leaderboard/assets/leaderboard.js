// The leaderboard: filters, sorting, and the state in the URL. Rows are updated in place; their markup is the page's own.
"use strict";
(() => {
  const data = qk.data.get("leaderboard");
  const form = document.getElementById("filters");
  const table = document.getElementById("board");
  const body = table.tBodies[0];
  const rows = new Map([...body.rows].map((row) => [row.dataset.model, row]));
  const fields = ["model", "value", "interval", "sort", "at", "low", "high", "n", "failures", "note", "rank", "rankSort"];
  const heads = [...table.tHead.querySelectorAll("[data-sort]")];
  const own = (held, name) => (Object.hasOwn(held, name) ? held[name] : null); // a model may be called `constructor`
  const svg = (tag) => document.createElementNS("http://www.w3.org/2000/svg", tag);
  let sort = { by: "", down: false };

  const board = () => data.boards.find((item) => item.id === (form.board ? form.board.value : data.boards[0].id)) || data.boards[0];
  const scope = () => board().scopes.find((item) => item.id === form.task.value) || board().scopes[0];

  function choices(select, options, wanted) {
    select.replaceChildren(...options.map(([value, text]) => qk.make("option", { value }, text)));
    select.value = options.some(([value]) => value === wanted) ? wanted : options[0][0];
  }

  function place(line, name, value) {
    line.setAttribute("visibility", value === null ? "hidden" : "visible");
    if (value === null) return;
    for (const attribute of name) line.setAttribute(attribute, `${value}%`);
  }

  function draw(row, item, view) {
    const set = (name, text) => { const cell = row.querySelector(`td.${name}`); if (cell) cell.textContent = text; };
    for (const name of ["value", "interval", "rank"]) set(name, item[name]);
    set("n", String(item.n));
    set("failures", item.failures || "0");
    const cost = own(board().costs, item.model);
    set("time", cost ? cost[0] : "–");
    row.querySelector(".time").title = cost ? cost[2] : "";
    for (const name of ["value", "interval", "plot"]) row.querySelector(`td.${name}`).title = item.note;
    place(row.querySelector(".dot"), ["cx"], item.at);
    const range = row.querySelector(".range");
    place(range, ["x1"], item.low);
    if (item.low !== null) range.setAttribute("x2", `${item.high}%`);
    place(row.querySelector(".floor"), ["x1", "x2"], view.floor);
    place(row.querySelector(".ceiling"), ["x1", "x2"], view.ceiling);
    row.sortKeys = {
      model: item.model.toLowerCase(), value: item.sort, n: item.n, rank: item.rankSort,
      failures: item.failures ? item.failures.split(", ").reduce((sum, part) => sum + parseInt(part, 10), 0) : 0,
      time: cost ? cost[1] : null, parameters: own(data.models, item.model),
    };
  }

  function order(view) {
    const by = sort.by || "value";
    const down = sort.by ? sort.down : view.direction !== "lower";
    const shown = [...rows.values()].filter((row) => row.sortKeys);
    shown.sort((first, second) => {
      const [a, b] = [first.sortKeys[by], second.sortKeys[by]];
      if (a === null || b === null) return (a === null) - (b === null);
      return (a < b ? -1 : a > b ? 1 : 0) * (down ? -1 : 1);
    });
    body.append(...shown);
    for (const head of heads) {
      if (head.dataset.sort === by) head.setAttribute("aria-sort", down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    }
  }

  function axis(view) {
    const marks = view.ticks.map(([at, text]) => {
      const mark = svg("text");
      mark.setAttribute("x", `${at}%`);
      mark.setAttribute("y", "11");
      mark.setAttribute("text-anchor", at < 4 ? "start" : at > 96 ? "end" : "middle");
      mark.textContent = text;
      return mark;
    });
    document.querySelector("#axis svg").replaceChildren(...marks);
  }

  function show() {
    const view = data.views[[board().id, scope().id, form.metric.value].join("|")];
    const part = form.model.value.trim().toLowerCase();
    for (const row of rows.values()) { row.hidden = true; row.sortKeys = null; }
    for (const values of view.rows) {
      const item = Object.fromEntries(fields.map((name, n) => [name, values[n]]));
      const row = rows.get(item.model);
      draw(row, item, view);
      row.hidden = !item.model.toLowerCase().includes(part) || (!form.controls.checked && row.classList.contains("control"));
    }
    order(view);
    axis(view);
    document.getElementById("metric").textContent = form.metric.value;
    document.getElementById("unit").textContent = view.unit ? `, ${view.unit}` : "";
    document.getElementById("caption").textContent = `${scope().title}; ${board().title}`;
    document.getElementById("definition").textContent = `${form.metric.value}: ${view.about}`;
  }

  function remember() {
    qk.keep({
      board: form.board && form.board.value !== data.boards[0].id ? form.board.value : "",
      task: scope() === board().scopes[0] ? "" : form.task.value,
      metric: form.metric.selectedIndex ? form.metric.value : "",
      model: form.model.value,
      controls: form.controls.checked ? "" : "no",
      sort: sort.by ? `${sort.down ? "-" : ""}${sort.by}` : "",
    });
  }

  function restore() {
    const state = qk.state();
    if (form.board && state.board) form.board.value = state.board;
    fill(state.task, state.metric);
    form.model.value = state.model || "";
    form.controls.checked = state.controls !== "no";
    const by = (state.sort || "").replace(/^-/, "");
    sort = heads.some((head) => head.dataset.sort === by) ? { by, down: state.sort[0] === "-" } : { by: "", down: false };
    show();
  }

  function fill(task, metric) {
    choices(form.task, board().scopes.map((item) => [item.id, item.title]), task);
    choices(form.metric, scope().metrics.map((name) => [name, name]), metric);
  }

  form.addEventListener("input", (event) => {
    if (["board", "task"].includes(event.target.name)) fill(form.task.value, form.metric.value);
    show();
    remember();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  for (const head of heads) {
    head.querySelector("button").addEventListener("click", () => {
      const by = head.dataset.sort;
      const current = head.getAttribute("aria-sort");
      sort = { by, down: current ? current === "ascending" : by === "value" };
      show();
      remember();
    });
  }
  addEventListener("hashchange", restore);
  restore();
})();
