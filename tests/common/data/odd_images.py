"""Image files of every kind, and how a viewer shows them on white."""

import io
import itertools
import struct
import zlib

import numpy as np
import PIL.Image
import PIL.ImageCms

HEIGHT, WIDTH = 16, 24
TIFF_TYPES = {'H': 3, 'I': 4}

_y, _x = np.mgrid[:HEIGHT, :WIDTH]
COLOUR = np.stack([40 + 8 * _x, 30 + 12 * _y, 230 - 3 * _x - 6 * _y], -1)
COLOUR = COLOUR.astype(np.uint8)  # [H, W, 3]
GREY = COLOUR[..., 0]
ALPHA = np.clip(20 * (_x - 4), 0, 255).astype(np.uint8)  # hides the left side
DEEP = (COLOUR.astype(np.uint16) << 8) + 77  # 16 bits
ADOBE_GAMMA = 563 / 256
ADOBE = (0.3127, 0.329, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)  # chromaticities
# From the RGB of Adobe RGB (1998), to XYZ and from XYZ to that of sRGB, by the
# standards' own numbers.
ADOBE_TO_XYZ = np.array(
  [
    [0.57667, 0.18556, 0.18823],
    [0.29734, 0.62736, 0.07529],
    [0.02703, 0.07069, 0.99134],
  ]
)
XYZ_TO_SRGB = np.array(
  [
    [3.2406, -1.5372, -0.4986],
    [-0.9689, 1.8758, 0.0415],
    [0.0557, -0.2040, 1.0570],
  ]
)
# XYZ of the primaries, adapted to the white of ICC profiles, D50.
_ADOBE_IN_D50 = (
  (0.60974, 0.31111, 0.01947),
  (0.20528, 0.62567, 0.06087),
  (0.14919, 0.06322, 0.74457),
)


def over(colours, alpha, background=255):
  """Lays colours [H, W, 3] or greys [H, W] on a background."""
  if colours.ndim == 2:
    colours = np.stack([colours] * 3, -1)
  share = alpha[..., None] / 255
  return colours * share + np.asarray(background) * (1 - share)


def as_srgb(light):
  """The bytes of light in [0, 1]."""
  light = np.clip(light, 0, 1)
  curve = np.where(
    light < 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055
  )
  return 255 * curve


def from_adobe(colours):
  light = (colours / 255) ** ADOBE_GAMMA
  return as_srgb(light @ ADOBE_TO_XYZ.T @ XYZ_TO_SRGB.T)


def profile(space=b'RGB '):
  """An ICC profile: Adobe RGB (1998), or a linear grey."""

  def fixed(*values):
    return struct.pack(
      f'>{len(values)}i', *(round(65536 * value) for value in values)
    )

  def curve(gamma):
    return b'curv\0\0\0\0' + struct.pack('>IHxx', 1, round(gamma * 256))

  tags = {
    b'desc': b'desc\0\0\0\0' + struct.pack('>I', 2) + b'x\0' + bytes(79),
    b'cprt': b'text\0\0\0\0x\0\0\0',
    b'wtpt': b'XYZ \0\0\0\0' + fixed(0.9642, 1.0, 0.8249),
  }
  if space == b'GRAY':
    tags[b'kTRC'] = curve(1.0)
  else:
    for name, xyz in zip(b'rgb', _ADOBE_IN_D50, strict=True):
      tags[bytes([name]) + b'XYZ'] = b'XYZ \0\0\0\0' + fixed(*xyz)
      tags[bytes([name]) + b'TRC'] = curve(ADOBE_GAMMA)
  table, content, offset = b'', b'', 132 + 12 * len(tags)
  for name, text in tags.items():
    value = text + bytes(-len(text) % 4)
    table += name + struct.pack('>II', offset + len(content), len(value))
    content += value
  header = struct.pack('>8xI', 0x02100000)
  header += b'mntr' + space + b'XYZ ' + struct.pack('>6H', 2026, 1, 1, 0, 0, 0)
  header += b'acsp' + bytes(28) + fixed(0.9642, 1.0, 0.8249) + bytes(48)
  whole = header + struct.pack('>I', len(tags)) + table + content
  return struct.pack('>I', len(whole)) + whole[4:]


