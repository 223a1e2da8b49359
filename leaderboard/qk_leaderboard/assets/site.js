// Theme, data files and the state in the URL. Runs before the page is drawn.
"use strict";
document.documentElement.classList.add("scripted");

const qk = {
  data: new Map(),
  waiting: new Map(),

  // Called by the data files, which are scripts because browsers do not fetch from file://.
  receive(name, value) {
    qk.data.set(name, value);
    const done = qk.waiting.get(name);
    if (done) done.resolve(value);
  },

  // A data file, loaded when it is first asked for.
  load(name, src) {
    if (qk.data.has(name)) return Promise.resolve(qk.data.get(name));
    if (!qk.waiting.has(name)) {
      const entry = {};
      entry.promise = new Promise((resolve, reject) => Object.assign(entry, { resolve, reject }));
      qk.waiting.set(name, entry);
      const script = document.createElement("script");
      script.src = src;
      script.onerror = () => { qk.waiting.delete(name); entry.reject(new Error(`${src} cannot be loaded`)); };
      document.head.append(script);
    }
    return qk.waiting.get(name).promise;
  },

  // The state of a page: what follows # in its address.
  state() {
    return Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  },

  keep(state) {
    const kept = Object.entries(state).filter(([, value]) => value !== "" && value !== null && value !== undefined);
    const hash = new URLSearchParams(kept).toString();
    history.replaceState(null, "", hash ? `#${hash}` : location.pathname.split("/").pop() + location.search);
  },

  // An element with properties and children; texts become text nodes, never markup.
  make(tag, properties = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (name === "class") element.className = value;
      else if (name.startsWith("aria-") || name.startsWith("data-")) element.setAttribute(name, value);
      else element[name] = value;
    }
    element.append(...children);
    return element;
  },
};

(() => {
  const themes = ["", "light", "dark"];
  const names = ["as the system", "light", "dark"];
  const root = document.documentElement;
  let kept = "";
  try { kept = localStorage.getItem("qk-theme") || ""; } catch { /* storage may be off */ }
  const apply = (theme) => {
    if (theme) root.dataset.theme = theme; else delete root.dataset.theme;
    const button = document.getElementById("theme");
    if (button) button.setAttribute("aria-label", `Colours: ${names[themes.indexOf(theme)]}`);
  };
  if (!themes.includes(kept)) kept = "";
  apply(kept);
  document.addEventListener("DOMContentLoaded", () => {
    apply(kept);
    document.getElementById("theme").addEventListener("click", () => {
      kept = themes[(themes.indexOf(kept) + 1) % themes.length];
      apply(kept);
      try { localStorage.setItem("qk-theme", kept); } catch { /* storage may be off */ }
    });
  });
})();
