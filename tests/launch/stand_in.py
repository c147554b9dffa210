"""Stand-in for gcloud, kubectl or scontrol, depending on its file name.

It appends its arguments to the file $CALLS, one JSON list per line, and follows
the first rule in the file $PLAN that matches them. A rule has the fields
"match" (a substring or a list of substrings of the call), "status", "output",
"error", "seconds" (run time) and "times" (how often the rule applies).
"""

import fcntl
import json
import os
import sys
import time


def main():
  call = [os.path.basename(sys.argv[0]), *sys.argv[1:]]
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
    fcntl.flock(file, fcntl.LOCK_EX)  # several may run at once
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
