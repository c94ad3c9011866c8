"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);
  const storage_key = `dheads-turing-test-${data.page}`;
  const film = at("film");
  let state = restored() || fresh();
  let shown_at = 0;
  let plays = 0;

  // Each person sees the films in an order of their own, drawn from the number that stands for the person.
  function fresh() {
    const number = crypto.getRandomValues(new Uint32Array(1))[0];
    const order = data.clips.map((clip) => clip.id);
    let seed = number;
    const draw = () => {  // mulberry32
      seed = (seed + 0x6d2b79f5) | 0;
      let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
      return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    };
    for (let i = order.length - 1; i > 0; i--) {
      const j = Math.floor(draw() * (i + 1));
      [order[i], order[j]] = [order[j], order[i]];
    }
    return { page: data.page, person: number.toString(16).padStart(8, "0"), order, answers: [] };
  }

  function restored() {
    try {
      const kept = JSON.parse(localStorage.getItem(storage_key));
      const ids = new Set(data.clips.map((clip) => clip.id));
      const fits = kept && kept.page === data.page && kept.order.length === ids.size &&
        kept.order.every((id) => ids.has(id)) && kept.answers.every((answer, i) => answer.clip === kept.order[i]);
      return fits ? kept : null;
    } catch {
      return null;
    }
  }

  function keep() {
    try {
      localStorage.setItem(storage_key, JSON.stringify(state));
      at("trouble").textContent = "";
    } catch {
      at("trouble").textContent = "This browser keeps nothing: do not reload the page before you have saved.";
    }
  }

  function show(part) {
    for (const id of ["start", "trial", "end"]) at(id).hidden = id !== part;
  }

  function next() {
    const done = state.answers.length;
    if (done === state.order.length) return finish();
    show("trial");
    at("progress").max = state.order.length;
    at("progress").value = done;
    at("place").textContent = `${done + 1} of ${state.order.length}`;
    at("back").disabled = done === 0;
    if (document.activeElement) document.activeElement.blur();  // else Space would press a button again
    allow(false);
    plays = 0;
    shown_at = performance.now();
    film.src = data.clips.find((clip) => clip.id === state.order[done]).film;
    play();
  }

  function play() {
    film.currentTime = 0;
    at("hint").textContent = "";
    film.play().catch((error) => {
      if (error.name !== "AbortError") at("hint").textContent = "Press Space or the picture to play.";
    });
  }

  function allow(yes) {
    at("real").disabled = at("fake").disabled = !yes;
  }

  function answer(real) {
    if (at("trial").hidden || at("real").disabled) return;
    const ms = Math.round(performance.now() - shown_at);
    state.answers.push({ clip: state.order[state.answers.length], real, ms, plays });
    keep();
    next();
  }

  function back() {
    if (state.answers.length === 0 || !at("start").hidden) return;
    state.answers.pop();
    keep();
    next();
  }

  function finish() {
    film.pause();
    film.removeAttribute("src");
    film.load();
    show("end");
    at("text").value = text();
    at("save").focus();
  }

  function text() {
    return JSON.stringify(state, null, 1) + "\n";
  }

  function save() {
    const link = document.createElement("a");
    const name = `answers-${data.page.slice(0, 8)}-${state.person}.json`;
    link.href = URL.createObjectURL(new Blob([text()], { type: "application/json" }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    at("saved").textContent = `Saved as ${name}, where your browser puts downloads.`;
    at("next").hidden = false;
  }

  film.addEventListener("ended", () => {
    plays += 1;
    allow(true);
    at("hint").textContent = "Real or not?";
  });
  film.addEventListener("error", () => {
    if (film.getAttribute("src")) at("trouble").textContent = "This browser can't play the film (H.264 in mp4).";
  });
  film.addEventListener("click", play);
  at("begin").addEventListener("click", next);
  at("real").addEventListener("click", () => answer(true));
  at("fake").addEventListener("click", () => answer(false));
  at("again").addEventListener("click", play);
  at("back").addEventListener("click", back);
  at("back-end").addEventListener("click", back);
  at("save").addEventListener("click", save);
  at("next").addEventListener("click", () => {
    state = fresh();
    keep();
    at("saved").textContent = "";
    at("next").hidden = true;
    start();
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.target === at("text")) return;
    const key = event.key.toLowerCase();
    if (key === "r") answer(true);
    else if (key === "n") answer(false);
    else if (key === "b") back();
    else if (key === " " && !at("trial").hidden) {
      event.preventDefault();
      play();
    }
  });

  function start() {
    at("count").textContent = data.clips.length;
    const done = state.answers.length;
    at("begin").textContent = done ? `Go on: ${done} of ${state.order.length} are answered` : "Begin";
    show("start");
  }

  start();
})();
