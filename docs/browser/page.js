'use strict';

// Runs the exported generator with ONNX Runtime Web. Everything that is fetched
// lies beside this file.

const SIDE = 32; // pixels of an image
const NUM_CLASSES = 10;
const REACH = 4; // of the sliders, in standard deviations of a latent
const WALK_MS = 2500; // from one draw to the next

const element = (id) => document.getElementById(id);

/** Fetches a gzip file; a server may have unpacked it already. */
async function unpacked(url) {
  const response = await fetch(url);
  if (!response.ok) {
    throw new Error(`${url}: ${response.status} ${response.statusText}`);
  }
  const packed = new Uint8Array(await response.arrayBuffer());
  if (packed[0] !== 0x1f || packed[1] !== 0x8b) {
    return packed;
  }
  const stream = new Blob([packed])
    .stream()
    .pipeThrough(new DecompressionStream('gzip'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Loads the network; returns latents [N * Z], labels [N] -> images. */
async function loadNetwork() {
  const [runtime, model] = await Promise.all([
    unpacked('ort-wasm-simd.wasm.gz'),
    unpacked('generator.onnx.gz'),
  ]);
  const blob = new Blob([runtime], { type: 'application/wasm' });
  ort.env.wasm.numThreads = 1; // more need headers that static hosts lack
  ort.env.wasm.wasmPaths = { 'ort-wasm-simd.wasm': URL.createObjectURL(blob) };
  const session = await ort.InferenceSession.create(model);
  let last = Promise.resolve(); // a session runs one batch at a time
  return (latents, labels) => {
    const count = labels.length;
    const inputs = {
      latents: new ort.Tensor('float32', Float32Array.from(latents), [
        count,
        latents.length / count,
      ]),
      labels: new ort.Tensor('int32', Int32Array.from(labels), [count]),
    };
    last = last.then(() => session.run(inputs));
    return last.then((outputs) => outputs.images.data);
  };
}

/** Draws from N(0, 1) (Box and Muller 1958). */
function normal() {
  const radius = Math.sqrt(-2 * Math.log(1 - Math.random()));
  return radius * Math.cos(2 * Math.PI * Math.random());
}

const drawn = (size) => Float32Array.from({ length: size }, normal);

/** The latents at a share of the arc from a to b. */
function onArc(a, b, share) {
  const dot = (x, y) => x.reduce((sum, value, i) => sum + value * y[i], 0);
  const cosine = dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
  const angle = Math.acos(Math.min(1, Math.max(-1, cosine)));
  if (angle < 1e-4) {
    return a;
  }
  const from = Math.sin((1 - share) * angle) / Math.sin(angle);
  const to = Math.sin(share * angle) / Math.sin(angle);
  return a.map((value, i) => from * value + to * b[i]);
}

/** Puts an image with values from -1 to 1 on a canvas. */
function show(canvas, image) {
  const pixels = new ImageData(SIDE, SIDE);
  image.forEach((value, i) => {
    const byte = Math.round((value + 1) * 127.5); // clamped by the array
    pixels.data.set([byte, byte, byte, 255], 4 * i);
  });
  canvas.getContext('2d').putImageData(pixels, 0, 0);
}

function addControls(count) {
  for (let digit = 0; digit < NUM_CLASSES; digit++) {
    const label = document.createElement('label');
    const radio = document.createElement('input');
    Object.assign(radio, {
      type: 'radio',
      name: 'digit',
      value: digit,
      checked: digit === 3,
    });
    label.append(radio, String(digit));
    element('labels').append(label);
    const canvas = document.createElement('canvas');
    canvas.width = canvas.height = SIDE;
    element('row').append(canvas);
  }
  for (let i = 0; i < count; i++) {
    const label = document.createElement('label');
    const slider = document.createElement('input');
    Object.assign(slider, {
      type: 'range',
      min: -REACH,
      max: REACH,
      step: 0.1,
      value: 0,
    });
    slider.setAttribute('aria-label', `Principal direction ${i + 1}`);
    const output = document.createElement('output');
    output.textContent = '0.0';
    label.append(String(i + 1), slider, output);
    element('directions').append(label);
  }
}

async function main() {
  const { directions } = await (await fetch('directions.json')).json();
  addControls(directions.length);
  const sliders = [...element('directions').querySelectorAll('input')];
  const generate = await loadNetwork();
  window.generate = generate; // for the console, and for tests
  const size = directions[0].length;
  let base = drawn(size);
  let isWalking = false;
  let isDrawing = false;
  let isStale = false;

  function latents() {
    const values = Float32Array.from(base);
    sliders.forEach((slider, i) => {
      directions[i].forEach((share, j) => {
        values[j] += slider.valueAsNumber * share;
      });
    });
    return values;
  }

  /** Draws the present latents; of several calls while it draws, the last. */
  async function draw() {
    isStale = true;
    if (isDrawing) {
      return;
    }
    isDrawing = true;
    try {
      while (isStale) {
        isStale = false;
        const digits = [...Array(NUM_CLASSES).keys()];
        const values = latents();
        const images = await generate(
          digits.flatMap(() => [...values]),
          digits,
        );
        const image = (i) => images.subarray(i * SIDE ** 2, (i + 1) * SIDE ** 2);
        const chosen = document.querySelector('input[name=digit]:checked');
        const digit = Number(chosen.value);
        show(element('picture'), image(digit));
        element('picture').setAttribute('aria-label', `A generated ${digit}`);
        [...element('row').children].forEach((canvas, i) =>
          show(canvas, image(i)),
        );
      }
    } finally {
      isDrawing = false;
    }
  }

  async function walk() {
    let from = base;
    let to = drawn(size);
    let start = performance.now();
    while (isWalking) {
      const now = await new Promise(requestAnimationFrame);
      let share = Math.max(0, now - start) / WALK_MS;
      if (share >= 1) {
        [from, to, start, share] = [to, drawn(size), now, 0];
      }
      base = onArc(from, to, share);
      await draw();
    }
  }

  function setWalking(value) {
    isWalking = value;
    element('walk').setAttribute('aria-pressed', value);
    element('walk').textContent = value ? 'Stop' : 'Walk';
  }

  element('labels').addEventListener('input', draw);
  element('directions').addEventListener('input', (event) => {
    const { nextElementSibling, valueAsNumber } = event.target;
    nextElementSibling.textContent = valueAsNumber.toFixed(1);
    draw();
  });
  element('another').addEventListener('click', () => {
    setWalking(false);
    base = drawn(size);
    draw();
  });
  element('walk').addEventListener('click', () => {
    setWalking(!isWalking);
    if (isWalking) {
      walk();
    }
  });
  element('reset').addEventListener('click', () => {
    for (const slider of sliders) {
      slider.value = 0;
      slider.nextElementSibling.textContent = '0.0';
    }
    draw();
  });

  await draw();
  document.querySelectorAll('button, fieldset').forEach((each) => {
    each.disabled = false;
  });
  element('status').textContent = 'Ready.';
}

main().catch((error) => {
  const hint =
    location.protocol === 'file:'
      ? 'serve the folder: python -m http.server --directory docs/browser'
      : 'use a browser of 2023 or later';
  element('status').textContent = `The network cannot run: ${error.message}; ${hint}.`;
});
