// Filters and sorts the list of items; all of its rows are in the page.
"use strict";
const rows = [...document.querySelectorAll("#items > tbody > tr")];
const search = document.getElementById("search");
const study = document.getElementById("study");
const method = document.getElementById("method");
const verdict = document.getElementById("verdict");
const shown = document.getElementById("shown");

function isShown(row, words) {
  if (study && study.value && row.dataset.study !== study.value) return false;
  const found = row.dataset.search;
  if (!words.every(word => found.includes(word))) return false;
  if (!verdict.value) return true;
  const scores = JSON.parse(row.dataset.scores);
  const names = method.value ? [method.value] : Object.keys(scores);
  const known = names.filter(name => typeof scores[name] === "number");
  const right = known.filter(name => scores[name] >= 0.5).length;
  if (verdict.value === "right") return known.length > 0 && right === known.length;
  if (verdict.value === "wrong") return known.length > 0 && right === 0;
  return right > 0 && right < known.length;
}

function update() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const row of rows) {
    row.hidden = !isShown(row, words);
    count += !row.hidden;
  }
  shown.textContent = `${count} of ${rows.length} items`;
}

for (const control of [search, study, method, verdict]) {
  if (control) control.addEventListener("input", update);
}
update();
