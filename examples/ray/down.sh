#!/usr/bin/env bash
# Ends what up.sh has started, and nothing else.
folder=/tmp/steerworks-ray
ends() {
  local child
  for child in $(pgrep -P "$1"); do ends "$child"; done
  kill -9 "$1" 2> /dev/null
}
for pid in "$folder"/*.pid; do
  [ -e "$pid" ] && ends "$(cat "$pid")"
done
rm -rf "$folder"
