// The gallery: filters over the index of verdicts, cards built from the data pages they need, and the detail view.
"use strict";
(() => {
  const index = qk.data.get("index");
  const form = document.getElementById("filters");
  const cards = document.getElementById("cards");
  const folder = cards.dataset.folder;
  const dialog = document.getElementById("detail");
  const $ = (id) => document.getElementById(id);
  const SHOWN = 20;
  const RIGHT = ".";
  const kindOf = new Map(index.codes.map(([code, kind]) => [code, kind]));
  const notRight = (code) => ["wrong", "failed"].includes(kindOf.get(code));  // as the rates count it
  const taskOf = [];
  for (const [name, count] of index.tasks) for (let n = 0; n < count; n++) taskOf.push(name);
  const place = new Map(index.ids.map((id, n) => [id, n]));
  let found = [];
  let first = 0;
  let open = null;

  const image = (sha) => `images/${sha.slice(0, 2)}/${sha}.png`;
  const page = (n) => Math.floor(n / index.page);
  async function sample(n) {
    const name = `samples-${page(n)}`;
    const samples = await qk.load(name, `${folder}/${name}.js`);
    return samples[n - page(n) * index.page];
  }

  // Filters -----------------------------------------------------------------------------------------------------------

  const kinds = [["", "anything"], ["right", "right"], ["not-right", "not right"], ["wrong", "wrong"], ["failed", "without output"], ["unverified", "without verdict"]];
  if (index.seeds.length > 1) kinds.push(["split", "right with some seeds only"]);
  for (const [code, kind, label] of index.codes) if (kind !== "right") kinds.push([`=${code}`, `${kind}: ${label}`]);

  function choices(select, options) {
    select.replaceChildren(...options.map(([value, text]) => qk.make("option", { value }, text)));
  }

  function judge(model, wanted, seed) {
    const lines = index.verdicts[model];
    const line = lines[seed];
    if (wanted === "right") return (n) => line[n] === RIGHT;
    if (wanted === "not-right") return (n) => notRight(line[n]);
    if (["wrong", "failed", "unverified"].includes(wanted)) return (n) => kindOf.get(line[n]) === wanted;
    if (wanted === "split") return (n) => lines.some((l) => l[n] === RIGHT) && lines.some((l) => notRight(l[n]));
    if (wanted.startsWith("=")) return (n) => line[n] === wanted[1];
    return () => true;
  }

  function filter() {
    const seed = Math.max(0, index.seeds.indexOf(Number(form.seed.value)));
    const tests = [];
    const part = form.q.value.trim().toLowerCase();
    if (form.task.value) tests.push((n) => taskOf[n] === form.task.value);
    if (part) tests.push((n) => index.ids[n].toLowerCase().includes(part));
    for (const [who, what] of [[form.a.value, form.is.value], [form.b.value, form.isb.value]]) {
      if (!what) continue;
      const judges = (who === "" ? index.models.map((_, m) => m) : [Number(who)]).map((m) => judge(m, what, seed));
      tests.push((n) => judges.some((one) => one(n)));
    }
    found = index.ids.map((_, n) => n).filter((n) => tests.every((test) => test(n)));
  }

  // Cards -------------------------------------------------------------------------------------------------------------

  const large = (item) => Boolean(item.size) && Math.max(...item.size) > 128;

  function picture(sha, alt, size) {
    return qk.make("img", { class: "pixels", src: image(sha), alt, width: size[0], height: size[1], loading: "lazy", decoding: "async" });
  }

  function verdict(output) {
    if (output.status) return qk.make("span", { class: "verdict failed" }, `■ ${output.status}`);
    if (output.ok === 1) return qk.make("span", { class: "verdict right" }, "✓ right");
    if (output.ok === 0) return qk.make("span", { class: "verdict wrong" }, "✗ wrong");
    return qk.make("span", { class: "verdict failed" }, "not verified");
  }

  function given(item, name) {
    return qk.make("figure", { class: "given" }, picture(item[name], name, item.size), qk.make("figcaption", {}, name));
  }

  function shot(item, output) {
    const name = index.models[output.m].name;
    const stack = qk.make("button", { type: "button", class: output.image ? "stack" : "stack empty", "aria-label": `${output.image ? "Open the output" : "no image: open the outcome"} of ${name}` });
    if (output.image) stack.append(picture(output.image, "", output.size || item.size || [64, 64]));
    else stack.append("no image");
    if (output.diff) stack.append(qk.make("img", { class: "diff pixels", src: `data:image/png;base64,${output.diff}`, alt: "" }));
    stack.addEventListener("click", () => show(place.get(item.id), output.m, output.s));
    const caption = qk.make("figcaption", {}, qk.make("bdi", { class: "who" }, name), " ", verdict(output));
    const said = output.why || output.lead;
    if (said) caption.append(qk.make("span", { class: "why" }, qk.make("bdi", {}, said)));
    return qk.make("figure", {}, stack, caption);
  }

  function card(item, seed) {
    const link = qk.make("a", { href: `#sample=${encodeURIComponent(item.id)}` }, qk.make("bdi", {}, item.id));
    link.addEventListener("click", (event) => { event.preventDefault(); show(place.get(item.id)); });
    const strip = qk.make("div", { class: "strip" });
    for (const name of ["source", "target"]) if (item[name]) strip.append(given(item, name));
    for (const output of item.outputs) if (output.s === seed) strip.append(shot(item, output));
    return qk.make("article", { class: large(item) ? "sample large" : "sample", tabIndex: -1, "data-sample": item.id },
      qk.make("header", {},
        qk.make("h3", {}, qk.make("bdi", {}, item.text || item.id)),
        qk.make("p", { class: "about" }, link, ...[item.op, item.key].filter(Boolean).flatMap((word) => [" · ", qk.make("bdi", {}, word)]))),
      strip);
  }

  let drawing = 0;
  async function draw() {
    const turn = ++drawing;
    const seed = Number(form.seed.value);
    first = Math.max(0, Math.min(first, Math.floor((found.length - 1) / SHOWN) * SHOWN));
    const wanted = found.slice(first, first + SHOWN);
    const items = await Promise.all(wanted.map(sample));
    if (turn !== drawing) return;
    cards.replaceChildren(...items.map((item) => card(item, seed)));
    cards.dataset.size = form.size.value;
    cards.classList.toggle("show-diff", form.diff.checked);
    const total = index.ids.length.toLocaleString("en").replaceAll(",", "\u202f");
    const some = found.length.toLocaleString("en").replaceAll(",", "\u202f");
    $("status").textContent = found.length === index.ids.length ? `${total} samples` : `${some} of ${total} samples fit`;
    $("position").textContent = found.length ? `${first + 1}–${first + items.length} of ${some}` : "";
    $("previous").disabled = first === 0;
    $("next").disabled = first + SHOWN >= found.length;
  }

  // Detail ------------------------------------------------------------------------------------------------------------

  async function show(n, model = null, seed = null) {
    const item = await sample(n);
    const outputs = item.outputs;
    const wantedSeed = seed === null ? Number(form.seed.value) : seed;
    const at = outputs.findIndex((o) => o.m === model && o.s === wantedSeed);
    open = { n, item, at: at >= 0 ? at : Math.max(0, outputs.findIndex((o) => o.image && !index.models[o.m].role)) };
    $("detail-title").replaceChildren(qk.make("bdi", {}, item.text || item.id));
    $("detail-about").textContent = [item.id, item.task, item.op, item.key].filter(Boolean).join(" · ");
    const names = index.metrics;
    $("outputs").tHead.replaceChildren(qk.make("tr", {}, ...["Model", "Seed", "Verdict", "Reason", ...names].map((text, k) =>
      qk.make("th", { scope: "col", class: k === 1 || k > 3 ? "num" : "" }, text))));
    $("outputs").tBodies[0].replaceChildren(...outputs.map((output, k) => {
      const button = qk.make("button", { type: "button" }, qk.make("bdi", {}, index.models[output.m].name));
      button.addEventListener("click", () => choose(k));
      const values = names.map((_, v) => {
        const value = output.values ? output.values[v] : null;
        return qk.make("td", { class: "num" }, value === null ? "–" : String(value).replace("-", "\u2212"));
      });
      return qk.make("tr", {}, qk.make("td", {}, button), qk.make("td", { class: "num" }, String(output.s)),
        qk.make("td", {}, verdict(output)), qk.make("td", {}, qk.make("bdi", {}, output.why || "")), ...values);
    }));
    for (const option of $("left").options) option.disabled = !item[option.value];
    if (!dialog.open) dialog.showModal();
    choose(open.at);
    const turn = found.indexOf(n);
    $("earlier").disabled = turn <= 0;
    $("later").disabled = turn < 0 || turn + 1 >= found.length;
  }

  function choose(at) {
    const { item } = open;
    const output = item.outputs[at];
    open.at = at;
    [...$("outputs").tBodies[0].rows].forEach((row, k) => row.toggleAttribute("aria-current", k === at));
    const before = item[$("left").value];
    const set = (img, src, alt) => { img.hidden = !src; if (src) img.src = src; img.alt = alt; };
    set($("before"), before ? image(before) : output.image ? image(output.image) : "", $("left").value);
    set($("after"), output.image ? image(output.image) : "", `output of ${index.models[output.m].name}`);
    const diff = $("detail-diff").checked && output.diff;
    set($("difference"), diff ? `data:image/png;base64,${output.diff}` : "", "difference picture");
    $("compare").classList.toggle("with-diff", Boolean(diff));
    $("compare").classList.toggle("large", large(item));
    $("right-name").replaceChildren("right: ", qk.make("bdi", {}, index.models[output.m].name), ` seed ${output.s}`);
    remember();
  }

  function step(by) {
    const turn = found.indexOf(open.n) + by;
    if (turn < 0 || turn >= found.length) return;
    const output = open.item.outputs[open.at];
    show(found[turn], output.m, output.s);
  }

  // State -------------------------------------------------------------------------------------------------------------

  const defaults = { task: "", a: "", is: "", b: "", isb: "", q: "", size: cards.dataset.size };
  function remember() {
    const state = Object.fromEntries(Object.entries(defaults).map(([name, value]) => [name, form[name].value === value ? "" : form[name].value]));
    state.seed = Number(form.seed.value) === index.seeds[0] ? "" : form.seed.value;
    state.diff = form.diff.checked ? "1" : "";
    state.from = first ? String(first) : "";
    if (dialog.open) {
      const output = open.item.outputs[open.at];
      Object.assign(state, { sample: open.item.id, model: index.models[output.m].name, of: output.s || "" });
    }
    qk.keep(state);
  }

  async function restore() {
    const state = qk.state();
    for (const [name, value] of Object.entries(defaults)) {
      form[name].value = state[name] || value;
      if (form[name].value !== (state[name] || value)) form[name].value = value;
    }
    form.seed.value = index.seeds.includes(Number(state.seed)) ? state.seed : String(index.seeds[0]);
    form.diff.checked = state.diff === "1";
    first = Math.max(0, parseInt(state.from, 10) || 0);
    filter();
    const n = place.get(state.sample);
    if (n !== undefined) {
      const model = index.models.findIndex((m) => m.name === state.model);
      await show(n, model < 0 ? null : model, state.of ? Number(state.of) : null);
    } else if (dialog.open) dialog.close();
    await draw();
    if (state.sample && n === undefined) $("status").textContent = "There is no such sample here.";
  }

  choices(form.task, [["", "all"], ...index.tasks.map(([name]) => [name, name])]);
  for (const name of ["a", "b"]) choices(form[name], [["", "any"], ...index.models.map((model, m) => [String(m), model.name])]);
  for (const name of ["is", "isb"]) choices(form[name], kinds);
  choices(form.seed, index.seeds.map((seed) => [String(seed), String(seed)]));

  form.addEventListener("input", (event) => {
    if (!["size", "diff"].includes(event.target.name)) { first = 0; filter(); }
    draw();
    remember();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  const turn = (by) => { first += by * SHOWN; draw().then(() => cards.scrollIntoView()); remember(); };
  $("previous").addEventListener("click", () => turn(-1));
  $("next").addEventListener("click", () => turn(1));
  $("earlier").addEventListener("click", () => step(-1));
  $("later").addEventListener("click", () => step(1));
  $("close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => { remember(); const n = open && open.item.id; focus(n); });
  $("left").addEventListener("input", () => choose(open.at));
  $("detail-diff").addEventListener("input", () => choose(open.at));
  $("cut").addEventListener("input", () => $("compare").style.setProperty("--cut", `${$("cut").value}%`));

  function focus(id) {
    for (const one of cards.querySelectorAll(".sample")) {
      const current = one.dataset.sample === id;
      one.classList.toggle("current", current);
      if (current) { one.focus({ preventScroll: true }); one.scrollIntoView({ block: "nearest" }); }
    }
  }

  function move(by) {
    const all = [...cards.querySelectorAll(".sample")];
    const now = all.findIndex((one) => one.classList.contains("current"));
    const next = all[now < 0 ? 0 : now + by];
    if (next) focus(next.dataset.sample);
  }

  addEventListener("keydown", (event) => {
    const field = event.target.closest("input, select, textarea");
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (dialog.open) {
      if (field && field.id === "cut" && event.key.startsWith("Arrow")) return;
      const outputs = open.item.outputs.length;
      const keys = {
        ArrowRight: () => step(1), j: () => step(1), ArrowLeft: () => step(-1), k: () => step(-1),
        ArrowDown: () => choose((open.at + 1) % outputs), ArrowUp: () => choose((open.at + outputs - 1) % outputs),
        d: () => { $("detail-diff").checked = !$("detail-diff").checked; choose(open.at); },
      };
      if (keys[event.key] && !(field && field.matches("select"))) { event.preventDefault(); keys[event.key](); }
      return;
    }
    if (field && !field.matches("[type=checkbox]")) return;
    const current = cards.querySelector(".sample.current");
    const keys = {
      j: () => move(1), k: () => move(-1),
      Enter: () => current && document.activeElement === current && show(place.get(current.dataset.sample)),
      d: () => { form.diff.checked = !form.diff.checked; draw(); remember(); },
      "/": () => form.q.focus(),
    };
    if (keys[event.key]) { if (event.key !== "Enter" || document.activeElement === current) event.preventDefault(); keys[event.key](); }
  });
  addEventListener("hashchange", restore);
  restore();
})();
