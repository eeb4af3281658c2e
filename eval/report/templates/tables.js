// Sorts a table by a click on the head of a column, and hands it over as CSV. Without scripts the
// tables are read as they are.
"use strict";

// "0.712 [0.650, 0.770]", "1,203", "12.5 %", "< 0.001"; NaN for a dash or a word
function numberOf(text) {
  return parseFloat(text.replace(/[,<\s]/g, ""));
}

function compare(one, other) {
  const [a, b] = [numberOf(one), numberOf(other)];
  if (isNaN(a) && isNaN(b)) return one.localeCompare(other);
  return a - b;
}

function sortBy(table, column, descending) {
  const body = table.tBodies[0];
  const text = row => row.cells[column].innerText.trim();
  const rows = [...body.rows].sort((one, other) => {
    const [a, b] = [text(one), text(other)];
    if ((a === "-") !== (b === "-")) return a === "-" ? 1 : -1;  // what is not known comes last
    return descending ? compare(b, a) : compare(a, b);
  });
  body.append(...rows);
}

// an interval becomes three columns: the mean and both ends
function csvOf(table) {
  const interval = /^([+-]?[\d.,]+) \[([+-]?[\d.]+), ([+-]?[\d.]+)\]$/;
  const heads = [...table.tHead.rows[0].cells].map(cell => cell.innerText.trim());
  const rows = [...table.tBodies[0].rows].map(row => [...row.cells].map(
    cell => cell.innerText.trim().replace(/\s+/g, " ")));
  const wide = heads.map((_, i) => rows.some(row => interval.test(row[i])));
  const lines = [heads.flatMap((head, i) => wide[i] ? [head, head + " low", head + " high"] : [head])];
  for (const row of rows) {
    lines.push(row.flatMap((text, i) => {
      if (!wide[i]) return [text];
      const found = interval.exec(text);
      return found ? found.slice(1) : [text, "", ""];
    }));
  }
  const quoted = text => /[",\n]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
  return lines.map(line => line.map(quoted).join(",") + "\r\n").join("");
}

for (const table of document.querySelectorAll("table[data-name]")) {
  for (const head of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.title = "sort by this column";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      // a column of numbers begins with the greatest
      const before = head.getAttribute("aria-sort");
      const isName = head.classList.contains("name");
      const descending = before ? before === "ascending" : !isName;
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      sortBy(table, head.cellIndex, descending);
    });
  }
  const save = document.createElement("button");
  save.type = "button";
  save.className = "save";
  save.textContent = "CSV";
  save.title = "download this table";
  save.addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([csvOf(table)], {type: "text/csv"}));
    link.download = table.dataset.name + ".csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
  table.parentElement.after(save);
}