def chunk(name, content):
  checksum = zlib.crc32(name + content)
  length = struct.pack('>I', len(content))
  return length + name + content + struct.pack('>I', checksum)


def png(pixels, *chunks):
  """A PNG of uint8 or uint16 [H, W] or [H, W, C], with more chunks."""
  pixels = pixels[..., None] if pixels.ndim == 2 else pixels
  height, width, channels = pixels.shape
  kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
  bits = 8 * pixels.dtype.itemsize
  rows = pixels.astype(pixels.dtype.newbyteorder('>')).reshape(height, -1)
  data = zlib.compress(b''.join(b'\0' + row.tobytes() for row in rows))
  header = struct.pack('>IIBBBBB', width, height, bits, kind, 0, 0, 0)
  parts = [chunk(b'IHDR', header), *chunks, chunk(b'IDAT', data)]
  return b'\x89PNG\r\n\x1a\n' + b''.join([*parts, chunk(b'IEND', b'')])


def tiff(pixels, order='<', **changes):
  """A TIFF of [H, W] or [H, W, C], uncompressed, with other tags."""
  pixels = pixels[..., None] if pixels.ndim == 2 else pixels
  height, width, channels = pixels.shape
  data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
  bits = 8 * pixels.dtype.itemsize
  tags = {
    **{256: ('I', width), 257: ('I', height), 259: ('H', 1)},
    258: ('H', *[bits] * channels),
    262: ('H', 2 if channels > 2 else 1),
    **{273: ('I', 0), 277: ('H', channels), 278: ('I', height)},
    279: ('I', len(data)),
    339: ('H', *[{'u': 1, 'i': 2, 'f': 3}[pixels.dtype.kind]] * channels),
  }
  if channels == 4:
    tags[338] = ('H', 2)
  tags |= {int(name[1:]): value for name, value in changes.items()}
  tags = dict(sorted(tags.items()))
  end = 8 + 2 + 12 * len(tags) + 4
  outside = sum(2 * len(v) for _, *v in tags.values() if len(v) > 2)
  tags[273] = ('I', end + outside)
  entries, extra = b'', b''
  for tag, (kind, *values) in tags.items():
    value = struct.pack(f'{order}{len(values)}{kind}', *values)
    if len(value) > 4:
      extra += value
      value = struct.pack(f'{order}I', end + len(extra) - len(value))
    entries += struct.pack(
      f'{order}HHI', tag, TIFF_TYPES[kind], len(values)
    ) + value.ljust(4, b'\0')
  head = (b'II*\0' if order == '<' else b'MM\0*') + struct.pack(f'{order}I', 8)
  count = struct.pack(f'{order}H', len(tags))
  return head + count + entries + bytes(4) + extra + data


def save(image, kind, **options):
  if isinstance(image, np.ndarray):
    image = PIL.Image.fromarray(image)
  buffer = io.BytesIO()
  image.save(buffer, kind, **options)
  return buffer.getvalue()


def palette(transparency=None):
  """Pixels of a palette, its colours [256, 3], and its image."""
  colours = np.stack([np.arange(256), 255 - np.arange(256), [90] * 256], -1)
  image = PIL.Image.fromarray(GREY).convert('L')
  image = PIL.Image.frombytes('P', image.size, image.tobytes())
  image.putpalette(colours.astype(np.uint8).tobytes())
  if transparency is not None:
    image.info['transparency'] = transparency
  return image, colours[GREY]


def oriented(number):
  """The picture as stored, so that EXIF orientation `number` turns it back."""
  undo = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: np.rot90,
    7: lambda x: np.rot90(x, 2).swapaxes(0, 1),
    8: lambda x: np.rot90(x, -1),
  }
  return np.ascontiguousarray(undo[number](COLOUR))


def exif(number):
  data = PIL.Image.Exif()
  data[0x0112] = number
  return data


