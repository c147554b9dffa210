"""Weight files of PyTorch: what is read, what is refused, what never runs."""

import io
import os
import pickle
import struct
from typing import Any
from typing import NamedTuple
import zipfile

import numpy as np
import pytest

from common_flax.errors import UserError
from common_flax.metrics import torch_weights


class Name(NamedTuple):
  module: str
  name: str


class Call(NamedTuple):
  function: Name
  args: tuple


class Persistent(NamedTuple):
  pid: tuple


class Built(NamedTuple):
  """An object whose state is set."""

  value: Any
  state: Any


class Raw(NamedTuple):
  """Opcodes as they are."""

  opcodes: bytes


class Filled(NamedTuple):
  """A dictionary that items are put into."""

  value: Any
  items: dict


def opcodes(value):
  """What makes a pickle's machine have the value on its stack."""
  match value:
    case Name(module, name):
      return f'c{module}\n{name}\n'.encode()
    case Call(function, args):
      return opcodes(function) + opcodes(args) + b'R'
    case Persistent(pid):
      return opcodes(pid) + b'Q'
    case Built(built, state):
      return opcodes(built) + opcodes(state) + b'b'
    case Raw(raw):
      return raw
    case Filled(filled, items):
      return opcodes(filled) + opcodes(items)[1:]
    case tuple():
      return b'(' + b''.join(map(opcodes, value)) + b't'
    case list():
      return b'(' + b''.join(map(opcodes, value)) + b'l'
    case dict():
      items = (x for pair in value.items() for x in pair)
      return b'}(' + b''.join(map(opcodes, items)) + b'u'
    case _:
      return pickle.dumps(value, 2)[2:-1]  # without its beginning and its end


def pickled(value):
  return b'\x80\x02' + opcodes(value) + b'.'


def storage(key='0', num=6, kind='FloatStorage', *view):
  return Persistent(('storage', Name('torch', kind), key, 'cpu', num, *view))


def tensor(stored=None, offset=0, shape=(2, 3), strides=(3, 1)):
  args = (stored or storage(), offset, shape, strides, False, {})
  return Call(Name('torch._utils', '_rebuild_tensor_v2'), args)


NUMBERS = np.arange(6, dtype='<f4').tobytes()


def archive(content, parts=None, compression=zipfile.ZIP_STORED, **entries):
  """A file of the newer format."""
  buffer = io.BytesIO()
  parts = {'0': NUMBERS} if parts is None else parts
  entries |= {f'data/{key}': part for key, part in parts.items()}
  with zipfile.ZipFile(buffer, 'w', compression) as file:
    file.writestr('some name/data.pkl', pickled(content))
    for name, data in entries.items():
      file.writestr(f'some name/{name}', data)
  return buffer.getvalue()


