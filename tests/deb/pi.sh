#!/usr/bin/env bash
# A Pi in a container: Debian with a real systemd and ssh. The package gets there by deploy/provision.sh and by
# deploy/ansible.yml, as fifty Pis get it, and the service goes through what it will go through. As root.
# Usage: tests/deb/pi.sh PACKAGE.deb
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/apt.sh
package=$(realpath "$1")
step() { echo "ok $*"; }
die() { echo "FAILED: $*" >&2; exit 1; }

missing=()
for need in debootstrap:debootstrap systemd-nspawn:systemd-container mosquitto:mosquitto mosquitto_sub:mosquitto-clients \
  ssh:openssh-client ansible-playbook:ansible-core openssl:openssl; do
  PATH=$PATH:/usr/sbin command -v "${need%:*}" >/dev/null || missing+=("${need#*:}")
done
[ ${#missing[@]} = 0 ] || apt_install "${missing[@]}"

work=$(mktemp -d /tmp/auscult-pi-XXXXXX)
root=$work/root
processes=()
finish() {
  status=$?
  [ $status -eq 0 ] || { tail -n 20 "$work"/*.log; pi sudo journalctl -n 30; } >&2 || true
  # nspawn's init ends in order on this signal.
  for process in "${processes[@]}"; do kill -TERM "$process" 2>/dev/null || true; done
  for process in "${processes[@]}"; do wait "$process" 2>/dev/null || true; done
  rm -rf "$work"
}
trap finish EXIT
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
wait_for() { # WHAT COMMAND...
  local what=$1 times=600
  shift
  until "$@" >/dev/null 2>&1; do
    times=$((times - 1))
    [ $times -gt 0 ] || die "never: $what"
    sleep 0.2
  done
}

echo "making a Debian with systemd and ssh"
debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,openssh-server,sudo,python3,python3-apt,ca-certificates \
  bookworm "$root" >"$work/debootstrap.log" 2>&1 || die debootstrap
ssh_port=$(free_port) broker_port=$(free_port)
ssh-keygen -q -t ed25519 -N '' -f "$work/key"
echo "127.0.0.1 localhost $(uname -n)" >"$root/etc/hosts"
chroot "$root" useradd -m -s /bin/bash pi
echo 'pi ALL=(ALL) NOPASSWD: ALL' >"$root/etc/sudoers.d/pi"
install -d -m 700 "$root/home/pi/.ssh"
cp "$work/key.pub" "$root/home/pi/.ssh/authorized_keys"
chroot "$root" chown -R pi: /home/pi/.ssh
printf 'Port %s\nListenAddress 127.0.0.1\n' "$ssh_port" >"$root/etc/ssh/sshd_config.d/test.conf"
systemd-nspawn --quiet --register=no --keep-unit --boot --directory="$root" --machine=pi-7 --kill-signal=SIGRTMIN+3 \
  >"$work/boot.log" 2>&1 </dev/null &
processes+=($!)

# The plant: its own authority, a broker that takes certificates only.
export CERTS=$work/certs
deploy/mosquitto/certificates.sh ca >/dev/null
deploy/mosquitto/certificates.sh broker localhost 127.0.0.1 >/dev/null
for id in pi-7 watcher; do deploy/mosquitto/certificates.sh agent $id >/dev/null; done
cat >"$work/mosquitto.conf" <<END
user root
listener $broker_port 127.0.0.1
cafile $CERTS/ca.pem
certfile $CERTS/broker.pem
keyfile $CERTS/broker.key
require_certificate true
use_identity_as_username true
END
mosquitto -c "$work/mosquitto.conf" >"$work/mosquitto.log" 2>&1 &
processes+=($!)
tls=(-h localhost -p "$broker_port" --cafile "$CERTS/ca.pem" --cert "$CERTS/watcher.pem" --key "$CERTS/watcher.key")
: >"$work/heard"
wait_for "the broker" mosquitto_pub "${tls[@]}" -t nothing -n
mosquitto_sub "${tls[@]}" -v -t 'auscult/#' >>"$work/heard" 2>"$work/sub.log" &
processes+=($!)
cat >"$work/agent.toml" <<END
[mqtt]
url = "mqtts://localhost:$broker_port"
[bundle]
path = "/usr/share/auscult/models/demo"
[[machine]]
id = "fan-a"
source = { synth = "fan", speed = 5 }
END

options=(-i "$work/key" -o "UserKnownHostsFile=$work/known" -o StrictHostKeyChecking=accept-new -o LogLevel=ERROR)
pi() { ssh -p "$ssh_port" "${options[@]}" pi@127.0.0.1 "$@" </dev/null; }
heard() { grep -aq "$1" "$work/heard"; }
# Starts that were reported; one that came twice, or late, counts once.
starts() { [ "$(grep -a '^auscult/pi-7/event .*"started"' "$work/heard" | sed 's/"late":[a-z]*//' | sort -u | wc -l)" -ge "$1" ]; }
heard_times() { [ "$(grep -ac "$1" "$work/heard")" -ge "$2" ]; }
is() { [ "$(pi systemctl is-active auscult)" = "$1" ]; }
main_pid() { pi systemctl show -P MainPID auscult; }
export SSH="ssh -p $ssh_port ${options[*]}" SCP="scp -P $ssh_port ${options[*]}"
provision() { deploy/provision.sh pi@127.0.0.1 pi-7 north,canary "$package" "$work/agent.toml"; }
wait_for "ssh" pi true

said=$(provision)
[[ $said == "pi-7: package"* ]] || die "provision.sh said $said"
wait_for "verdicts that were assessed" heard '^auscult/pi-7/fan-a/verdict .*"verdict":"normal"'
heard '^auscult/pi-7/info .*"canary"' || die "no tags in info"
is active || die "not active"
[ "$(pi systemctl show -P User auscult)" = auscult ] || die "user"
[ "$(pi sudo stat -c %U:%a /etc/auscult/pi-7.key)" = auscult:600 ] || die "the key's rights"
step "provision.sh: installed, started, connected with its certificate, normal"

pid=$(main_pid)
said=$(provision)
[ "$said" = "pi-7: up to date" ] && [ "$(main_pid)" = "$pid" ] || die "provision.sh again: $said"
step "provision.sh again: up to date, nothing restarted"

mosquitto_pub "${tls[@]}" -q 1 -t auscult/pi-7/control -m '{"id":"t1","command":"threshold.set","machine":"fan-a","threshold":0.9}'
wait_for "the reply" heard '"id":"t1".*"status":"ok"'
pi sudo kill -9 "$pid"
wait_for "a second start" starts 2
wait_for "the override" heard_times '^auscult/pi-7/fan-a/settings .*0.9.*"override"' 2
step "killed: started again by systemd, its override kept"

# A process that hangs is ended by the watchdog.
pi "sudo mkdir -p /run/systemd/system/auscult.service.d && printf '[Service]\nWatchdogSec=4\n' | sudo tee /run/systemd/system/auscult.service.d/t.conf >/dev/null; sudo systemctl daemon-reload; sudo systemctl restart auscult"
wait_for "a third start" starts 3
pi sudo kill -STOP "$(main_pid)"
wait_for "a fourth start" starts 4
pi sudo journalctl -u auscult | grep -q "Watchdog timeout" || die "it was not the watchdog"
step "stopped short: started again by the watchdog"

# systemd is back within the will's delay, so that nobody is told of a short break; a longer one is told.
offline='^auscult/pi-7/status .*"offline"'
told=$(grep -ac "$offline" "$work/heard" || true)
pi "printf '[Service]\nRestart=no\n' | sudo tee /run/systemd/system/auscult.service.d/n.conf >/dev/null; sudo systemctl daemon-reload"
pi sudo kill -9 "$(main_pid)"
wait_for "the will" heard_times "$offline" $((told + 1))
pi "sudo rm /run/systemd/system/auscult.service.d/n.conf; sudo systemctl daemon-reload; sudo systemctl start auscult"
wait_for "a fifth start" starts 5
step "killed and not started again: told offline by the broker"

pi sudo systemctl stop auscult
wait_for "stopped" heard '^auscult/pi-7/status .*"stopped"'
pi sudo systemctl start auscult
wait_for "a sixth start" starts 6
pi "echo 'nonsense = 1' | sudo tee -a /etc/auscult/agent.toml >/dev/null; ! sudo systemctl restart auscult"
wait_for "failed for good" is failed
grep -q nonsense <<<"$(pi sudo systemctl status auscult || true)" || die "the status does not name the bad key"
step "a bad configuration: failed with the line that names it, and not tried for ever"

cat >"$work/hosts.ini" <<END
pi-7 ansible_host=127.0.0.1 ansible_port=$ssh_port ansible_user=pi ansible_ssh_private_key_file=$work/key ansible_ssh_common_args="-o UserKnownHostsFile=$work/known" ansible_python_interpreter=/usr/bin/python3 pi_tags=north,pumps
END
playbook() {
  ANSIBLE_NOCOLOR=1 LC_ALL=C.UTF-8 ansible-playbook -i "$work/hosts.ini" deploy/ansible.yml -e "package=$package certs=$CERTS config=$work/agent.toml" \
    >"$work/ansible.log" 2>&1 </dev/null || die ansible
}
playbook
wait_for "its other tags" heard '^auscult/pi-7/info .*"pumps"'
wait_for "active" is active
pid=$(main_pid)
playbook
grep -q 'changed=0 ' "$work/ansible.log" && [ "$(main_pid)" = "$pid" ] || die "Ansible changes things again"
step "Ansible: the same, and again nothing changes"
