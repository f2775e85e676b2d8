// Draws the figures of a page from their JSON. A click on a point leads to the page of its model or run.
for (const data of document.querySelectorAll("script[data-for]")) {
  const place = document.getElementById(data.dataset.for);
  const { data: traces, layout } = JSON.parse(data.textContent);
  Plotly.newPlot(place, traces, layout, { displaylogo: false, responsive: true, displayModeBar: false });
  place.on("plotly_click", (event) => {
    const [kind, ...names] = event.points[0].customdata || [];
    if (kind === "model" || kind === "run") {
      const short = kind === "run" ? [names[0].slice(0, 8)] : names;
      location.href = place.dataset[kind].replace(/{(\d)}/g, (_, place) => encodeURIComponent(short[place]));
    }
  });
}
