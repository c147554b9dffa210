'use strict';
(() => {
  const data = JSON.parse(document.getElementById('data').textContent);
  const dark = matchMedia('(prefers-color-scheme: dark)');
  const dashes = [[], [8, 4], [2, 3], [10, 3, 2, 3]];
  const height = 200;
  const plots = new Map();  // element -> uPlot
  let shown = null;  // [first, last] step of all charts; null for all steps
  let isSetting = false;

  // Samples: the slider shows one of the pictures.
  for (const slider of document.querySelectorAll('.frames input')) {
    const frames = slider.closest('.frames').querySelectorAll('.frame');
    const steps = slider.dataset.steps.split(' ');
    const show = () => {
      frames.forEach((frame, i) =>
        frame.classList.toggle('on', i === Number(slider.value)));
      const step = Number(steps[slider.value]).toLocaleString('en');
      slider.setAttribute('aria-valuetext', `step ${step}`);
    };
    slider.addEventListener('input', show);
    show();  // browsers restore a slider when a page is loaded again
  }

  const colour = name =>
    getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function number(value) {
    if (value === null || value === undefined) return '–';
    const size = Math.abs(value);
    if (size !== 0 && (size < 1e-3 || size >= 1e6)) {
      return value.toExponential(2);
    }
    return String(Number(value.toPrecision(4)));
  }

  const steps = plot => plot.data[0];

  function everyStep(plot) {
    const all = steps(plot);
    const first = all[0], last = all[all.length - 1];
    return first === last ? [first - 1, last + 1] : [first, last];
  }

  function options(chart, width) {
    const grid = {stroke: colour('--line'), width: 1};
    const axis = {
      stroke: colour('--soft'), grid, ticks: grid,
      font: '12px system-ui, sans-serif',
    };
    return {
      width, height,
      scales: {
        x: {time: false, range: plot => shown || everyStep(plot)},
      },
      cursor: {drag: {x: true, y: false, setScale: false}, points: {size: 6}},
      axes: [
        {...axis, size: 34},
        {...axis, size: 58, values: (plot, ticks) => ticks.map(number)},
      ],
      series: [
        {label: 'step', value: (plot, x) =>
          x === null || x === undefined ? '–' : x.toLocaleString('en')},
        ...chart.curves.map(curve => ({
          label: curve.label, width: 1.6, spanGaps: true,
          stroke: colour(`--c${curve.colour % 8}`),
          dash: dashes[curve.colour % dashes.length],
          points: {show: chart.steps.length < 3},
          value: (plot, y) => number(y),
        })),
      ],
      hooks: {setSelect: [plot => {
        if (isSetting || plot.select.width < 4) return;
        const left = plot.posToVal(plot.select.left, 'x');
        const right =
          plot.posToVal(plot.select.left + plot.select.width, 'x');
        clear(plot);
        zoom([left, right]);
      }]},
    };
  }

  function clear(plot) {
    isSetting = true;
    plot.setSelect({left: 0, top: 0, width: 0, height: 0}, false);
    isSetting = false;
  }

  // A finger that moves sideways selects, as the mouse does.
  function addTouch(plot) {
    let start = null;
    const at = event =>
      event.touches[0].clientX - plot.over.getBoundingClientRect().left;
    plot.over.addEventListener('touchstart', event => {
      start = event.touches.length === 1 ? at(event) : null;
    }, {passive: true});
    plot.over.addEventListener('touchmove', event => {
      if (start === null) return;
      const x = Math.min(Math.max(at(event), 0), plot.over.clientWidth);
      isSetting = true;
      plot.setCursor({left: x, top: plot.over.clientHeight / 2});
      plot.setSelect({
        left: Math.min(start, x), width: Math.abs(x - start),
        top: 0, height: plot.over.clientHeight,
      }, false);
      isSetting = false;
    }, {passive: true});
    plot.over.addEventListener('touchend', () => {
      const {left, width} = plot.select;
      start = null;
      clear(plot);
      if (width >= 12) {
        zoom([plot.posToVal(left, 'x'), plot.posToVal(left + width, 'x')]);
      }
    });
  }

  function draw(element) {
    const chart = data[element.dataset.chart];
    plots.get(element)?.destroy();
    element.replaceChildren();
    if (!chart.steps.length) return;
    const values = [chart.steps, ...chart.curves.map(curve => curve.values)];
    const plot =
      new uPlot(options(chart, element.clientWidth), values, element);
    plot.over.addEventListener('dblclick', () => zoom(null));
    addTouch(plot);
    plots.set(element, plot);
  }

  function drawAll() {
    for (const element of document.querySelectorAll('.plot')) {
      // Charts that are folded away may have no width yet.
      if (!element.closest('details:not([open])')) draw(element);
    }
  }

  // All charts show the same steps.
  const first = document.querySelector('.zoom .first');
  const last = document.querySelector('.zoom .last');

  function zoom(range) {
    shown = range;
    for (const plot of plots.values()) {
      const [min, max] = range || everyStep(plot);
      plot.setScale('x', {min, max});
    }
    tell();
  }

  function tell() {
    if (!first) return;
    const every = data.flatMap(chart => chart.steps);
    if (!every.length) return;
    const ends = every.reduce(
      ([low, high], x) => [Math.min(low, x), Math.max(high, x)],
      [Infinity, -Infinity]);
    const [low, high] = shown || ends;
    first.value = Math.round(low);
    last.value = Math.round(high);
  }

  if (first) {
    const choose = () => {
      const range = [Number(first.value), Number(last.value)];
      zoom(range[0] < range[1] ? range : null);
    };
    first.addEventListener('change', choose);
    last.addEventListener('change', choose);
    document.querySelector('.zoom .all')
      .addEventListener('click', () => zoom(null));
  }

  for (const folded of document.querySelectorAll('details')) {
    folded.addEventListener('toggle', () => {
      if (folded.open) {
        for (const element of folded.querySelectorAll('.plot')) draw(element);
      }
    });
  }

  let width = innerWidth;
  addEventListener('resize', () => {
    if (innerWidth !== width) {  // a phone's address bar changes the height
      width = innerWidth;
      drawAll();
    }
  });
  dark.addEventListener('change', drawAll);

  // On paper the charts have the light colours of the style sheet.
  const paper = matchMedia('print');
  paper.addEventListener('change', drawAll);

  // Nothing that has words is folded away on paper.
  let unfolded = [];
  addEventListener('beforeprint', () => {
    const folded = [...document.querySelectorAll('details:not([open])')];
    unfolded = folded.filter(each => !each.querySelector('.plot'));
    for (const each of unfolded) each.open = true;
  });
  addEventListener('afterprint', () => {
    for (const each of unfolded) each.open = false;
    drawAll();
  });

  drawAll();
  tell();
})();
