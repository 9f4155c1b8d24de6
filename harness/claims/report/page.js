'use strict';
(async () => {
  if (!window.DecompressionStream) return;
  const {arms, figures} = JSON.parse(document.getElementById('curve-data').textContent);
  const packed = Uint8Array.from(atob(document.getElementById('plotly-gzip').textContent), c => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream('gzip'));
  const script = document.createElement('script');
  script.textContent = await new Response(stream).text();
  document.head.append(script);

  const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  // Plotly reads some tags in texts; a name is shown as it is.
  const plain = text => text.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;');
  const boxes = [...document.querySelectorAll('.legend input')];

  // Each stretch without a gap is a polygon of its own.
  function band(curve) {
    const x = [], y = [];
    for (let i = 0; i < curve.x.length; i++) {
      if (curve.low[i] === null) continue;
      let j = i;
      while (j + 1 < curve.x.length && curve.low[j + 1] !== null) j++;
      x.push(...curve.x.slice(i, j + 1), ...curve.x.slice(i, j + 1).reverse(), null);
      y.push(...curve.high.slice(i, j + 1), ...curve.low.slice(i, j + 1).reverse(), null);
      i = j;
    }
    return {x, y};
  }

  function traces(figure) {
    const shown = figure.curves.filter(curve => boxes[curve.arm].checked);
    const bands = shown.filter(curve => curve.runs > 1).map(curve => ({
      ...band(curve), type: 'scatter', mode: 'none', fill: 'toself', hoverinfo: 'skip',
      fillcolor: colour(`--arm-${arms[curve.arm].colour}`) + '2e',
    }));
    return bands.concat(shown.map(curve => ({
      x: curve.x, y: curve.mean, type: 'scatter', mode: curve.x.length < 25 ? 'lines+markers' : 'lines', name: plain(arms[curve.arm].name),
      line: {color: colour(`--arm-${arms[curve.arm].colour}`), dash: arms[curve.arm].dash, width: 2}, marker: {size: 5},
      customdata: curve.x.map((_, i) => [curve.low[i], curve.high[i], curve.epoch[i] ?? '–']),
      hovertemplate: '%{y:.4~g}' + (curve.runs > 1 ? ' (%{customdata[0]:.4~g} to %{customdata[1]:.4~g})' : '') + ', epoch %{customdata[2]}',
    })));
  }

  function layout() {
    const axis = {automargin: true, gridcolor: colour('--line'), linecolor: colour('--line'), zeroline: false, tickfont: {size: 12}};
    return {
      xaxis: {...axis, title: {text: 'step', standoff: 8}, unifiedhovertitle: {text: 'step %{x}'}, spikecolor: colour('--soft'), spikethickness: 1}, yaxis: axis, height: 290, showlegend: false, hovermode: 'x unified',
      margin: {l: 8, r: 12, t: 8, b: 8}, paper_bgcolor: 'rgba(0,0,0,0)', plot_bgcolor: 'rgba(0,0,0,0)',
      font: {family: getComputedStyle(document.body).fontFamily, size: 12, color: colour('--soft')},
      hoverlabel: {bgcolor: colour('--panel'), bordercolor: colour('--line'), font: {color: colour('--ink')}},
      // A finger scrolls the page, it does not drag a frame.
      dragmode: matchMedia('(pointer: coarse)').matches ? false : 'zoom',
    };
  }

  function draw() {
    for (const place of document.querySelectorAll('.plot')) {
      if (!place.classList.contains('drawn')) place.replaceChildren();
      place.classList.add('drawn');
      Plotly.react(place, traces(figures[place.dataset.figure]), layout(), {responsive: true, displayModeBar: false});
    }
  }

  draw();
  for (const box of boxes) { box.hidden = false; box.addEventListener('change', draw); }
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw);
  matchMedia('print').addEventListener('change', draw);
})();
