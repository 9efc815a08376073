"use strict";
// The plan inspector. Each panel keeps its frames and steps in a JSON block of its own; nothing is fetched.
(() => {
  const SPEEDS = [1, 2, 4, 0.5], BEAT = 420;

  function makePanel(root, number) {
    const data = JSON.parse(root.querySelector("script").textContent);
    const last = data.frames.length - 1;
    const find = (name) => root.querySelector(name), all = (name) => [...root.querySelectorAll(name)];
    const image = find("img"), range = find("input"), play = find(".play"), speed = find(".speed"), step = find(".step");
    const strip = find(".strip"), pointer = find(".pointer");
    let at = 0, timer = null, pace = 0;

    // The edges of a plan that are carried out at its primitive step `active`, and those that are done.
    function mark(plan, active, coarseOnly) {
      plan.querySelectorAll(".edge").forEach((edge) => {
        const from = +edge.dataset.from, to = +edge.dataset.to, counts = !coarseOnly || edge.classList.contains("coarse");
        const doing = active >= 0 && counts && from <= active && active < to;
        edge.classList.toggle("doing", doing);
        edge.classList.toggle("done", active >= 0 && counts && from < to && to <= active);
        if (doing) edge.setAttribute("aria-current", "step"); else edge.removeAttribute("aria-current");
      });
    }

    function showOver(frame) {
      all(".indicator").forEach((chart) => {
        const left = +chart.dataset.left, right = +chart.dataset.right, x = left + (right - left) * frame / Math.max(1, last);
        const cursor = chart.querySelector(".cursor");
        cursor.setAttribute("x1", x);
        cursor.setAttribute("x2", x);
        chart.querySelector(".reading").textContent = data.readings[chart.dataset.name][frame] ?? "";
      });
      if (strip) pointer.style.left = 100 * Math.min(1, (frame + 0.5) / +strip.dataset.steps) + "%";
      all(".switches li").forEach((line) => line.classList.toggle("on", +line.dataset.step === frame));
    }

    function show(frame) {
      at = Math.max(0, Math.min(last, Math.trunc(frame) || 0));
      image.src = "data:image/png;base64," + data.images[data.frames[at]];
      range.value = at;
      const k = data.force[at], drawn = k < 0 ? -1 : data.plans[k], active = data.active[at];
      all("[data-plan]").forEach((part) => part.toggleAttribute("hidden", +part.dataset.plan !== drawn));
      all(".plan:not([hidden])").forEach((plan) => mark(plan, active, data.coarse[k]));
      find(".vague").toggleAttribute("hidden", !(data.modes.length && k >= 0 && active < 0 && at < last));
      const mode = data.modes[Math.min(at, data.modes.length - 1)];
      const parts = ["step " + at + " of " + last, mode, k >= 0 ? "plan " + (k + 1) + " of " + data.steps.length : ""];
      step.textContent = parts.filter(Boolean).join(" · ");
      range.setAttribute("aria-valuetext", step.textContent);
      find(".action").textContent = at === last ? data.end : data.actions[at] ?? "";
      find(".cause").textContent = data.causes[at] ?? "";
      const [column, row, aim] = data.aims[at] ?? [null, null, ""], box = find(".aimed rect");
      find(".aim").textContent = aim;
      find(".aimed").toggleAttribute("hidden", column === null);
      box.setAttribute("x", (column ?? 0) * data.tile);
      box.setAttribute("y", (row ?? 0) * data.tile);
      showOver(at);
    }

    function stop() {
      clearInterval(timer);
      timer = null;
      play.textContent = "Play";
      play.setAttribute("aria-pressed", "false");
      step.setAttribute("aria-live", "polite");
    }

    function start() {
      if (at === last) show(0);
      play.textContent = "Pause";
      play.setAttribute("aria-pressed", "true");
      step.setAttribute("aria-live", "off"); // a reader of the screen would not keep up
      timer = setInterval(() => (at < last ? show(at + 1) : stop()), BEAT / SPEEDS[pace]);
    }

    const toggle = () => { if (timer) { stop(); keep(); } else start(); };
    const move = (frame) => { stop(); show(frame); keep(); };
    const keep = () => remember(number, at);
    const deeds = { play: toggle, first: () => move(0), back: () => move(at - 1), next: () => move(at + 1), last: () => move(last) };
    Object.entries(deeds).forEach(([name, deed]) => find("." + name).addEventListener("click", deed));
    range.addEventListener("input", () => move(+range.value));
    all("[data-go]").forEach((button) => button.addEventListener("click", () => move(+button.dataset.go)));
    speed.addEventListener("click", () => {
      pace = (pace + 1) % SPEEDS.length;
      speed.textContent = SPEEDS[pace] + "×";
      if (timer) { clearInterval(timer); start(); }
    });
    show(0);
    return { root, toggle, stop, show, keep, at: () => at, step: (by) => move(at + by), first: deeds.first, end: deeds.last };
  }

  // The address holds what is shown, so that it can be kept and sent; not every place lets a page change it.
  function remember(number, step) {
    try { history.replaceState(null, "", "#episode=" + number + "&step=" + step); } catch { /* the address stays */ }
  }

  const panels = [...document.querySelectorAll(".player")].map((root, k) => makePanel(root, k + 1));
  const buttons = [...document.querySelectorAll(".chooser button")];
  let shown = 0;

  function choose(k) {
    shown = Math.max(0, Math.min(panels.length - 1, k));
    buttons.forEach((button) => button.setAttribute("aria-pressed", String(+button.dataset.show === shown)));
    panels.forEach((panel, j) => { if (j !== shown) panel.stop(); panel.root.toggleAttribute("hidden", j !== shown); });
    return panels[shown];
  }

  buttons.forEach((button) => button.addEventListener("click", () => choose(+button.dataset.show).keep()));

  // Another episode; what had the focus in the old panel has it in the new one.
  function turn(by) {
    const old = panels[shown], held = document.activeElement, inside = old.root.contains(held);
    const kind = held.matches("input") ? "input" : [...held.classList].map((name) => "button." + name)[0];
    const panel = choose(shown + by);
    if (inside) ((held !== old.root && kind && panel.root.querySelector(kind)) || panel.root).focus({ preventScroll: true });
    panel.keep();
  }

  function follow() {
    const asked = new URLSearchParams(location.hash.slice(1));
    if (!panels.length || !asked.has("episode")) return;
    const panel = choose((Math.trunc(+asked.get("episode")) || 1) - 1);
    panel.stop();
    panel.show(+asked.get("step"));
    panel.root.scrollIntoView();
  }
  addEventListener("hashchange", follow);
  follow();

  // Keys act on the panel in sight, so that elsewhere on the page they scroll; all but two only once it has the focus.
  const inSight = (root) => {
    const box = root.getBoundingClientRect();
    return box.height > 0 && box.top < 0.75 * innerHeight && box.bottom > 0.35 * innerHeight;
  };
  document.addEventListener("keydown", (event) => {
    const panel = panels[shown];
    if (!panel || event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
    const own = event.target.closest("button, summary, a, select, textarea, input"), inside = panel.root.contains(event.target);
    const deeds = {
      " ": panel.toggle, ArrowRight: () => panel.step(1), ArrowLeft: () => panel.step(-1), Home: panel.first, End: panel.end,
      ArrowUp: () => turn(-1), ArrowDown: () => turn(1),
    };
    const deed = deeds[event.key];
    if (!deed || (own && event.key === " " && own.type !== "range")) return;
    const anywhere = [" ", "ArrowLeft", "ArrowRight"].includes(event.key) && inSight(panel.root);
    if (!inside && !anywhere) return;
    event.preventDefault();
    deed();
  });
})();