def pngs():
  mask, shown = (GREY == GREY[0, 5]), COLOUR.astype(float)
  rgba = np.dstack([COLOUR, ALPHA])
  deep_alpha = ALPHA.astype(np.uint16) * 257

  def gama(gamma):
    return chunk(b'gAMA', struct.pack('>I', round(1e5 * gamma)))

  chrm = struct.pack('>8I', *(round(1e5 * x) for x in ADOBE))
  key = struct.pack('>H', GREY[0, 5])
  yield 'colour', save(COLOUR, 'PNG'), shown
  yield 'grey', save(GREY, 'PNG'), GREY
  yield 'colour and alpha', save(rgba, 'PNG'), over(COLOUR, ALPHA)
  yield 'opaque alpha', png(np.dstack([COLOUR, 0 * ALPHA + 255])), shown
  yield 'grey and alpha', png(np.dstack([GREY, ALPHA])), over(GREY, ALPHA)
  yield 'grey key', png(GREY, chunk(b'tRNS', key)), over(GREY, 255 * ~mask)
  yield 'white level', png(GREY // 16, chunk(b'sBIT', b'\4')), GREY // 16
  colour = COLOUR[3, 7]
  hidden = (colour == COLOUR).all(-1)
  key = chunk(b'tRNS', struct.pack('>3H', *colour))
  yield 'colour key', png(COLOUR, key), over(COLOUR, 255 * ~hidden)
  two = PIL.Image.fromarray(GREY).point(lambda x: 255 * (x > 120), '1')
  yield 'two', save(two, 'PNG'), 255 * (GREY > 120)
  yield (
    'two key',
    save(two, 'PNG', transparency=0),
    255 + 0 * GREY,
  )
  image, colours = palette()
  yield 'palette', save(image, 'PNG'), colours
  image, _ = palette(bytes(range(256)))
  yield 'palette alphas', save(image, 'PNG'), over(colours, GREY)
  image, _ = palette(int(GREY[0, 5]))
  yield 'palette key', save(image, 'PNG'), over(colours, 255 * ~mask)
  yield 'deep grey', png(DEEP[..., 0]), GREY
  key = chunk(b'tRNS', struct.pack('>H', DEEP[0, 5, 0]))
  yield 'deep grey key', png(DEEP[..., 0], key), over(GREY, 255 * ~mask)
  yield 'deep colour', png(DEEP), shown
  yield 'deep alpha', png(np.dstack([DEEP, deep_alpha])), over(COLOUR, ALPHA)
  deep = np.dstack([DEEP[..., 0], deep_alpha])
  yield 'deep grey alpha', png(deep), over(GREY, ALPHA)
  key = chunk(b'tRNS', struct.pack('>3H', *DEEP[3, 7]))
  yield 'deep key', png(DEEP, key), over(COLOUR, 255 * ~hidden)
  near = chunk(b'tRNS', struct.pack('>3H', *(DEEP[3, 7] + 1)))
  yield 'deep key unused', png(DEEP, near), shown
  yield 'linear', png(COLOUR, gama(1.0)), as_srgb(COLOUR / 255)
  yield 'linear grey', png(GREY, gama(1.0)), as_srgb(GREY / 255)
  yield (
    'linear alpha',
    png(rgba, gama(1.0)),
    over(as_srgb(COLOUR / 255), ALPHA),
  )
  yield 'usual gamma', png(COLOUR, gama(0.45455)), shown
  yield 'sRGB chunk', png(COLOUR, gama(1.0), chunk(b'sRGB', b'\0')), shown
  wide = (gama(1 / ADOBE_GAMMA), chunk(b'cHRM', chrm))
  yield 'primaries', png(COLOUR, *wide), from_adobe(COLOUR)
  yield (
    'profile',
    save(COLOUR, 'PNG', icc_profile=profile()),
    from_adobe(COLOUR),
  )
  grey = save(GREY, 'PNG', icc_profile=profile(b'GRAY'))
  yield 'grey profile', grey, as_srgb(GREY / 255)
  srgb = PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile('sRGB'))
  yield 'sRGB', save(COLOUR, 'PNG', icc_profile=srgb.tobytes()), shown
  yield 'broken profile', save(COLOUR, 'PNG', icc_profile=b'no profile'), shown
  turned = PIL.Image.fromarray(255 - COLOUR)
  frames = {'save_all': True, 'append_images': [turned]}
  yield 'animation', save(COLOUR, 'PNG', **frames), shown
  for number in range(2, 9):
    data = save(oriented(number), 'PNG', exif=exif(number))
    yield f'turned {number}', data, shown


