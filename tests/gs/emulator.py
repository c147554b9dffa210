"""An object store on this machine that answers as Google Cloud Storage does.

It is gcp-storage-emulator, taught what gcsfs and TensorStore ask for besides:
generations of objects, writes and deletes that depend on them, and moves.
Run with a port and the name of a bucket; it serves until it is stopped.
"""

from collections.abc import Callable
import functools
from http import HTTPStatus
import http.server
import sys

from gcp_storage_emulator import server
from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import objects

Handler = Callable[..., None]


def _generation(request, storage) -> str:
  """That of the object which a request is about; '0' where there is none."""
  names = request.params | {k: v[0] for k, v in request.query.items()}
  name = names.get('object_id') or names.get('name')
  try:
    return storage.get_file_obj(names['bucket_name'], name)['generation']
  except NotFound:
    return '0'


def _conditional(handler: Handler) -> Handler:
  """The handler, which refuses what depends on another generation."""

  @functools.wraps(handler)
  def handle(request, response, storage):
    generation = _generation(request, storage)
    if request.query.get('ifGenerationNotMatch', [None])[0] == generation:
      response.status = HTTPStatus.NOT_MODIFIED
    elif generation != request.query.get('ifGenerationMatch', [generation])[0]:
      response.status = HTTPStatus.PRECONDITION_FAILED
    else:
      handler(request, response, storage)

  return handle


def _with_generation(download: Handler) -> Handler:
  @functools.wraps(download)
  def handle(request, response, storage):
    download(request, response, storage)
    response['x-goog-generation'] = _generation(request, storage)
    response['x-goog-metageneration'] = '1'

  return handle


def _move(request, response, storage) -> None:
  params = request.params
  params['dest_bucket_name'] = params['bucket_name']
  params['dest_object_id'] = params['target']
  objects.copy(request, response, storage)
  objects.delete(request, response, storage)


def _teach() -> None:
  objects.download = _with_generation(objects.download)
  handlers = [
    (pattern, {method: _conditional(h) for method, h in methods.items()})
    for pattern, methods in server.HANDLERS
  ]
  move = r'/storage/v1/b/(?P<bucket_name>[-.\w]+)/o/(?P<object_id>.*)/moveTo/o/'
  server.HANDLERS = ((f'{move}(?P<target>.*)', {server.POST: _move}), *handlers)


def main(port: int, bucket: str) -> None:
  _teach()
  http.server.HTTPServer.request_queue_size = 1024  # gcsfs asks much at once
  server.create_server('127.0.0.1', port, True, bucket).run()


if __name__ == '__main__':
  main(int(sys.argv[1]), sys.argv[2])
