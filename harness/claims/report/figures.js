'use strict';
// Data and layout for Plotly of the three kinds of figures; colors are those of the page's style sheet.
const color = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
// Plotly reads some tags in texts; a name is shown as it is.
const plain = text => text.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;');

function axis(options) {
  return {gridcolor: color('--line'), linecolor: color('--line'), zeroline: false, tickfont: {size: 12}, ...options};
}

function layout(options) {
  return {
    showlegend: false, paper_bgcolor: 'rgba(0,0,0,0)', plot_bgcolor: 'rgba(0,0,0,0)', margin: {l: 8, r: 12, t: 8, b: 8},
    font: {family: getComputedStyle(document.body).fontFamily, size: 12, color: color('--soft')},
    hoverlabel: {bgcolor: color('--panel'), bordercolor: color('--line'), font: {color: color('--ink')}},
    // A finger scrolls the page, it does not drag a frame.
    dragmode: matchMedia('(pointer: coarse)').matches ? false : 'zoom', ...options,
  };
}

// The smallest and the largest run; each stretch without a gap is a polygon of its own.
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

function curvesFigure(curves, arms) {
  const bands = curves.filter(curve => curve.runs > 1).map(curve => ({
    ...band(curve), type: 'scatter', mode: 'none', fill: 'toself', hoverinfo: 'skip',
    fillcolor: color(`--arm-${arms[curve.arm].color}`) + '2e',
  }));
  const lines = curves.map(curve => ({
    x: curve.x, y: curve.mean, type: 'scatter', mode: curve.x.length < 25 ? 'lines+markers' : 'lines', name: plain(arms[curve.arm].name),
    line: {color: color(`--arm-${arms[curve.arm].color}`), dash: arms[curve.arm].dash, width: 2}, marker: {size: 5},
    customdata: curve.x.map((_, i) => [curve.low[i], curve.high[i], curve.epoch[i] ?? '–']),
    hovertemplate: '%{y:.4~g}' + (curve.runs > 1 ? ' (%{customdata[0]:.4~g} to %{customdata[1]:.4~g})' : '') + ', epoch %{customdata[2]}',
  }));
  const title = {title: {text: 'step', standoff: 8}, unifiedhovertitle: {text: 'step %{x}'}, spikecolor: color('--soft'), spikethickness: 1};
  return [bands.concat(lines), layout({hovermode: 'x unified', xaxis: axis({automargin: true, ...title}), yaxis: axis({automargin: true})})];
}

// One horizontal axis for all rows; each row is a strip of it, `spans` tells which: top and bottom in pixels of `height`.
function forestFigure({range, marks}, spans, height) {
  const rows = {}, strip = i => (i ? `y${i + 1}` : 'y');
  spans.forEach(([top, bottom], i) => {
    rows[`yaxis${i ? i + 1 : ''}`] = {domain: [1 - bottom / height, 1 - top / height], range: [-1, 1], visible: false};
  });
  const gates = marks.flatMap((mark, i) => mark.least === null ? [] : [{
    x: [mark.least, mark.least], y: [-1, 1], yaxis: strip(i), type: 'scatter', mode: 'lines',
    line: {color: color('--ink'), width: 1.5, dash: '4px,3px'},
  }]);
  const effects = marks.map((mark, i) => {
    const own = color(`--${mark.verdict}`), [low, high] = mark.interval ?? [mark.effect, mark.effect];
    return {
      x: [mark.effect], y: [0], yaxis: strip(i), type: 'scatter', mode: 'markers',
      marker: {size: 10, color: mark.control ? color('--ground') : own, line: {width: mark.control ? 2 : 0, color: own}},
      error_x: {array: [high - mark.effect], arrayminus: [mark.effect - low], symmetric: false, width: 0, thickness: 2.5, color: own},
    };
  });
  const scale = {range, anchor: 'free', position: 0, showline: false, tickformat: ',', tickangle: 0, zeroline: true, zerolinecolor: color('--soft'), zerolinewidth: 1};
  return [[...gates, ...effects], layout({xaxis: axis(scale), ...rows})];
}

// On which side of its dot each name stands: the first that no dot, no name before it and no edge is in the way of, or none.
function nameSides(spots, width) {
  const taken = spots.map(([x, y]) => [x - 5, x + 5, y - 5, y + 5]);
  const isFree = ([left, right, top, bottom]) => left >= 0 && right <= width && !taken.some(([l, r, t, b]) => l < right && left < r && t < bottom && top < b);
  return spots.map(([x, y, length]) => {
    const sides = {
      'middle right': [x + 6, x + length, y - 5, y + 5], 'middle left': [x - length, x - 6, y - 5, y + 5],
      'top center': [x - length / 2, x + length / 2, y - 20, y - 6], 'bottom center': [x - length / 2, x + length / 2, y + 6, y + 20],
    };
    const side = Object.keys(sides).find(name => isFree(sides[name]));
    if (side) taken.push(sides[side]);
    return side;
  });
}

function scatterFigure({titles, points, columns}, width, height) {
  // About what the vertical axis leaves, with place for a name at the right end.
  const inner = width - 56, powers = columns.map(([at]) => Math.log10(at));
  const left = powers[0] - .15, right = powers[powers.length - 1] + Math.max(.25, 64 * (powers[powers.length - 1] - left) / (inner - 64));
  const low = Math.min(...points.map(p => p.ends[0])), high = Math.max(...points.map(p => p.ends[1])), margin = .08 * (high - low) || 1;
  const across = at => inner * (Math.log10(at) - left) / (right - left), up = value => height * (high - value) / (high - low + 2 * margin);
  const sides = nameSides(points.map(p => [across(p.at), up(p.y), 7 * p.name.length + 8]), inner);
  const traces = points.map((p, i) => {
    const own = color(`--arm-${p.color}`);
    return {
      x: [p.at], y: [p.y], text: [plain(p.name)], type: 'scatter', mode: sides[i] ? 'markers+text' : 'markers', cliponaxis: false,
      marker: {size: 10, color: own}, textposition: sides[i] ?? 'middle right', textfont: {size: 12, color: color('--ink')},
      error_y: {array: [p.ends[1] - p.y], arrayminus: [p.y - p.ends[0]], symmetric: false, width: 0, thickness: 2, color: own},
      hovertemplate: `${plain(p.name)}: ${plain(p.text)} (${plain(p.interval_text)})<extra></extra>`,
    };
  });
  const places = {tickvals: columns.map(([at]) => at), ticktext: columns.map(([, text]) => text)};
  const title = text => ({title: {text: plain(text), standoff: 8}, automargin: true});
  return [traces, layout({
    hovermode: 'closest', xaxis: axis({type: 'log', range: [left, right], showgrid: false, ...title(titles[0]), ...places}),
    yaxis: axis({range: [low - margin, high + margin], ...title(titles[1])}),
  })];
}