def jpegs():
  best = {'quality': 100, 'subsampling': 0}
  plain = save(COLOUR, 'JPEG', **best)
  shown = np.asarray(PIL.Image.open(io.BytesIO(plain))).astype(float)
  yield 'colour', plain, shown
  yield 'grey', save(GREY, 'JPEG', quality=100), GREY
  inks = np.dstack([255 - COLOUR, 0 * GREY + 40])
  image = PIL.Image.frombytes('CMYK', (WIDTH, HEIGHT), inks.tobytes())
  yield 'inks', save(image, 'JPEG', **best), COLOUR * (215 / 255)
  data = save(COLOUR, 'JPEG', icc_profile=profile(), **best)
  yield 'profile', data, from_adobe(shown)
  yield 'progressive', save(COLOUR, 'JPEG', progressive=True, **best), shown
  other = [PIL.Image.fromarray(255 - COLOUR)]
  data = save(COLOUR, 'MPO', save_all=True, append_images=other, **best)
  yield 'two photographs', data, shown
  for number in (3, 6, 8):
    data = save(oriented(number), 'JPEG', exif=exif(number), **best)
    yield f'turned {number}', data, shown


def webps():
  shown, rgba = COLOUR.astype(float), np.dstack([COLOUR, ALPHA])
  exact = {'lossless': True, 'exact': True}
  yield 'colour', save(COLOUR, 'WEBP', **exact), shown
  yield 'alpha', save(rgba, 'WEBP', **exact), over(COLOUR, ALPHA)
  other = [PIL.Image.fromarray(255 - COLOUR)]
  data = save(COLOUR, 'WEBP', save_all=True, append_images=other, **exact)
  yield 'animation', data, shown
  data = save(COLOUR, 'WEBP', icc_profile=profile(), **exact)
  yield 'profile', data, from_adobe(COLOUR)
  yield 'turned 6', save(oriented(6), 'WEBP', exif=exif(6), **exact), shown


def gifs():
  image, colours = palette()
  mask = GREY == GREY[0, 5]
  yield 'palette', save(image, 'GIF'), colours
  yield 'grey', save(GREY, 'GIF'), GREY
  data = save(image, 'GIF', transparency=int(GREY[0, 5]))
  yield 'key', data, over(colours, 255 * ~mask)
  other = [image.transpose(PIL.Image.Transpose.ROTATE_180)]
  yield (
    'animation',
    save(image, 'GIF', save_all=True, append_images=other),
    colours,
  )


