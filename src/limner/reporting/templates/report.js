"use strict";
(() => {
  const viewer = document.getElementById("viewer");
  if (typeof viewer.showModal !== "function") return; // then a picture's link opens its file
  const image = viewer.querySelector("img"), caption = viewer.querySelector("figcaption");
  const button = (name) => viewer.querySelector("." + name);
  let row = [], place = 0;

  function show(print) {
    const inside = print.querySelector("img");
    image.onerror = () => { image.onerror = null; image.src = inside.src; }; // the page travels without its files
    image.src = print.href;
    image.alt = inside.alt;
    caption.textContent = print.dataset.caption;
    button("full").href = print.href;
  }
  function go(next) {
    if (next < 0 || next >= row.length) return;
    place = next;
    show(row[place]);
    button("previous").disabled = place === 0;
    button("next").disabled = place === row.length - 1;
    button("compare").hidden = !base() || base() === row[place];
  }
  function base() { // with several training seeds the base's picture stands in the first of their rows only
    for (let line = row[place].closest("tr"); line; line = line.previousElementSibling) {
      const print = line.querySelector("a.print[data-base]");
      if (print) return print;
    }
    return null;
  }
  const hold = () => show(base() || row[place]);
  const release = () => show(row[place]);

  document.addEventListener("click", (event) => {
    const print = event.target.closest("a.print");
    if (!print || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    row = [...print.closest("tr, .contact, .ranked, .given").querySelectorAll("a.print")];
    viewer.showModal();
    go(row.indexOf(print));
  });
  button("previous").addEventListener("click", () => go(place - 1));
  button("next").addEventListener("click", () => go(place + 1));
  button("compare").addEventListener("pointerdown", hold);
  for (const name of ["pointerup", "pointerleave", "pointercancel", "blur"]) button("compare").addEventListener(name, release);
  viewer.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") go(place - 1);
    if (event.key === "ArrowRight") go(place + 1);
    if (event.target === button("compare") && (event.key === " " || event.key === "Enter")) { event.preventDefault(); hold(); }
  });
  viewer.addEventListener("keyup", (event) => { if (event.key === " " || event.key === "Enter") release(); });
  viewer.addEventListener("close", () => row[place] && row[place].focus());
})();
(() => { // arrows go from picture to picture; what is folded away is printed, but for the many comparisons that show nothing more
  const places = (line) => [...line.querySelectorAll("td, .contact > a, li")].map((place) => place.matches("a") ? place : place.querySelector("a.print"));
  const lineOf = (print) => print.closest("tr, .contact, .ranked");
  function beside(print, key) {
    const line = lineOf(print), own = places(line), at = own.indexOf(print);
    if (key === "Home") return own.find((each) => each);
    if (key === "End") return own.findLast((each) => each);
    if (key === "ArrowLeft") return own.slice(0, at).findLast((each) => each);
    if (key === "ArrowRight") return own.slice(at + 1).find((each) => each);
    const lines = [...print.closest("table, .contact, .ranked").querySelectorAll("tr.pictures")], here = lines.indexOf(line);
    const others = key === "ArrowUp" ? lines.slice(0, Math.max(0, here)).reverse() : lines.slice(here + 1);
    return others.map((other) => places(other)[at]).find((each) => each);
  }
  document.addEventListener("keydown", (event) => {
    const print = event.target.closest("a.print");
    if (!print || !lineOf(print) || event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
    if (!/^(Arrow(Left|Right|Up|Down)|Home|End)$/.test(event.key)) return;
    const next = beside(print, event.key);
    if (!next) return;
    event.preventDefault();
    next.focus();
  });
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open]):not(.further)")];
    opened.forEach((each) => { each.open = true; });
  });
  addEventListener("afterprint", () => opened.splice(0).forEach((each) => { each.open = false; }));
})();
