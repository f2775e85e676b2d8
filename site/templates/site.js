// Tables are sorted by a click on a column's name; on exported pages, a search leaves the rows that have it. On the live site a click on a link to another of its
// pages is handed to Streamlit, as if the reader had gone there with Back or Forward, so no page is loaded again.
(() => {
  if (window.reprozoo) return;
  const go = (page) => {
    history.pushState({}, "", page);
    window.dispatchEvent(new PopStateEvent("popstate"));
    document.querySelector("[data-testid=stMain]")?.scrollTo(0, 0);
  };
  window.reprozoo = { go };

  const sort = (head) => {
    const table = head.closest("table");
    const column = [...head.parentNode.children].indexOf(head);
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = (row) => {
      const cell = row.children[column];
      if (!cell) return null;
      if (cell.dataset.v !== undefined) return cell.dataset.v === "" ? null : Number(cell.dataset.v);
      const text = cell.innerText.trim();
      return text === "" ? null : isNaN(text) ? text.toLowerCase() : Number(text);
    };
    for (const body of table.tBodies) {
      const rows = [...body.rows].filter((row) => !row.classList.contains("heading"));
      const keyed = rows.map((row, place) => ({ row, place, key: value(row) }));
      keyed.sort((a, b) => {
        if (a.key === null || b.key === null) return (a.key === null) - (b.key === null) || a.place - b.place;
        const order = a.key < b.key ? -1 : a.key > b.key ? 1 : 0;
        return (down ? -order : order) || a.place - b.place;
      });
      for (const { row } of keyed) body.append(row);  // what has no value stays last either way
    }
  };

  const narrow = (box) => {
    const rows = [...document.querySelectorAll("tr[data-search]")];
    const text = box.value.toLowerCase().split(/\s+/).filter(Boolean).join(" ");
    const whole = rows.some((row) => row.dataset.search.includes(text));  // else each word for itself
    const words = whole ? [text] : text.split(" ");
    for (const row of rows) row.hidden = !words.every((word) => row.dataset.search.includes(word));
    for (const body of document.querySelectorAll("table.board tbody")) {
      const heading = body.querySelector("tr.heading");
      if (heading) heading.hidden = !body.querySelector("tr[data-search]:not([hidden])");
    }
    for (const hit of document.querySelectorAll("details tr[data-search]:not([hidden])")) if (text) hit.closest("details").open = true;
    const left = rows.filter((row) => !row.hidden).length;
    box.closest("p").querySelector("output").textContent = text ? `${left} of ${rows.length} rows` : "";
  };
  document.addEventListener("input", (event) => {
    if (event.target.matches("input.narrow")) narrow(event.target);
  });

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button.sort");
    if (button) return sort(button.closest("th"));
    const link = event.target.closest("a.inside");
    const plain = !(event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey);
    if (!link || !plain || !document.querySelector("[data-testid=stApp]")) return;
    event.preventDefault();
    go(link.href);
  });
})();
