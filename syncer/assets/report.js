"use strict";

// Tables are sorted by the buttons in their heads.
function value(row, column, kind) {
  const cell = row.cells[column];
  const text = cell.dataset.value ?? cell.textContent.trim();
  if (kind !== "number") return text;
  const number = Number(text.replaceAll(",", ""));
  return Number.isNaN(number) ? -Infinity : number;
}

function sort(head, column) {
  const up = head.getAttribute("aria-sort") === "descending" || (!head.hasAttribute("aria-sort") && head.dataset.kind !== "number");
  const body = head.closest("table").tBodies[0];
  const rows = Array.from(body.rows, (row) => [value(row, column, head.dataset.kind), row]);
  const least = ([one], [other]) => (head.dataset.kind === "number" ? one - other || 0 : one.localeCompare(other));
  rows.sort(up ? least : (one, other) => least(other, one));
  for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  body.append(...rows.map(([, row]) => row));
}

for (const table of document.querySelectorAll("table.sortable")) {
  Array.from(table.tHead.rows[0].cells).forEach((head, column) => {
    if (!head.dataset.kind) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => sort(head, column));
  });
}

// The causes and their samples are filtered by words, by stream, and by whether they are new.
for (const form of document.querySelectorAll("form.filter")) {
  const section = form.closest("section");
  const samples = new Map(Array.from(section.querySelectorAll("details.sample"), (one) => [one.dataset.cause, one]));
  const causes = Array.from(section.querySelectorAll("tr[data-cause]"), (row) => ({ row, sample: samples.get(row.dataset.cause) }));
  let read = false;

  const filter = () => {
    if (!read) for (const one of causes) one.text = `${one.row.textContent} ${one.sample?.textContent ?? ""}`.toLowerCase();
    read = true;
    const words = form.elements.words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const stream = form.elements.stream?.value ?? "";
    let shown = 0;
    for (const { row, sample, text } of causes) {
      const meant = words.every((word) => text.includes(word));
      row.hidden = !meant || (stream && row.dataset.stream !== stream) || (form.elements.new.checked && !("new" in row.dataset));
      if (sample) sample.hidden = row.hidden;
      shown += !row.hidden;
    }
    form.querySelector("output").textContent = shown === causes.length ? "" : `${shown} of ${causes.length} causes`;
  };
  form.addEventListener("input", filter);
  form.addEventListener("change", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(filter));
  form.hidden = false;
}

// A link to a sample opens it.
function open() {
  const found = document.getElementById(location.hash.slice(1));
  if (found instanceof HTMLDetailsElement) {
    found.open = true;
    found.scrollIntoView();
  }
}
addEventListener("hashchange", open);
open();
