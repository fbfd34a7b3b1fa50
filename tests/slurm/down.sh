#!/bin/bash
# down.sh /abs/folder: ends what up.sh started there, by the pids it wrote, and nothing else
D=${1:?folder}
export SLURM_CONF=$D/slurm.conf
# a zombie is gone
alive() { [ -r "/proc/$1/status" ] && ! grep -q '^State:[[:space:]]*Z' "/proc/$1/status"; }
timeout 10 scancel --state=PENDING,RUNNING,SUSPENDED -u "$(id -un)" 2> /dev/null
for _ in $(seq 10); do
  [ -z "$(timeout 5 squeue -h 2> /dev/null)" ] && break
  sleep 0.2
done
pids=()
# of a node, the parent of its namespaces: inside them slurmd is pid 1, which its own file says
for file in "$D"/node-n*.pid "$D/slurmctld.pid" "$D/munge/munged.pid"; do
  [ -s "$file" ] && pid=$(cat "$file") && [ "$pid" -gt 1 ] && pids+=("$pid")
done
for pid in "${pids[@]}"; do
  if [ "$(cat "/proc/$pid/comm" 2> /dev/null)" = unshare ]; then kill -9 "$pid"; else kill "$pid"; fi
done 2> /dev/null
for _ in $(seq 50); do
  left=0
  for pid in "${pids[@]}"; do alive "$pid" && left=1; done
  [ $left = 0 ] && break
  sleep 0.1
done
for pid in "${pids[@]}"; do alive "$pid" && kill -9 "$pid"; done 2> /dev/null
exit 0
