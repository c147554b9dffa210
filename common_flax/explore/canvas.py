"""A place to draw on, with a finger, a pen or a mouse."""

from collections.abc import Awaitable
from collections.abc import Callable

from nicegui import events
from nicegui import ui
import numpy as np

from common_flax.data.rendering import Rendering
from common_flax.explore import uploads
from common_flax.explore.widgets import attempt

_SIDE = 192  # pixels
_SCRIPT = """
(() => {
  const canvas = document.getElementById('explore-canvas');
  if (!canvas || canvas.ready) return;
  canvas.ready = true;
  const pen = canvas.getContext('2d');
  const clear = () => {
    pen.fillStyle = 'black'; pen.fillRect(0, 0, canvas.width, canvas.height);
  };
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) * canvas.width / box.width,
            (event.clientY - box.top) * canvas.height / box.height];
  };
  let last = null;
  clear();
  Object.assign(pen, {strokeStyle: 'white', lineCap: 'round', lineJoin: 'round',
                      lineWidth: canvas.width / 11});
  canvas.addEventListener('pointerdown', (event) => {
    last = place(event); canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener('pointermove', (event) => {
    if (!last) return;
    const next = place(event);
    pen.beginPath(); pen.moveTo(...last); pen.lineTo(...next); pen.stroke();
    last = next;
  });
  canvas.addEventListener('pointerup', () => {
    last = null; emitEvent('explore-drawn', canvas.toDataURL('image/png'));
  });
  canvas.addEventListener('pointercancel', () => { last = null; });
  window.exploreClear = clear;
})();
"""


def canvas(
  shape: tuple[int, int, int],
  rendering: Rendering,
  receive: Callable[[np.ndarray], Awaitable[None]],
) -> None:
  """Builds it: white strokes on black.

  Args:
    shape: [H, W, C] of the run's images.
    rendering: how a drawing becomes one of them.
    receive: gets uint8 [H, W, C] after each stroke.
  """
  height, width, _ = shape
  element = ui.element('canvas').style(
    'touch-action: none; cursor: crosshair; border: 1px solid #bbb'
  )
  element.props(
    f'id=explore-canvas width={_SIDE} height={round(_SIDE * height / width)} '
    'aria-label="Draw here"'
  )

  async def drawn(event: events.GenericEventArguments) -> None:
    image = await attempt(uploads.decode_drawing, event.args, shape, rendering)
    if image is not None:
      await receive(image)

  ui.on('explore-drawn', drawn)
  ui.run_javascript(_SCRIPT)
  ui.button(
    'Clear', on_click=lambda: ui.run_javascript('exploreClear()')
  ).props('flat')
