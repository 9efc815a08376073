"use strict";
// Plays the episodes. Each player keeps its frames and plans in a JSON block of its own; nothing is fetched.
(() => {
  const SPEEDS = [1, 2, 4, 0.5], BEAT = 420;

  function makePlayer(root) {
    const data = JSON.parse(root.querySelector("script").textContent);
    const last = data.frames.length - 1;
    const find = (name) => root.querySelector(name);
    const image = find("img"), range = find("input"), play = find(".play"), speed = find(".speed");
    let at = 0, timer = null, pace = 0;

    // The newest plan made at or before this frame; -1 before the first.
    const planAt = (frame) => data.steps.reduce((found, step, k) => (step <= frame ? k : found), -1);

    function show(frame) {
      at = Math.max(0, Math.min(last, frame));
      image.src = "data:image/png;base64," + data.images[data.frames[at]];
      range.value = at;
      const k = planAt(at), drawn = k < 0 ? -1 : data.plans[k];
      root.querySelectorAll("[data-plan]").forEach((part) => part.toggleAttribute("hidden", +part.dataset.plan !== drawn));
      const done = k < 0 ? -1 : at - data.steps[k];
      root.querySelectorAll(".edge").forEach((edge) => {
        edge.classList.toggle("doing", at < last && +edge.dataset.from <= done && done < +edge.dataset.to);
      });
      find(".step").textContent = "step " + at + " of " + last + (k >= 0 ? " · plan " + (k + 1) + " of " + data.steps.length : "");
      find(".action").textContent = at === last ? data.end : data.actions[at] ?? "";
    }

    function stop() {
      clearInterval(timer);
      timer = null;
      play.textContent = "Play";
    }

    function start() {
      if (at === last) show(0);
      play.textContent = "Pause";
      timer = setInterval(() => (at < last ? show(at + 1) : stop()), BEAT / SPEEDS[pace]);
    }

    const toggle = () => (timer ? stop() : start());
    const move = (frame) => { stop(); show(frame); };
    play.addEventListener("click", toggle);
    find(".back").addEventListener("click", () => move(at - 1));
    find(".next").addEventListener("click", () => move(at + 1));
    range.addEventListener("input", () => move(+range.value));
    speed.addEventListener("click", () => {
      pace = (pace + 1) % SPEEDS.length;
      speed.textContent = SPEEDS[pace] + "×";
      if (timer) { clearInterval(timer); timer = null; start(); }
    });
    show(0);
    return { root, toggle, stop, step: (by) => move(at + by), first: () => move(0), end: () => move(last) };
  }

  const players = [...document.querySelectorAll(".player")].map(makePlayer);
  const tabs = [...document.querySelectorAll(".tabs button")];
  tabs.forEach((tab, k) => tab.addEventListener("click", () => {
    tabs.forEach((other) => other.classList.toggle("on", other === tab));
    players.forEach((player, j) => { player.stop(); player.root.toggleAttribute("hidden", j !== k); });
    players[k].root.focus({ preventScroll: true });
  }));

  // Keys act on the player in sight, so that elsewhere on the page space still scrolls.
  const inSight = ({ root }) => {
    const box = root.getBoundingClientRect();
    return box.height > 0 && box.top < 0.75 * innerHeight && box.bottom > 0.35 * innerHeight;
  };
  document.addEventListener("keydown", (event) => {
    const player = players.find(inSight);
    if (!player || event.ctrlKey || event.metaKey || event.altKey) return;
    const own = event.target.closest("button, summary, a, select, textarea, input");
    const deeds = {
      " ": player.toggle, ArrowRight: () => player.step(1), ArrowLeft: () => player.step(-1), Home: player.first, End: player.end,
    };
    const deed = deeds[event.key];
    if (!deed || (own && event.key === " " && own.type !== "range")) return;
    if (event.key.length > 1 && event.key[0] !== "A" && !player.root.contains(event.target)) return;
    event.preventDefault();
    deed();
  });
})();
