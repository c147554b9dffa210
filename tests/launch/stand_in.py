#!/usr/bin/env python3
"""Stands in for gcloud, kubectl, scontrol and others, by the name it is called.

It writes its arguments to the file $CALLS, a JSON list a line, and does what
the first rule of the file $PLAN says that is for them: {"match": words in
order, or a list of such, "status", "output", "error", "seconds": how long it
takes, "times": how often the rule holds}.
"""

import fcntl
import json
import os
import pathlib
import sys
import time


def main():
  call = [pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]
  with open(os.environ['CALLS'], 'a') as file:
    file.write(json.dumps(call) + '\n')
  rule = next_rule(' '.join(call))
  if 'output' in rule:
    print(rule['output'])
  if 'error' in rule:
    print(rule['error'], file=sys.stderr)
  time.sleep(rule.get('seconds', 0))
  return rule.get('status', 0)


def next_rule(call):
  with open(os.environ['PLAN'], 'r+') as file:
    fcntl.flock(file, fcntl.LOCK_EX)  # several are called at a time
    rules = json.load(file)
    for rule in rules:
      times = rule.get('times', 1)
      match = rule['match']
      words = [match] if isinstance(match, str) else match
      if times and all(word in call for word in words):
        rule['times'] = times - 1
        file.seek(0)
        file.truncate()
        json.dump(rules, file)
        return rule
  return {}


if __name__ == '__main__':
  sys.exit(main())
