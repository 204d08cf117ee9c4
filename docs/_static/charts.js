// Draws the charts of a notebook with the Vega that lies beside this file. Until then, or
// without scripts, the picture of the chart is there.
document.querySelectorAll("div.chart").forEach((place) => {
  const chart = JSON.parse(place.querySelector("script").textContent);
  const drawn = document.createElement("div");
  vegaEmbed(drawn, chart, { actions: false, renderer: "svg" })
    .then(() => {
      // One text for the whole: its marks have no names of their own.
      drawn.setAttribute("role", "group");
      drawn.setAttribute("aria-label", place.querySelector("img").alt);
      drawn.querySelectorAll("svg").forEach((svg) => svg.setAttribute("aria-hidden", "true"));
      // Wider than a phone, it is scrolled, with the keyboard as well.
      place.tabIndex = 0;
      place.replaceChildren(drawn);
    })
    .catch((problem) => console.error(problem));
});
