#!/usr/bin/env bash
# A head that runs nothing, and two nodes with one place each, on this machine.
set -euo pipefail
folder=/tmp/steerworks-ray
mkdir -p "$folder"
# a dead node is known as one in seconds; the head finds its cluster again when it is started again
export RAY_health_check_initial_delay_ms=1000 RAY_health_check_period_ms=1000 RAY_health_check_timeout_ms=5000
export RAY_health_check_failure_threshold=3 RAY_gcs_storage=rocksdb RAY_gcs_storage_path="$folder/gcs"
start() {
  local name=$1
  shift
  nohup ray start --block --disable-usage-stats --node-ip-address 127.0.0.1 --object-store-memory 100000000 \
    --min-worker-port 0 --max-worker-port 0 "$@" > "$folder/$name.log" 2>&1 &
  echo $! > "$folder/$name.pid"
  for _ in $(seq 300); do
    if grep -q 'Ray runtime started' "$folder/$name.log"; then return; fi
    sleep 0.2
  done
  cat "$folder/$name.log"
  exit 1
}
start head --head --port 6379 --num-cpus 0 --dashboard-host 127.0.0.1 --temp-dir "$folder/tmp" --dashboard-agent-listen-port 52365
# one after the other: two that start at once take each other's names
start one --address 127.0.0.1:6379 --num-cpus 1 --resources '{"place": 1}' --dashboard-agent-listen-port 52366
start other --address 127.0.0.1:6379 --num-cpus 1 --resources '{"place": 1}' --dashboard-agent-listen-port 52367
echo "the cluster is at 127.0.0.1:6379, its dashboard at http://127.0.0.1:8265"