def older(content, parts=None, magic=0x1950A86A20F9469CFC6C, little=True):
  """A file of the older format."""
  parts = {'0': NUMBERS} if parts is None else parts
  head = [magic, 1001, {'little_endian': little}, content, list(parts)]
  counted = (struct.pack('<q', len(x) // 4) + x for x in parts.values())
  return b''.join([*map(pickled, head), *counted])


WRITERS = {'archive': archive, 'older': older}


@pytest.fixture(params=WRITERS.values(), ids=WRITERS)
def write(request):
  return request.param


def parse(data):
  return torch_weights.parse(data, 'FILE')


def refusal(data):
  """The message with which a file is refused: one line that names it."""
  with pytest.raises(UserError) as info:
    parse(data)
  message = str(info.value)
  assert message.startswith('FILE: ') and '\n' not in message
  return message


def test_offsets_and_strides_are_respected(write):
  arrays = parse(
    write(
      {
        'whole': tensor(),
        'transposed': tensor(None, 0, (3, 2), (1, 3)),
        'part': tensor(None, 1, (2,), (2,)),
        'scalar': tensor(None, 5, (), ()),
        'empty': tensor(None, 0, (0, 4), (4, 1)),
      }
    )
  )
  whole = np.arange(6, dtype=np.float32).reshape(2, 3)
  expected = {
    'whole': whole,
    'transposed': whole.T,
    'part': whole.ravel()[1:5:2],
    'scalar': whole[1, 2],
    'empty': np.empty((0, 4), np.float32),
  }
  assert list(arrays) == list(expected)
  for name, array in expected.items():
    assert arrays[name].dtype == np.float32
    np.testing.assert_array_equal(arrays[name], array)


def test_state_dicts_are_ordered_dictionaries_with_attributes(write):
  empty = Call(Name('collections', 'OrderedDict'), ())
  parameter = Call(Name('torch._utils', '_rebuild_parameter'), (tensor(), 1, 2))
  content = Filled(Built(empty, {'_metadata': 1}), {'weight': parameter})
  assert list(parse(write(content))) == ['weight']


@pytest.mark.parametrize(
  ('kind', 'dtype'),
  [('LongStorage', '<i8'), ('HalfStorage', '<f2'), ('DoubleStorage', '<f8')],
)
def test_numbers_of_other_kinds_are_read(kind, dtype):
  values = np.arange(6).astype(dtype)
  content = {'x': tensor(storage(kind=kind))}
  array = parse(archive(content, {'0': values.tobytes()}))['x']
  assert array.dtype == values.dtype
  np.testing.assert_array_equal(array.ravel(), values)


def test_a_file_cannot_run_anything(write, tmp_path):
  victim = tmp_path / 'victim'
  for function, args in (
    (Name(os.system.__module__, 'system'), (f'touch {victim}',)),
    (Name('builtins', 'open'), (str(victim), 'w')),
    (Name('builtins', 'eval'), (f'open({str(victim)!r}, "w")',)),
    (Name('torch._utils', '_rebuild_tensor_v2.__globals__'), ()),
  ):
    message = refusal(write({'x': Call(function, args)}))
    assert f"'{function.module}.{function.name}'" in message
    assert not victim.exists()


def test_what_a_file_may_call_cannot_be_changed_by_it(write):
  before = dict(vars(torch_weights._Unpickler))
  for name in ('_rebuild_tensor_v2', '_rebuild_parameter'):
    function = Name('torch._utils', name)
    refusal(write(Built(function, (None, {'__code__': 1}))))
    refusal(write(Built(function, {'attribute': 1})))
  assert dict(vars(torch_weights._Unpickler)) == before
  assert parse(write({'x': tensor()}))['x'].shape == (2, 3)


OUTSIDE = {
  'offset': tensor(None, 1),
  'negative offset': tensor(None, -1),
  'strides': tensor(None, 0, (2, 3), (4, 1)),
  'negative strides': tensor(None, 0, (2, 3), (3, -1)),
  'shape': tensor(None, 0, (3, 3), (3, 1)),
  'expanded': tensor(None, 0, (10**6, 10**6), (0, 0)),
  'overflow': tensor(None, 0, (2**62, 4), (2**62, 1)),
  'negative shape': tensor(None, 0, (-1, 3), (3, 1)),
  'fractions': tensor(None, 0.5),
  'fewer strides': tensor(None, 0, (2, 3), (1,)),
  'count': tensor(storage(num=7)),
  'kind': tensor(storage(kind='DoubleStorage')),
  'negative count': tensor(storage(num=-6)),
  'huge count': tensor(storage(num=2**62), 0, (2**62,), (1,)),
  'unknown key': tensor(storage('1')),
}


@pytest.mark.parametrize('content', OUTSIDE.values(), ids=OUTSIDE)
def test_nothing_outside_of_the_file_is_read(write, content):
  assert 'damaged' in refusal(write({'x': content}))


def test_a_pickle_cannot_ask_for_a_large_memory(write):
  put = b'r' + struct.pack('<I', 2**32 - 1)  # under a number of its own
  assert 'damaged' in refusal(write(Raw(pickled({})[2:-1] + put), {}))
  assert parse(write(Raw(pickled({})[2:-1] + b'q\0'), {})) == {}


def test_a_compressed_archive_is_refused():
  parts = {'0': bytes(10**6)}
  content = {'x': tensor(storage(num=250_000))}
  assert parse(archive(content, parts))
  assert 'compressed' in refusal(archive(content, parts, zipfile.ZIP_DEFLATED))


@pytest.mark.parametrize('share', [0.0, 0.3, 0.6, 0.9])
def test_a_part_of_a_file_is_refused(write, share):
  data = write({'x': tensor()})
  refusal(data[: int(share * len(data))])


def test_damage_anywhere_is_refused_or_harmless(write):
  data = write({'x': tensor(), 'y': tensor(None, 1, (2,), (2,))})
  random = np.random.default_rng(0)
  for place in random.integers(0, len(data), 200):
    damaged = bytearray(data)
    damaged[place] ^= random.integers(1, 256)
    try:
      parse(bytes(damaged))
    except UserError as error:
      assert '\n' not in str(error)


def test_other_contents_are_refused(write):
  assert 'not a dictionary' in refusal(write([tensor()]))
  assert "'epoch' is not a tensor" in refusal(
    write({'x': tensor(), 'epoch': 3})
  )
  view = storage('0', 6, 'FloatStorage', ('1', 0, 3))
  assert 'not known' in refusal(write({'x': tensor(view)}))
  assert 'torch.BFloat16Storage' in refusal(
    write({'x': tensor(storage(kind='BFloat16Storage'))})
  )


def test_other_files_are_refused():
  refusal(b'')
  refusal(b'\x89PNG\r\n\x1a\n')
  refusal(b'PK')
  assert 'magic number' in refusal(older({'x': tensor()}, magic=1))
  assert 'big-endian' in refusal(older({'x': tensor()}, little=False))
  assert 'big-endian' in refusal(archive({'x': tensor()}, byteorder=b'big'))
  assert parse(archive({'x': tensor()}, byteorder=b'little'))


def test_a_file_that_is_not_there_is_named(tmp_path):
  path = tmp_path / 'weights.pth'
  with pytest.raises(UserError, match=r'weights\.pth: cannot be read'):
    torch_weights.read(path)
  path.write_bytes(archive({'x': tensor()}))
  assert list(torch_weights.read(path)) == ['x']
