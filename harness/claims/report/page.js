(async () => {
  if (!window.DecompressionStream) return;
  const {arms, curves, forests, scatter} = JSON.parse(document.getElementById('figure-data').textContent);
  const packed = Uint8Array.from(atob(document.getElementById('plotly-gzip').textContent), c => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream('gzip'));
  const script = document.createElement('script');
  script.textContent = await new Response(stream).text();
  document.head.append(script);

  const boxes = [...document.querySelectorAll('.legend input')];

  function plot(place, [traces, layout], width, height, options) {
    if (!place.classList.contains('drawn')) place.replaceChildren();
    place.classList.add('drawn');
    Plotly.react(place, traces, {...layout, width, height}, {displayModeBar: false, ...options});
  }

  function drawCurves(figure, place) {
    const shown = figure.curves.filter(curve => boxes[curve.arm].checked);
    plot(place, curvesFigure(shown, arms), place.clientWidth, place.clientHeight);
  }

  function drawScatter(place) {
    plot(place, scatterFigure(scatter, place.clientWidth, place.clientHeight), place.clientWidth, place.clientHeight);
  }

  // One figure lies over the tracks of all rows; a label at the end of the axis may stand out on either side.
  function drawForest(forest, element) {
    const place = element.querySelector('.plot'), within = element.getBoundingClientRect(), aside = 20;
    const tracks = [...element.querySelectorAll('.track')].map(track => track.getBoundingClientRect());
    const below = element.querySelector('.axis').getBoundingClientRect().height, height = within.height - below;
    const figure = forestFigure(forest, tracks.map(track => [track.top - within.top, track.bottom - within.top]), height);
    place.style.left = `${tracks[0].left - within.left - aside}px`;
    figure[1].margin = {l: aside, r: aside, t: 0, b: below};
    plot(place, figure, tracks[0].width + 2 * aside, within.height, {staticPlot: true});
  }

  const drawing = new Map();
  document.querySelectorAll('.forest').forEach((element, i) => drawing.set(element, () => drawForest(forests[i], element)));
  document.querySelectorAll('#scatter .plot').forEach(element => drawing.set(element, () => drawScatter(element)));
  document.querySelectorAll('.curves .plot').forEach((element, i) => drawing.set(element, () => drawCurves(curves[i], element)));
  const drawAll = () => drawing.forEach(draw => draw());

  const sizes = new ResizeObserver(entries => entries.forEach(entry => drawing.get(entry.target)()));
  for (const element of drawing.keys()) sizes.observe(element);
  for (const box of boxes) { box.hidden = false; box.addEventListener('change', drawAll); }
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', drawAll);
  // The sheet has a width of its own, and a figure cannot follow it while it is printed.
  for (const [event, isPrinting] of [['beforeprint', true], ['afterprint', false]]) {
    addEventListener(event, () => { document.documentElement.classList.toggle('printing', isPrinting); drawAll(); });
  }
})();