def bitmaps():
  shown = COLOUR.astype(float)
  yield 'colour', save(COLOUR, 'BMP'), shown
  yield 'grey', save(GREY, 'BMP'), GREY
  image, colours = palette()
  yield 'palette', save(image, 'BMP'), colours
  two = PIL.Image.fromarray(GREY).point(lambda x: 255 * (x > 120), '1')
  yield 'two', save(two, 'BMP'), 255 * (GREY > 120)
  bgra = np.dstack([COLOUR[..., ::-1], ALPHA])[::-1]
  masks = struct.pack('<4I', 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
  info = struct.pack('<IiiHHIIiiII', 108, WIDTH, HEIGHT, 1, 32, 3, *[0] * 5)
  info += masks + b'BGRs' + bytes(48)
  offset = 14 + len(info)
  head = b'BM' + struct.pack('<IHHI', offset + bgra.size, 0, 0, offset)
  yield 'alpha', head + info + bgra.tobytes(), over(COLOUR, ALPHA)


def tiffs():
  shown, rgba = COLOUR.astype(float), np.dstack([COLOUR, ALPHA])
  image, colours = palette()
  yield 'colour', save(COLOUR, 'TIFF'), shown
  yield 'grey', save(GREY, 'TIFF', compression='tiff_lzw'), GREY
  two = PIL.Image.fromarray(GREY).point(lambda x: 255 * (x > 120), '1')
  yield 'fax', save(two, 'TIFF', compression='group4'), 255 * (GREY > 120)
  yield 'palette', save(image, 'TIFF'), colours
  yield 'alpha', save(rgba, 'TIFF'), over(COLOUR, ALPHA)
  inks = np.dstack([255 - COLOUR, 0 * GREY + 40])
  image = PIL.Image.frombytes('CMYK', (WIDTH, HEIGHT), inks.tobytes())
  yield 'inks', save(image, 'TIFF'), shown * (215 / 255)
  srgb, lab = map(PIL.ImageCms.createProfile, ('sRGB', 'LAB'))
  convert = PIL.ImageCms.profileToProfile
  image = convert(PIL.Image.fromarray(COLOUR), srgb, lab, outputMode='LAB')
  # 8 bits of LAB resolve fewer colours.
  yield 'LAB', save(image, 'TIFF'), convert(image, lab, srgb, outputMode='RGB')
  yield 'deep grey', tiff(DEEP[..., 0]), GREY
  yield 'deep grey, big', tiff(DEEP[..., 0], '>'), GREY
  yield 'deep colour', tiff(DEEP), shown
  yield 'deep colour, big', tiff(DEEP, '>'), shown
  deep = np.dstack([DEEP, ALPHA.astype(np.uint16) * 257])
  yield 'deep alpha', tiff(deep), over(COLOUR, ALPHA)
  inverted = tiff(65535 - DEEP[..., 0], t262=('H', 0))
  yield 'white is zero', inverted, GREY
  yield 'white is zero 8', tiff(255 - GREY, t262=('H', 0)), GREY
  whole = DEEP[..., 0].astype(np.uint32) << 16
  yield '32 bits', tiff(whole), GREY
  yield '32 bits signed', tiff((whole >> 1).astype(np.int32)), GREY
  yield 'floats', tiff((GREY / 255).astype(np.float32)), GREY
  other = [PIL.Image.fromarray(255 - COLOUR)]
  yield 'pages', save(COLOUR, 'TIFF', save_all=True, append_images=other), shown
  data = save(COLOUR, 'TIFF', icc_profile=profile())
  yield 'profile', data, from_adobe(COLOUR)
  for number in (3, 6):
    yield f'turned {number}', tiff(oriented(number), t274=('H', number)), shown
  yield 'deep turned', tiff(
    oriented(6).astype(np.uint16) * 257, t274=('H', 6)
  ), shown  # fmt: skip


def pictures():
  """{file name: (content, expected [H, W, 3] float)}."""
  kinds = {
    'png': pngs(),
    'jpg': jpegs(),
    'webp': webps(),
    'gif': gifs(),
    'bmp': bitmaps(),
    'tiff': tiffs(),
  }
  found = {}
  for ending, files in kinds.items():
    for name, data, shown in files:
      grey_or_colour = np.asarray(shown, float).reshape(HEIGHT, WIDTH, -1)
      expected = np.broadcast_to(grey_or_colour, COLOUR.shape)
      found[f'{name}.{ending}'] = data, expected
  return found


def left_out():
  """{file name: (content, reason)} of files that are no images."""
  good = save(COLOUR, 'PNG')
  return {
    'notes.txt': (b'text', 'without the ending of an image'),
    'README': (b'text', 'without the ending of an image'),
    'photo.heic': (b'?', 'without the ending of an image'),
    '.DS_Store': (b'?', 'hidden'),
    '._photo.png': (good, 'hidden'),
    'empty.png': (b'', 'empty'),
    'text.jpg': (b'<html>', 'not an image'),
    'cut.png': (good[: len(good) // 2], 'truncated'),
    'cut.bmp': (save(COLOUR, 'BMP')[:500], 'truncated'),
    'header.gif': (b'GIF89a', 'not an image'),
  }


def write(folder):
  """Writes all of them."""
  everything = itertools.chain(pictures().items(), left_out().items())
  for name, (data, _) in everything:
    (folder / name).write_bytes(data)
