"use strict";
const find = (selector, root = document) => root.querySelector(selector);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];

// Sort a table: the best value first, then the other way round; cells without a number come last.
for (const head of all("thead th")) {
  find("button", head).addEventListener("click", () => {
    const table = head.closest("table");
    const body = table.tBodies[0];
    const better = head.dataset.direction === "1" ? "descending" : "ascending";
    const other = better === "ascending" ? "descending" : "ascending";
    const order = head.getAttribute("aria-sort") === better ? other : better;
    const sign = order === "ascending" ? 1 : -1;
    const value = (row) => row.cells[head.cellIndex].dataset.value;
    const rows = [...body.rows].sort((a, b) => {
      const [left, right] = [value(a), value(b)];
      if (left === "" || right === "") return (left === "") - (right === "");
      const numbers = [Number(left), Number(right)];
      return sign * (numbers.some(Number.isNaN) ? left.localeCompare(right) : numbers[0] - numbers[1]);
    });
    all("thead th", table).forEach((cell) => cell.setAttribute("aria-sort", "none"));
    head.setAttribute("aria-sort", order);
    body.append(...rows);
  });
}

// One metric's plots at a time.
for (const button of all(".choices button")) {
  button.addEventListener("click", () => {
    all(".choices button").forEach((each) => each.setAttribute("aria-pressed", String(each === button)));
    all(".plots").forEach((plots) => { plots.hidden = plots.dataset.metric !== button.dataset.metric; });
  });
}

// The slider: two pictures of one row upon each other.
const slider = find("#slider");
if (slider) {
  const [picture, before, after, cut] = ["#picture", "#before-choice", "#after-choice", "#cut"].map((id) => find(id));
  const thumb = (column) => find(`.shot[data-row="${picture.value}"] button[data-column="${column}"]`);

  const show = () => {
    const { width, height } = find("img", thumb(before.value)).attributes;
    slider.style.setProperty("--ratio", width.value / height.value);  // so that a tall picture fits the window
    for (const [choice, image, tag] of [[before, "#before", "#tag-before"], [after, "#after", "#tag-after"]]) {
      find(image).src = find("img", thumb(choice.value)).src;
      find(image).alt = choice.selectedOptions[0].text;
      find(tag).textContent = choice.selectedOptions[0].text;
    }
    all('.strip button[aria-pressed="true"]').forEach((button) => button.setAttribute("aria-pressed", "false"));
    [before, after].forEach((choice) => thumb(choice.value).setAttribute("aria-pressed", "true"));
  };
  const move = () => slider.style.setProperty("--cut", `${cut.value / 10}%`);
  const step = (by) => {
    picture.selectedIndex = (picture.selectedIndex + by + picture.length) % picture.length;
    show();
  };

  [picture, before, after].forEach((choice) => choice.addEventListener("change", show));
  cut.addEventListener("input", move);
  find("#previous").addEventListener("click", () => step(-1));
  find("#next").addEventListener("click", () => step(1));
  find("#swap").addEventListener("click", () => {
    [before.value, after.value] = [after.value, before.value];
    show();
  });
  // A click in the gallery puts a picture on the right; the second in a row sends the first to the left, and is shown.
  for (const button of all(".strip button")) {
    button.addEventListener("click", () => {
      const row = button.closest(".shot").dataset.row;
      const second = row === picture.value && button.dataset.column !== after.value;
      if (second) before.value = after.value;
      picture.value = row;
      after.value = button.dataset.column;
      show();
      if (second) slider.scrollIntoView({ block: "nearest" });
    });
  }
  show();
  move();
}
