(() => { // two pictures under a line that can be moved; without this script they stand side by side
  const compare = document.querySelector(".compare");
  if (!compare) return;
  const pair = compare.querySelector(".pair"), form = compare.querySelector("form");
  const slider = pair.querySelector("input"), told = compare.querySelector(".told");
  const rows = new Map(); // what a row shows -> column -> its picture's link; the base's may stand in an earlier row
  for (const plate of document.querySelectorAll("table.plate")) {
    let base = null, group = null;
    for (const line of plate.querySelectorAll("tr.pictures")) {
      if (line.closest("tbody") !== group) { group = line.closest("tbody"); base = null; }
      const shown = new Map();
      for (const cell of line.querySelectorAll("td[data-column]")) {
        const print = cell.querySelector("a.print");
        if (!print) continue;
        shown.set(cell.dataset.column, print);
        if ("base" in print.dataset) base = [cell.dataset.column, print];
      }
      if (base && !shown.has(base[0])) shown.set(...base);
      if (shown.size > 1) rows.set(line.dataset.row, shown);
    }
  }
  if (!rows.size || !rows.has(pair.dataset.row)) return;

  const names = [...new Set([...document.querySelectorAll("table.plate td[data-column]")].map((cell) => cell.dataset.column))];
  const fill = (select, values, chosen) => {
    select.replaceChildren(...values.map((value) => new Option(value, value, false, value === chosen)));
  };
  fill(form.left, names, pair.dataset.left);
  fill(form.right, names, pair.dataset.right);
  fill(form.row, [...rows.keys()], pair.dataset.row);

  function put(side, column) {
    const place = pair.querySelector(".side." + side), print = rows.get(form.row.value).get(column);
    const image = place.querySelector("img"), inside = print && print.querySelector("img");
    image.hidden = !inside;
    if (inside) { image.src = inside.src; image.alt = inside.alt; image.width = inside.width; image.height = inside.height; }
    place.querySelector(".name").textContent = column;
    const mark = [...document.querySelectorAll("table.plate thead .variant")].find((head) => head.textContent.trim() === column);
    place.querySelector(".swatch").replaceWith(mark.querySelector(".swatch").cloneNode(true));
    return inside ? "" : column + " has no picture here. ";
  }
  function choose() {
    const missing = put("left", form.left.value) + put("right", form.right.value);
    told.textContent = missing + form.row.value;
  }
  function move() {
    pair.style.setProperty("--at", slider.value + "%");
    slider.setAttribute("aria-valuetext", Math.round(slider.value) + "% " + form.left.value + ", the rest " + form.right.value);
  }
  form.addEventListener("change", () => { choose(); move(); });
  form.addEventListener("submit", (event) => event.preventDefault());
  slider.addEventListener("input", move);
  compare.closest("section").classList.add("live");
  choose();
  move();
})();
