// The page works without this; it sorts and filters the table, and opens cells for links and for print.
"use strict";
(() => {
  document.documentElement.classList.add("scripted");

  const table = document.getElementById("cells-table");
  const body = table.tBodies[0];
  const headings = [...table.tHead.rows[0].cells];
  const collator = new Intl.Collator("en", { numeric: true });

  // A number's own order, a label's text; what is absent comes last either way.
  const order = (row, column, kind) => {
    const cell = row.cells[column];
    if (kind === "number") return cell.dataset.order === undefined ? null : Number(cell.dataset.order);
    return cell.textContent.trim() || null;
  };
  const compare = (a, b) => (typeof a === "number" ? a - b : collator.compare(a, b));

  const sort = (column) => {
    const heading = headings[column];
    const descending = heading.getAttribute("aria-sort") === "ascending";
    const rows = [...body.rows].map((row) => [order(row, column, heading.dataset.kind), row]);
    rows.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      return descending ? compare(b, a) : compare(a, b);
    });
    headings.forEach((other) => other.setAttribute("aria-sort", "none"));
    heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
    body.append(...rows.map(([, row]) => row));
  };
  headings.forEach((heading, column) => heading.querySelector("button").addEventListener("click", () => sort(column)));

  const filter = document.getElementById("filter");
  const count = document.getElementById("filter-count");
  filter.addEventListener("input", () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of body.rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      shown += row.hidden ? 0 : 1;
    }
    count.textContent = words.length ? `${shown} of ${body.rows.length} cells` : "";
  });

  const cells = [...document.querySelectorAll("details.cell")];
  const openAll = (open) => cells.forEach((cell) => { cell.open = open; });
  document.getElementById("open-all").addEventListener("click", () => openAll(true));
  document.getElementById("close-all").addEventListener("click", () => openAll(false));

  const openTarget = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target instanceof HTMLDetailsElement) {
      target.open = true;
      target.querySelector("summary").focus();
      target.scrollIntoView();
    }
  };
  addEventListener("hashchange", openTarget);
  openTarget();

  // On paper every cell is open; afterwards it is as it was.
  let before = [];
  addEventListener("beforeprint", () => {
    before = cells.map((cell) => cell.open);
    openAll(true);
  });
  addEventListener("afterprint", () => cells.forEach((cell, index) => { cell.open = before[index]; }));
})();
