#!/bin/bash
# A private SLURM on this host, on loopback, without systemd:  up.sh /abs/folder [nodes [cpus]]
# Every node is a slurmd in pid, mount and uts namespaces of its own, with its own hostname, /tmp and
# process tree, so that killing it is what a node's death is. Not below /tmp: nodes have their own.
set -euo pipefail
# MEM: what jobs may ask for; nothing makes sure that the host has it
D=${1:?folder} NODES=${2:-2} CPUS=${3:-2} MEM=16384
H=$(uname -n) H=${H%%.*}
# the controller binds to the address of the machine's own name
getent hosts "$H" > /dev/null || echo "127.0.0.1 $H" >> /etc/hosts
mkdir -p "$D"/{munge,log,state,spool,etc}
chmod 755 "$D" "$D/munge"
head -c 1024 /dev/urandom > "$D/munge/munge.key"
chown -R munge: "$D/munge"
chmod 400 "$D/munge/munge.key"
runuser -u munge -- /usr/sbin/munged --key-file="$D/munge/munge.key" --socket="$D/munge/munge.sock" \
  --pid-file="$D/munge/munged.pid" --log-file="$D/munge/munged.log" --seed-file="$D/munge/munged.seed"

# free ports, so that a SLURM that is here already is not disturbed
read -r -a PORTS < <(python3 - "$((NODES + 1))" <<'PY'
import socket, sys
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
print(*(s.getsockname()[1] for s in held))
PY
)
cat > "$D/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$H(127.0.0.1)
SlurmctldPort=${PORTS[0]}
AuthType=auth/munge
AuthInfo=socket=$D/munge/munge.sock,cred_expire=5
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$D/state
SlurmdSpoolDir=$D/spool/%n
SlurmctldPidFile=$D/slurmctld.pid
SlurmdPidFile=$D/slurmd-%n.pid
SlurmctldLogFile=$D/log/slurmctld.log
SlurmdLogFile=$D/log/slurmd-%n.log
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc=$D/log/jobcomp.txt
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=512
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,bf_interval=1,sched_interval=1
PriorityType=priority/basic
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
ReturnToService=2
SlurmdTimeout=10
KillWait=2
CompleteWait=0
SlurmdParameters=config_overrides
CONF
names=
for i in $(seq "$NODES"); do
  names+="n$i "
  echo "NodeName=n$i NodeHostname=n$i NodeAddr=127.0.0.1 Port=${PORTS[$i]} CPUs=$CPUS RealMemory=$MEM State=UNKNOWN"
done >> "$D/slurm.conf"
echo "PartitionName=test Nodes=n[1-$NODES] Default=YES MaxTime=INFINITE State=UP" >> "$D/slurm.conf"
printf '127.0.0.1 localhost %s %s\n::1 localhost\n' "$H" "$names" > "$D/etc/hosts"

cat > "$D/node.sh" <<'NODE'
#!/bin/bash
# node.sh N: start node nN, or revive it
D=$(dirname "$(readlink -f "$0")") i=$1
export SLURM_CONF=$D/slurm.conf
mkdir -p "$D/spool/n$i"
setsid unshare --pid --mount --uts --fork --kill-child=KILL --mount-proc bash -c \
  "hostname n$i; mount --bind '$D/etc/hosts' /etc/hosts; mount -t tmpfs -o size=2g tmpfs /tmp
   exec /usr/sbin/slurmd -D -N n$i" > "$D/log/node-n$i.out" 2>&1 < /dev/null &
echo $! > "$D/node-n$i.pid"
disown
NODE
chmod +x "$D/node.sh"
export SLURM_CONF=$D/slurm.conf
/usr/sbin/slurmctld -c
for i in $(seq "$NODES"); do "$D/node.sh" "$i"; done
for _ in $(seq 150); do
  [ "$(timeout 5 sinfo -h -N -t idle -o %N 2> /dev/null | wc -l)" = "$NODES" ] && exit 0
  sleep 0.1
done
echo "SLURM did not come up, see $D/log" >&2
tail -n 3 "$D"/log/*.log "$D"/log/*.out >&2 || true
exit 1
