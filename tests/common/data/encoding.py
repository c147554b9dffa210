"""Images as the bytes of a file."""

import io

import PIL.Image


def encode(pixels, ending='PNG', **options):
  buffer = io.BytesIO()
  PIL.Image.fromarray(pixels).save(buffer, ending, **options)
  return buffer.getvalue()
