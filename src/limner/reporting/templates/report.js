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
    row = [...print.closest("tr, .contact").querySelectorAll("a.print")];
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
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((each) => { each.open = true; }));
})();
